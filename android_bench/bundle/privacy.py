"""What a bundle must not tell: serial numbers, names, addresses. All else stays as the phone said it.

Of ``getprop`` only listed keys are kept. A list of what to leave out would have to know the keys of every
maker; a list of what to keep is wrong only in that a developer may have to ask for one more.
"""

from __future__ import annotations

import getpass
import itertools
import platform
import re
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path

from android_bench.bundle.dynamic import OWNER
from android_bench.bundle.words import PLAIN, is_made_of, words_of
from android_bench.transport import FOLDER, serial_in_mdns_name, split_host_port

KEPT_PROPERTIES = re.compile(
    r"ro\.product\.((system|vendor|odm|product|system_ext)\.)?"
    r"(model|brand|device|name|manufacturer|board|marketname|first_api_level|cpu\.abi|cpu\.abilist(32|64)?)"
    r"|ro\.soc\.(manufacturer|model)|ro\.board\.(platform|api_level)|ro\.hardware|ro\.hardware\.chipname"
    r"|ro\.build\.(fingerprint|id|display\.id|type|tags|characteristics|version\.(incremental|release|sdk"
    r"|release_or_codename|codename|security_patch|oneui))"
    r"|ro\.(miui|mi\.os)\.[a-z.]*version[a-z.]*|ro\.(debuggable|arch|zygote|treble\.enabled|virtual_ab\.enabled)"
    r"|ro\.vendor\.api_level|ro\.nasflow\.virtual|sys\.boot_completed|dalvik\.vm\.isa\.[a-z0-9_]+\.(variant|features)"
)
"""Which phone, which chip, which Android: what nasflow reads, and what a developer needs beside it."""

_PROPERTY = re.compile(r"^\[([^\[\]\n]{1,200})\]: \[(.{0,5000}?)\]$\n?", re.MULTILINE | re.DOTALL)
_TELLING_KEY = re.compile(
    r"serial|imei|meid|iccid|imsi|msisdn|(^|[._])mac|bt_?addr|bdaddr|guid|uuid|hostname|host_name"
    r"|device_?name|ssid|account|phone_?number|android_?id|wifi\.name|bluetooth.*name|(^|[._])sn$|barcode"
)
_SERIAL_KEY = re.compile(r"ro\.(boot\.)?serialno")
_SHORTEST_SERIAL, _SHORTEST = 3, 4
_GLUED = 5
"""A serial number of so many characters is found inside of other words too; a shorter one is in too many."""
_SHORTEST_NUMBER = 8
"""Of a property that is digits alone: fewer are in frequencies and times."""

_COMMON = frozenset(
    [
        *("root", "user", "users", "android", "shell", "system", "admin", "test", "tests", "nobody", "none"),
        *("null", "true", "false", "unknown", "default", "localhost", "phone", "device", "home", "computer"),
        *("person", "unnamed", "left-out"),
    ]
)
"""Values that name nobody, and are in many commands."""

# An absolute path of two parts or more, of no folder that a phone has: one of this computer.
_PHONES_FOLDERS = (
    r"acct|apex|bin|cache|config|d|dev|etc|init|linkerconfig|metadata|odm|odm_dlkm|oem|proc|product|sdcard|storage"
    r"|sys|system|system_dlkm|system_ext|vendor|vendor_dlkm"
    r"|data/(?:adb|anr|app|app-private|apex|dalvik-cache|data|local|media|misc|misc_ce|misc_de|property|system"
    r"|tombstones|user|user_de|vendor)|mnt/(?:sdcard|user|vendor|runtime|pass_through)"
)
_PART = r"[^\s/\"'`<>|:;,()\[\]{}=\\]{1,255}"
_PATH = re.compile(rf"(?<![\w./~*$)}}%\\-])/(?!(?:{_PHONES_FOLDERS})(?![\w.-])){_PART}(?:/{_PART})+/?")
_WINDOWS_PATH = re.compile(r"(?<!\w)[A-Za-z]:\\(?:[^\\/\"'<>|:*?\n]{1,255}\\)+[^\s\\/\"'<>|:;,*?()]{0,255}")
_RUN = re.compile(r"\bprocess [0-9]{1,10} on (?!this computer\b)[A-Za-z0-9._-]{0,39}[A-Za-z0-9_-]")

_E_MAIL = re.compile(r"[\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63}){1,5}")
_MAC = re.compile(r"(?<![0-9A-Fa-f:-])(?:[0-9A-Fa-f]{2}[:-]){5}[0-9A-Fa-f]{2}(?![0-9A-Fa-f:-])")
_IPV4 = re.compile(r"(?<![\w.])(?!127\.|0\.0\.0\.0)(?:[0-9]{1,3}\.){3}[0-9]{1,3}(?![\w.]*[\w])")
# Of the whole network (2..., 3...), of a site (fc, fd) and of a link (fe80).
_IPV6 = re.compile(
    r"(?<![\w:])(?:[23][0-9A-Fa-f]{3}|[fF][c-eC-E][0-9A-Fa-f]{2}):(?:[0-9A-Fa-f]{0,4}:){1,6}[0-9A-Fa-f]{1,4}(?![\w:])"
)
_LONG_NUMBER = re.compile(r"(?<![\w.])[0-9]{14,17}(?!\w|\.[0-9])")  # IMEI, IMEISV, MEID in decimal
_PHONE_NUMBER = re.compile(r"(?<!\w)\+[0-9]{7,15}(?!\w)")
_UUID = re.compile(r"(?<!\w)[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}(?!\w)")
_NAMED = re.compile(
    r"(?i)(?<![a-z])(b?ssid|(?:device|bt|bluetooth|host|user|account)[ _]?name)([\"']?[ \t]*[:=][ \t]*)"
    r"(\"[^\"\n]{1,200}\"|'[^'\n]{1,200}'|[^\s,;\"'][^\n,;]{0,200})"
)
_PACKAGE = re.compile(
    r"(?<![\w./])(?!(?:com\.android|com\.google\.android|com\.qualcomm)\b)"
    r"(?:com|org|net|io|de|co|me|app|dev|cn|jp|kr|fr|uk|ru)(?:\.[A-Za-z_][\w]{0,60}){2,6}"
)
_WAKE_LOCK = re.compile(r"^(.{0,200}_WAKE_LOCK.{0,40}?)'[^'\n]{0,300}'", re.MULTILINE)


_BUILT_BY = re.compile(r"\beng\.[^.:/ ]+")  # who builds Android stands in its name
_NAMES_A_PERSON = ("/home/", "/users/", r"\\users\\", "user=", "@")


class Scrubber:
    """Replaces what must not be told; the same by the same, so that what was equal stays equal.

    ``names`` are those of the phone on its ways, and of whatever else is known beforehand.
    """

    def __init__(self, names: Iterable[str] = ()) -> None:
        self.replaced: Counter[str] = Counter()
        self.kept_properties: set[str] = set()
        self._labels: dict[str, str] = {}
        self._serials: set[str] = set()
        self._plain = PLAIN
        self._numbers: dict[str, dict[str, int]] = {}
        self._uuids: dict[str, str] = {}
        self._pattern: re.Pattern[str] | None = None
        for name in names:
            self._learn_name(name)
        self._learn_computer(platform.node())
        self._learn("person", _user(), 1)
        self._home = str(Path.home())

    def learn_from(self, words: tuple[str, ...], *outputs: str) -> None:
        """Learn from a command and what it printed.

        Serial numbers and names are in what ``getprop`` or ``getprop KEY`` prints, the names of computers in
        the lines by which runs say whose they are; the command's other words name nobody.
        """
        command = "\n".join(words)
        for text in (command, *outputs):
            for owner in OWNER.findall(text):
                self._learn_computer(owner.rpartition(" ")[2])
        self._plain |= words_of([OWNER.sub(" ", command)])
        self._pattern = None
        found = [pair for output in outputs for pair in _PROPERTY.findall(output)]
        if words[:1] == ("getprop",) and len(words) == 2:
            found = [(words[1], output.strip()) for output in outputs]
        kept = [(key, value) for key, value in found if KEPT_PROPERTIES.fullmatch(key)]
        self._plain |= words_of(_BUILT_BY.sub(" ", value) for _, value in kept)
        for key, value in found:
            if (key, value) not in kept and _TELLING_KEY.search(key.lower()):
                self._learn_property(key, value.strip(), [value.lower() for _, value in kept])

    @property
    def secrets(self) -> tuple[str, ...]:
        """Every value that was learnt, the longest first."""
        return tuple(sorted(self._labels, key=len, reverse=True))

    def text(self, text: str) -> str:
        """What a phone or nasflow has said, without it."""
        text = _PROPERTY.sub(self._property, text)
        text = _PATH.sub(self._counted("paths of this computer", "/path-left-out"), text)
        text = _WINDOWS_PATH.sub(self._counted("paths of this computer", "/path-left-out"), text)
        text = self.command(_RUN.sub(self._counted("names of computers", "process 1 on computer"), text))
        text = _WAKE_LOCK.sub(self._counted("names of wake locks", r"\1'(left out)'"), text)
        text = _NAMED.sub(self._counted("names of networks and devices", r'\1\2"left out"'), text)
        return _PACKAGE.sub(self._counted("names of apps", "package.name"), text)

    def command(self, text: str) -> str:
        """A command or a file of nasflow's own, without it; its words stay, for a replay compares them."""
        text = OWNER.sub(lambda found: self._owner(found[0]), text)
        text = self._literals(text)
        text = _E_MAIL.sub(self._counted("e-mail addresses", "name@example.invalid"), text)
        text = _UUID.sub(lambda found: self._uuid(found[0]), text)
        text = _MAC.sub(self._counted("hardware addresses", "02:00:00:00:00:00"), text)
        text = _IPV4.sub(self._counted("network addresses", "192.0.2.1"), text)
        text = _IPV6.sub(self._counted("network addresses", "2001:db8::1"), text)
        text = _LONG_NUMBER.sub(lambda found: self._zeros(found[0]), text)
        return _PHONE_NUMBER.sub(self._counted("phone numbers", "+0000000"), text)

    def output(self, content: bytes) -> bytes:
        """What a command printed, without it; bytes that are no text stay as they are."""
        return self.text(content.decode("utf-8", "surrogateescape")).encode("utf-8", "surrogateescape")

    def binary(self, content: bytes) -> bytes:
        """A file's content: names are replaced by as many bytes, so that its structure stays."""
        for secret in self.secrets:
            if not self._is_ambiguous(secret):
                word = re.escape(secret.encode("utf-8", "surrogateescape"))
                content, count = re.subn(word, lambda found: b"x" * len(found[0]), content, flags=re.I)
                self.replaced["serial numbers and names"] += count
        return content

    def found_in(self, text: str) -> tuple[str, ...]:
        """Which learnt values stand in a text all the same: of serial numbers, in any word."""
        flags = re.IGNORECASE | re.ASCII
        return tuple(secret for secret in self.secrets if re.search(self._where(secret), text, flags))

    def _learn_name(self, name: str) -> None:
        self._learn_serial(name)
        in_name = serial_in_mdns_name(name)
        if in_name:
            self._learn_serial(in_name)
            self._learn_serial(re.sub(r" \([0-9]+\)$", "", name.partition("._adb")[0]))
        address = split_host_port(name)
        if address and address[0] not in ("127.0.0.1", "::1"):
            self._learn("serial", address[0])

    def _learn_serial(self, value: str) -> None:
        value = value.strip()
        if len(value) >= _SHORTEST_SERIAL and value.lower() not in _COMMON:
            self._serials.add(value)
            self._learn("serial", value, _SHORTEST_SERIAL)

    def _learn_property(self, key: str, value: str, kept: list[str]) -> None:
        """A value under a telling key; those that tell nothing (``offline``, ``0123``) are left."""
        if _SERIAL_KEY.fullmatch(key):
            self._learn_serial(value)
        elif any(value.lower() in other for other in kept) or is_made_of(value, self._plain):
            return
        elif not re.search("[0-9]", value):
            self._learn("serial", value)
        elif len(value) >= (_SHORTEST_NUMBER if value.isdigit() else _GLUED):
            self._learn_serial(value)

    def _learn_computer(self, name: str) -> None:
        for one in (name, name.partition(".")[0]):
            self._learn("computer", one)

    def _learn(self, kind: str, value: str, shortest: int = _SHORTEST) -> None:
        value = value.strip()
        if len(value) < shortest or value.lower() in _COMMON or value in self._labels:
            return
        label = f"{kind}{len(self._labels) + 1}"
        self._labels[value] = label.ljust(len(value), "x")
        self._pattern = None

    def _where(self, secret: str) -> str:
        """The pattern of a learnt value: anywhere, by itself, or where a person or a computer is named."""
        word = re.escape(secret)
        if secret in self._serials:
            return word if len(secret) >= _GLUED else _by_itself(word)
        if not self._is_ambiguous(secret):
            return _by_itself(word)
        before = "|".join(f"(?<={prefix})" for prefix in _NAMES_A_PERSON)
        return rf"(?:{before}){word}(?![0-9A-Za-z])|(?<![0-9A-Za-z]){word}(?=@)"

    def _is_ambiguous(self, secret: str) -> bool:
        """Whether it may as well be a word that names nobody."""
        short = len(secret) < _SHORTEST
        return secret not in self._serials and (short or is_made_of(secret, self._plain))

    def _literals(self, text: str) -> str:
        if len(self._home) > 1 and not FOLDER.startswith(self._home):
            text = re.sub(rf"(?<![\w./-]){re.escape(self._home)}(?![\w.-])", "~", text)
        if not self._labels:
            return text
        if self._pattern is None:
            self._pattern = re.compile("|".join(map(self._where, self.secrets)), re.IGNORECASE | re.ASCII)
        labels = {secret.lower(): label for secret, label in self._labels.items()}

        def replace(found: re.Match[str]) -> str:
            self._count("serial numbers and names")
            return labels[found[0].lower()]

        return self._pattern.sub(replace, text)

    def _property(self, found: re.Match[str]) -> str:
        if KEPT_PROPERTIES.fullmatch(found[1]):
            self.kept_properties.add(found[1])
            return found[0]
        self._count("properties left out")
        return ""

    def _owner(self, line: str) -> str:
        self._count("lines that identify a run")
        number = self._number("owner", line)
        return f"run c{number:015x} {number} {number} computer"

    def _uuid(self, uuid: str) -> str:
        self._count("boot identifiers and other UUIDs")
        if uuid.lower() not in self._uuids:
            # What is given stands for itself, too: text that has been through this already stays as it is.
            names = (f"00000000-0000-4000-8000-{number:012d}" for number in itertools.count(1))
            given = next(name for name in names if name not in self._uuids)
            self._uuids |= {uuid.lower(): given, given: given}
        return self._uuids[uuid.lower()]

    def _zeros(self, number: str) -> str:
        self._count("long numbers")
        return "0" * len(number)

    def _number(self, kind: str, value: str) -> int:
        known = self._numbers.setdefault(kind, {})
        return known.setdefault(value, len(known) + 1)

    def _count(self, what: str) -> None:
        self.replaced[what] += 1

    def _counted(self, what: str, template: str) -> Callable[[re.Match[str]], str]:
        def replace(found: re.Match[str]) -> str:
            self._count(what)
            return found.expand(template)

        return replace


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):  # an account without a name
        return ""


def _by_itself(word: str) -> str:
    return rf"(?<![0-9A-Za-z]){word}(?![0-9A-Za-z])"

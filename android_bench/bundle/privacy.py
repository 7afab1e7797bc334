"""What a bundle must not tell: serial numbers, names, addresses. All else stays as the phone said it.

Of ``getprop`` only listed keys are kept. A list of what to leave out would have to know the keys of every
maker; a list of what to keep is wrong only in that a developer may have to ask for one more.
"""

from __future__ import annotations

import getpass
import platform
import re
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path

from android_bench.bundle.dynamic import OWNER
from android_bench.transport import split_host_port

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
_SHORTEST = 4
_COMMON = frozenset(
    [
        *("root", "user", "users", "android", "shell", "system", "admin", "test", "tests", "nobody", "none"),
        *("null", "true", "false", "unknown", "default", "localhost", "phone", "device", "home", "computer"),
    ]
)
"""Values that name nobody, and are in many commands."""

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


class Scrubber:
    """Replaces what must not be told; the same by the same, so that what was equal stays equal.

    ``names`` are those of the phone on its ways, and of whatever else is known beforehand.
    """

    def __init__(self, names: Iterable[str] = ()) -> None:
        self.replaced: Counter[str] = Counter()
        self.kept_properties: set[str] = set()
        self._labels: dict[str, str] = {}
        self._numbers: dict[str, dict[str, int]] = {}
        self._pattern: re.Pattern[str] | None = None
        for name in names:
            self._learn_name(name)
        node = platform.node()
        for name in (node, node.partition(".")[0]):
            self._learn("computer", name)
        self._learn("person", _user())
        self._home = str(Path.home())

    def learn_from(self, words: tuple[str, ...], output: str) -> None:
        """Learn serial numbers and names from what ``getprop`` or ``getprop KEY`` printed."""
        found = _PROPERTY.findall(output)
        if words[:1] == ("getprop",) and len(words) == 2:
            found = [(words[1], output.strip())]
        kept = {value for key, value in found if KEPT_PROPERTIES.fullmatch(key)}
        for key, value in found:
            if value not in kept and not KEPT_PROPERTIES.fullmatch(key) and _TELLING_KEY.search(key.lower()):
                self._learn("serial", value)

    @property
    def secrets(self) -> tuple[str, ...]:
        """Every value that was learnt, the longest first."""
        return tuple(sorted(self._labels, key=len, reverse=True))

    def text(self, text: str) -> str:
        """The text without it."""
        text = _PROPERTY.sub(self._property, text)
        text = OWNER.sub(lambda found: self._owner(found[0]), text)
        text = self._literals(text)
        text = _WAKE_LOCK.sub(self._counted("names of wake locks", r"\1'(left out)'"), text)
        text = _E_MAIL.sub(self._counted("e-mail addresses", "name@example.invalid"), text)
        text = _UUID.sub(lambda found: self._uuid(found[0]), text)
        text = _MAC.sub(self._counted("hardware addresses", "02:00:00:00:00:00"), text)
        text = _IPV4.sub(self._counted("network addresses", "192.0.2.1"), text)
        text = _IPV6.sub(self._counted("network addresses", "2001:db8::1"), text)
        text = _LONG_NUMBER.sub(lambda found: self._zeros(found[0]), text)
        text = _PHONE_NUMBER.sub(self._counted("phone numbers", "+0000000"), text)
        text = _NAMED.sub(self._counted("names of networks and devices", r'\1\2"left out"'), text)
        return _PACKAGE.sub(self._counted("names of apps", "package.name"), text)

    def output(self, content: bytes) -> bytes:
        """What a command printed, without it; bytes that are no text stay as they are."""
        return self.text(content.decode("utf-8", "surrogateescape")).encode("utf-8", "surrogateescape")

    def binary(self, content: bytes) -> bytes:
        """A file's content: names are replaced by as many bytes, so that its structure stays."""
        for secret in self.secrets:
            word = secret.encode("utf-8", "surrogateescape")
            if word in content:
                self._count("serial numbers and names")
                content = content.replace(word, b"x" * len(word))
        return content

    def found_in(self, text: str) -> tuple[str, ...]:
        """Which learnt values stand in a text all the same."""
        return tuple(secret for secret in self.secrets if _whole(secret).search(text))

    def _learn_name(self, name: str) -> None:
        self._learn("serial", name)
        address = split_host_port(name)
        if address and address[0] not in ("127.0.0.1", "::1"):
            self._learn("serial", address[0])

    def _learn(self, kind: str, value: str) -> None:
        value = value.strip()
        if len(value) < _SHORTEST or value.lower() in _COMMON or value in self._labels:
            return
        label = f"{kind}{len(self._labels) + 1}"
        self._labels[value] = label.ljust(len(value), "x")
        self._pattern = None

    def _literals(self, text: str) -> str:
        if len(self._home) > 1 and self._home in text:
            text = text.replace(self._home, "~")
        if not self._labels:
            return text
        if self._pattern is None:
            self._pattern = re.compile("|".join(_whole(secret).pattern for secret in self.secrets), re.I)
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
        self._count("lines by which a run says whose it is")
        number = self._number("owner", line)
        return f"run c{number:015x} {number} {number} computer"

    def _uuid(self, uuid: str) -> str:
        self._count("identifiers of the phone's start, and others of that form")
        return f"00000000-0000-4000-8000-{self._number('uuid', uuid.lower()):012d}"

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


def _whole(secret: str) -> re.Pattern[str]:
    """A learnt value where it stands by itself; in upper or lower case."""
    return re.compile(rf"(?<![0-9A-Za-z]){re.escape(secret)}(?![0-9A-Za-z])", re.I)

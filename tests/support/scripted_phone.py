"""A phone behind a transport: texts by command, files, Android settings, a screen; it can be cut off."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from android_bench.phone.conditions import (
    BATTERY_COMMAND,
    BOOT_ID_COMMAND,
    CPUFREQ_COMMAND,
    DATE_COMMAND,
    POWER_COMMAND,
    THERMAL_COMMAND,
    UPTIME_COMMAND,
)
from android_bench.transport import Completed
from nasflow.base.errors import DeviceLostError

FIXTURES = Path(__file__).resolve().parents[1] / "fixtures" / "phone"
BOOT = "0f7a2b1c-1111-2222-3333-444455556666"
# github.com/whyakari/TermuxDisableProcces issue 1
REFUSAL = """
Exception occurred while executing '{verb}':
java.lang.SecurityException: Permission denial: writing to settings \
requires:android.permission.WRITE_SECURE_SETTINGS
\tat com.android.providers.settings.SettingsProvider.enforceWritePermission(SettingsProvider.java:2272)
"""
REFUSED_KEY = """
Exception occurred while executing 'keyevent':
java.lang.SecurityException: Injecting input events requires the caller to have the INJECT_EVENTS permission.
"""
CPUFREQ = """policy0/related_cpus=0 1 2 3
policy0/scaling_cur_freq=600000
policy0/scaling_max_freq=1704000
policy0/cpuinfo_max_freq=1704000
policy4/related_cpus=4 5 6 7
policy4/scaling_cur_freq=2367000
policy4/scaling_max_freq=2367000
policy4/cpuinfo_max_freq=2367000
"""


def fixture(name: str) -> str:
    return (FIXTURES / name).read_text(encoding="utf-8")


class ScriptedPhone:
    """Answers as a phone does, as far as the tests of conditions and settings go.

    ``locked``: settings that may not be written. ``opaque``: none can be read. ``wakes_by``: the programs
    that wake it. ``clamps``: what a setting becomes, whatever it is set to. ``unreadable``: paths and why.
    """

    serial = "scripted"

    def __init__(self) -> None:
        self.texts: dict[tuple[str, ...], str | Callable[[], str]] = {
            THERMAL_COMMAND: fixture("thermalservice_samsung_android12.txt"),
            BATTERY_COMMAND: fixture("battery.txt"),
            CPUFREQ_COMMAND: CPUFREQ,
            UPTIME_COMMAND: "1234.56 9876.54\n",
            BOOT_ID_COMMAND: f"{BOOT}\n",
            DATE_COMMAND: "1700000000.250000000\n",
            POWER_COMMAND: lambda: f"  mWakefulness={self.wakefulness}\n",
        }
        self.files: dict[str, bytes] = {}
        self.unreadable: dict[str, str] = {}
        self.undeletable: set[str] = set()
        self.settings = {"stay_on_while_plugged_in": "0", "screen_off_timeout": "60000"}
        self.fixed = False
        self.knows_fixed = True
        self.locked: set[str] = set()
        self.opaque = False
        self.clamps: dict[str, str] = {}
        self.wakefulness = "Awake"
        self.wakes_by = {"input", "cmd"}
        self.commands_left: int | None = None
        self.log: list[tuple[str, ...]] = []

    def run(self, argv: Sequence[str], *, timeout_s: float) -> Completed:
        assert timeout_s > 0
        words = tuple(argv)
        if self.commands_left is not None:
            if self.commands_left == 0:
                raise DeviceLostError("the cable was pulled.")
            self.commands_left -= 1
        self.log.append(words)
        if words in self.texts:
            text = self.texts[words]
            return done(text() if callable(text) else text)
        match words:
            case ("settings", "get", "global" | "system", key) if not self.opaque:
                return done(self.settings.get(key, "null"))
            case ("settings", "put" | "delete" as verb, "global" | "system", key, *_) if key in self.locked:
                return Completed(b"", REFUSAL.format(verb=verb).encode(), 255)
            case ("settings", "put", "global" | "system", key, value):
                self.settings[key] = self.clamps.get(key, value)
                return done()
            case ("settings", "delete", "global" | "system", key):
                self.settings.pop(key, None)
                return done("Deleted 1 rows")
            case ("input", "keyevent", "KEYCODE_WAKEUP") | ("cmd", "power", "wakeup"):
                if words[0] in self.wakes_by:
                    self.wakefulness = "Awake"
                    return done()
                return Completed(b"", REFUSED_KEY.encode(), 255)
            case ("input", "keyevent", "KEYCODE_SLEEP"):
                self.wakefulness = "Dozing"
                return done()
            case ("cmd", "power", "set-fixed-performance-mode-enabled", value) if self.knows_fixed:
                self.fixed = value == "true"
                return done()
            case ("cat", path) if path in self.files:
                return Completed(self.files[path], b"", 0)
            case ("cat", path) if path in self.unreadable:
                return Completed(b"", f"cat: {path}: {self.unreadable[path]}".encode(), 1)
            case ("cat", path):
                return Completed(b"", f"cat: {path}: No such file or directory".encode(), 1)
            case ("rm", "-f", path) if path in self.unreadable:
                return Completed(b"", f"rm: {path}: {self.unreadable[path]}".encode(), 1)
            case ("rm", "-rf", path) if path in self.undeletable:
                return Completed(b"", f"rm: {path}: Permission denied".encode(), 1)
            case ("rm", "-f" | "-rf", path):
                self.unreadable.pop(path, None)
                for name in [name for name in self.files if name == path or name.startswith(f"{path}/")]:
                    del self.files[name]
                return done()
            case ("mv", old, new) if new in self.unreadable:  # a folder takes it in
                self.files[f"{new}/{old.rpartition('/')[2]}"] = self.files.pop(old)
                return done()
            case ("mv", old, new):
                self.files[new] = self.files.pop(old)
                return done()
            case ("mkdir", "-p", _):
                return done()
        return Completed(b"", f"{words[0]}: not found".encode(), 255)

    def push(self, content: bytes, remote: str, *, mode: int = 0o644, timeout_s: float) -> None:
        assert mode == 0o644 and timeout_s > 0
        self.files[remote] = content

    def pull(self, remote: str, *, timeout_s: float) -> bytes:
        assert timeout_s > 0
        return self.files[remote]

    def state(self) -> str:
        return "device"

    def reconnect(self, *, timeout_s: float) -> None:
        assert timeout_s > 0

    def close(self) -> None:
        pass


def done(text: str = "") -> Completed:
    return Completed(text.encode(), b"", 0)

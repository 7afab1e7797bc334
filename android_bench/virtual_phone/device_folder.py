"""The folder on the host that holds a virtual phone's storage and the files its commands read."""

from __future__ import annotations

import json
import shutil
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path

from android_bench.virtual_phone.clocks import PhoneClocks
from android_bench.virtual_phone.described_phone import Moment, PhoneDescription, device_files, uptime
from android_bench.virtual_phone.faults import FaultPlan
from android_bench.virtual_phone.guest_commands import commands, tool_script
from android_bench.virtual_phone.phone_time import CLOCK_FILE, CLOCK_FILE_BYTES

TOOLS = ("classic", "litert")
PRETENDED_AGE_S = 3600.0  # at its start the phone has been running for an hour


class DeviceFolder:
    """Writes the phone's files. Commands inside see them read-only, the storage excepted.

    ``storage`` (``/data/local/tmp``, ``/sdcard``, ``/data/system``) stays from one start to the next.
    """

    def __init__(
        self, root: Path, description: PhoneDescription, rest_clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.root = root.resolve()
        self.description = description
        self.system = self.root / "system"
        self.phone = self.system / "etc" / "phone"
        self.storage = {
            "/data/local/tmp": self.root / "tmp",
            "/sdcard": self.root / "sdcard",
            "/data/system": self.root / "settings",
        }
        self.keys_file = self.root / "adb_keys"
        self.uptime_file = self.root / "uptime"
        self.boot_id_file = self.root / "boot_id"
        self.boot_id = ""
        self._booted_at = 0.0
        self._written: dict[str, str] = {}
        self._writing = threading.Lock()
        self._power = self.storage["/data/system"] / "power"
        self.clocks = PhoneClocks(self._power, rest_clock)

    def create(self) -> None:
        """Make the folders and scripts; storage that is there is kept."""
        for folder in self.storage.values():
            folder.mkdir(parents=True, exist_ok=True)
        self.clocks.create()
        shutil.rmtree(self.system, ignore_errors=True)
        binaries = self.system / "bin"
        for folder in (binaries, self.phone, self.system / "lib" / "nasflow"):
            folder.mkdir(parents=True)
        shell = next(path for path in ("/usr/bin/mksh", "/bin/mksh", "/bin/sh") if Path(path).exists())
        (binaries / "sh").symlink_to(shell)
        scripts = commands() | {f"benchmark_model_{tool}": tool_script(tool) for tool in TOOLS}
        scripts["benchmark_model"] = tool_script(self.description.tool)
        for name, text in scripts.items():
            file = binaries / name
            file.write_text(text, encoding="utf-8")
            file.chmod(0o755)
        self._written.clear()
        self.boot()

    def boot(self) -> None:
        """Start the clock anew under a new boot id."""
        first = not self.boot_id
        self.boot_id = str(uuid.uuid4())
        self._booted_at = time.monotonic() - (PRETENDED_AGE_S if first else 0.0)
        self.boot_id_file.write_text(self.boot_id + "\n", encoding="ascii")
        self.uptime_file.touch()
        for name in ("wakefulness", "fixed_performance"):  # a phone that has started is awake, and in no mode
            (self._power / name).unlink(missing_ok=True)
        self.tick()

    def tick(self) -> None:
        """Bring ``/proc/uptime`` up to date, in place: it is mounted as one file."""
        content = uptime(self.description, time.monotonic() - self._booted_at)
        with self.uptime_file.open("r+", encoding="ascii") as file:
            file.write(content)
            file.truncate()

    def refresh(self, plan: FaultPlan, since: float) -> None:
        """Write what follows from the faults in force, each changed file at once by renaming."""
        with self._writing:
            self.clocks.update(plan)
            self._write(plan, since)

    def follow_clocks(self, plan: FaultPlan, since: float) -> None:
        """Write anew what has changed because a tool runs, or has ended, or a mode took hold."""
        with self._writing:
            if self.clocks.update(plan):
                self._write(plan, since)

    def _write(self, plan: FaultPlan, since: float) -> None:
        moment = Moment(
            time.monotonic() - self._booted_at, self.boot_id, plan.slowdown, plan, self.clocks.share
        )
        files = device_files(self.description, moment)
        self._set_clock(plan.clock_offset_s)
        if plan.asleep or plan == FaultPlan():
            self._set_wakefulness("Asleep" if plan.asleep else "Awake", moment.uptime_s)
        files["cpu_mask"] = f"{(1 << self.description.cores) - 1:x}\n"
        abi = plan.abi or self.description.abi
        files["machine"] = {"arm64-v8a": "aarch64", "armeabi-v7a": "armv8l"}.get(abi, abi) + "\n"
        files["tool.json"] = json.dumps(
            {
                "abi": plan.abi,
                "link_error": plan.tool_link_error,
                "forbidden": plan.tool_forbidden,
                "signal": plan.tool_signal,
                "signal_at": plan.tool_signal_at,
                "signal_times": plan.tool_signal_times,
                "slowdown": plan.slowdown / self.clocks.mode,
                "sustained_share": plan.sustained_share,
                "sustained_after_s": plan.sustained_after_s,
                "drift_per_minute": plan.drift_per_minute,
                "sleep_slowdown": plan.sleep_slowdown,
                "since_monotonic_s": since,
                "free_bytes": plan.free_bytes,
                "run_us": self.description.run_us,
            }
        )
        if plan.free_bytes is not None:
            files["free_kib"] = f"{plan.free_bytes // 1024}\n"
        elif self._written.pop("free_kib", None) is not None:
            (self.phone / "free_kib").unlink(missing_ok=True)
        for name, text in files.items():
            if self._written.get(name) != text:
                file = self.phone / name
                file.parent.mkdir(parents=True, exist_ok=True)
                beside = file.with_name(file.name + ".new")
                beside.write_text(text, encoding="utf-8")
                beside.replace(file)
                self._written[name] = text

    def _set_clock(self, offset_s: int) -> None:
        """Write how far the phone's clock is ahead, in place: a program under way looks at this very file."""
        file = self.phone / CLOCK_FILE
        content = f"{offset_s:{CLOCK_FILE_BYTES - 1}d}\n".encode()
        if not file.exists():
            file.write_bytes(content)
        with file.open("r+b") as opened:
            opened.write(content)

    def _set_wakefulness(self, state: str, uptime_s: float) -> None:
        self._power.mkdir(parents=True, exist_ok=True)
        beside = self._power / "wakefulness.new"
        beside.write_text(f"{state} {round(100 * uptime_s)}\n", encoding="ascii")
        beside.replace(self._power / "wakefulness")

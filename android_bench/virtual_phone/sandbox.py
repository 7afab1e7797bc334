"""The phone's inside as a bubblewrap sandbox: its own root, processes and no network.

One sandbox lives from boot to reboot, so that a detached job outlives the connection that started it.
Inside, :mod:`android_bench.virtual_phone.guest` starts what the daemon asks for; both talk over a socket,
and everything inside ends when that closes or the daemon dies.
"""

from __future__ import annotations

import importlib.util
import shutil
import socket
import subprocess
import sys
import sysconfig
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path

from android_bench.virtual_phone.device_folder import DeviceFolder
from android_bench.virtual_phone.faults import FaultPlan
from android_bench.virtual_phone.guest import send_request
from android_bench.virtual_phone.guest_commands import (
    PACKAGES_FOLDER,
    PYTHON,
    PYTHON_ENVIRONMENT,
    PYTHON_LIBRARY,
)
from android_bench.virtual_phone.machine import RunningShell
from android_bench.virtual_phone.protocol import Disconnected
from nasflow.base.errors import MachineError

START_TIMEOUT_S = 20.0
MAX_COMMAND_BYTES = 128 * 1024  # Linux refuses a longer argument
_SHELL_UID = "2000"
_PACKAGES = ("android_bench", "numpy", "ai_edge_litert", "tflite_runtime")
_PROGRAM_FOLDERS = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")


def find_bubblewrap() -> str | None:
    """Where bubblewrap is and can make a sandbox here; None otherwise."""
    program = shutil.which("bwrap")
    if program is None:
        return None
    trial = [program, "--unshare-all", "--uid", _SHELL_UID, "--gid", _SHELL_UID]
    trial += [*_host_programs(), "--proc", "/proc", "--dev", "/dev", "--", "/bin/sh", "-c", "exit 0"]
    try:
        done = subprocess.run(trial, capture_output=True, timeout=START_TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return program if done.returncode == 0 else None


def _host_programs() -> list[str]:
    """Options that show the host's programs read-only, and nothing of its data."""
    options: list[str] = []
    for name in _PROGRAM_FOLDERS:
        path = Path("/usr", name)
        if path.is_dir():
            options += ["--ro-bind", str(path), str(path)]
    for name in _PROGRAM_FOLDERS:
        path = Path("/", name)
        if path.is_symlink():
            options += ["--symlink", str(path.readlink()), str(path)]
        elif path.is_dir():
            options += ["--ro-bind", str(path), str(path)]
    for name in ("ld.so.cache", "alternatives"):
        options += ["--ro-bind-try", f"/etc/{name}", f"/etc/{name}"]
    return options


def _python_options() -> list[str]:
    """Options that show this Python, and of its packages only those that run models.

    All of it gets a place of its own, wherever it lies on the host: neither a home, nor a clone, nor what
    else is installed beside the packages can be seen.
    """
    stdlib = Path(sysconfig.get_path("stdlib"))
    options = ["--ro-bind", str(Path(sys.executable).resolve()), PYTHON]
    options += ["--ro-bind", str(stdlib.parent), PYTHON_LIBRARY]
    if (stdlib / "site-packages").is_dir():
        hidden = f"{PYTHON_LIBRARY}/{stdlib.name}/site-packages"
        options += ["--tmpfs", hidden, "--remount-ro", hidden]
    for name in _PACKAGES:
        found = importlib.util.find_spec(name)
        if found is None or found.origin is None:
            continue
        package = Path(found.origin).parent
        options += ["--ro-bind", str(package), f"{PACKAGES_FOLDER}/{name}"]
        libraries = package.with_name(f"{name}.libs")  # beside it, where wheels put shared libraries
        if libraries.is_dir():
            options += ["--ro-bind", str(libraries), f"{PACKAGES_FOLDER}/{libraries.name}"]
    return options


class Sandbox:
    """A :class:`~android_bench.virtual_phone.machine.Machine` that runs real commands."""

    def __init__(self, folder: DeviceFolder, bubblewrap: str) -> None:
        self._folder = folder
        self._bubblewrap = bubblewrap
        self._log = folder.root / "sandbox.log"
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._link: socket.socket | None = None
        self._closed = False

    def command(self, descriptor: int) -> Sequence[str]:
        """bubblewrap's command line. ``descriptor`` is the guest's end of the socket."""
        folder = self._folder
        options = [self._bubblewrap, "--unshare-all", "--die-with-parent"]
        options += ["--new-session", "--hostname", "localhost"]
        options += ["--uid", _SHELL_UID, "--gid", _SHELL_UID, "--clearenv"]
        environment = {
            "PATH": "/system/bin:/usr/bin:/bin",
            "HOME": "/",
            "SHELL": "/system/bin/sh",
            "TMPDIR": "/data/local/tmp",
            "ANDROID_DATA": "/data",
            "ANDROID_ROOT": "/system",
            "TERM": "dumb",
            "LANG": "C.UTF-8",
            "PYTHONDONTWRITEBYTECODE": "1",
            **PYTHON_ENVIRONMENT,
        }
        for name, value in environment.items():
            options += ["--setenv", name, value]
        options += _host_programs()
        options += ["--proc", "/proc", "--dev", "/dev", "--dir", "/data/local"]
        # The scripts lie in a folder of which a part is mounted over: a tmpfs between would hide them.
        for name in ("bin", "etc"):
            options += ["--ro-bind", str(folder.system / name), f"/system/{name}"]
        options += _python_options()
        for mount, storage in folder.storage.items():
            options += ["--bind", str(storage), mount]
        options += ["--symlink", "/sdcard", "/storage"]
        options += ["--ro-bind", str(folder.phone / "cpufreq"), "/sys/devices/system/cpu/cpufreq"]
        options += ["--ro-bind", str(folder.uptime_file), "/proc/uptime"]
        options += ["--ro-bind", str(folder.boot_id_file), "/proc/sys/kernel/random/boot_id"]
        options += ["--ro-bind", str(folder.phone / "cpuinfo"), "/proc/cpuinfo"]
        options += ["--remount-ro", "/", "--chdir", "/", "--", PYTHON, "-s", "-S", "-P"]
        return [*options, "-m", "android_bench.virtual_phone.guest", str(descriptor)]

    def start(self) -> None:
        """Boot. Raises MachineError with bubblewrap's own words."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        started: Future[subprocess.Popen[bytes]] = Future()
        threading.Thread(
            target=self._keep, args=(theirs, started), name="virtual-phone-inside", daemon=True
        ).start()
        process = started.result()
        ours.settimeout(START_TIMEOUT_S)
        try:
            greeting = ours.recv(16)
        except OSError:
            greeting = b""
        if greeting != b"ready":
            ours.close()
            process.kill()
            process.wait()
            words = self._log.read_text(encoding="utf-8", errors="replace")
            raise MachineError(
                f"The simulated phone's sandbox did not start: {words.strip()[-500:] or 'no output'}.",
                hint="bubblewrap needs user namespaces: allow them on this computer.",
                raw=words,
            )
        ours.settimeout(None)
        with self._lock:
            self._process, self._link = process, ours

    def _keep(self, theirs: socket.socket, started: Future[subprocess.Popen[bytes]]) -> None:
        """Start bubblewrap and stay: what dies with its parent dies with the thread that started it."""
        with theirs, self._log.open("wb") as log:
            try:
                process = subprocess.Popen(
                    self.command(theirs.fileno()),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    pass_fds=[theirs.fileno()],
                    start_new_session=True,
                )
            except OSError as error:
                started.set_exception(
                    MachineError(
                        f"{self._bubblewrap} did not start: {error.strerror}.", hint="Reinstall bubblewrap."
                    )
                )
                return
        started.set_result(process)
        process.wait()

    def start_shell(self, command: str, *, merged: bool) -> RunningShell:
        """Run a command line in the phone's shell. Raises Disconnected."""
        output, child_output = socket.socketpair()
        control, child_control = socket.socketpair()
        errors, child_errors = (None, child_output) if merged else socket.socketpair()
        shell = RunningShell(output, errors, control)
        text = command if len(command.encode("utf-8", "surrogateescape")) < MAX_COMMAND_BYTES else None
        request = {"op": "shell", "shell": "/system/bin/sh", "command": text}
        if text is None:
            request["command"] = "echo 'sh: argument list too long' >&2; exit 126"
        descriptors = [end.fileno() for end in (child_output, child_output, child_errors, child_control)]
        try:
            self._ask(request, descriptors)
        except Disconnected:
            shell.close()
            raise
        finally:
            for end in (child_output, child_errors, child_control):
                end.close()
        return shell

    def start_sync(self, plan: FaultPlan) -> socket.socket:
        """A socket that speaks ``sync:``. Raises Disconnected."""
        ours, theirs = socket.socketpair()
        with theirs:
            request = {"op": "sync", "push_failure": plan.push_failure, "free_bytes": plan.free_bytes}
            try:
                self._ask(request, [theirs.fileno()])
            except Disconnected:
                ours.close()
                raise
        return ours

    def reboot(self) -> None:
        """End everything inside and start it anew. Raises MachineError."""
        self._stop()
        if not self._closed:
            self.start()

    def close(self) -> None:
        """End everything inside."""
        self._closed = True
        self._stop()

    def _ask(self, request: Mapping[str, object], descriptors: list[int]) -> None:
        with self._lock:
            if self._link is None:
                raise Disconnected("the phone is off")
            try:
                send_request(self._link, request, descriptors)
            except OSError as error:
                raise Disconnected(f"the simulated phone's sandbox has ended: {error}") from error

    def _stop(self) -> None:
        with self._lock:
            process, link = self._process, self._link
            self._process = self._link = None
        if link is not None:
            link.close()
        if process is not None:
            process.kill()
            process.wait()

"""The phone's inside where bubblewrap cannot run: a fixed table of commands, and no shell at all.

Paths of the phone are mapped into its folder, and what lies elsewhere is not there. Enough for pushing,
checking, running and reading; detached jobs and scripts need the sandbox.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from android_bench.virtual_phone.device_folder import TOOLS, DeviceFolder
from android_bench.virtual_phone.faults import FaultPlan
from android_bench.virtual_phone.machine import RunningShell
from android_bench.virtual_phone.protocol import Disconnected
from android_bench.virtual_phone.simple_shell import EXIT_CODE, NotUnderstood, SimpleCommand, parse
from android_bench.virtual_phone.sync import SyncOptions, serve_sync

_PACKAGE_ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Result:
    """What one command gave."""

    code: int = 0
    output: bytes = b""
    errors: bytes = b""


def failed(words: str, code: int = 1) -> Result:
    """A command's complaint."""
    return Result(code, errors=os.fsencode(words) + b"\n")


class PathMap:
    """Where the phone's paths lie on this computer. Nothing is followed out of the phone's folder."""

    def __init__(self, folder: DeviceFolder) -> None:
        self._nowhere = folder.boot_id_file / "nowhere"  # below a file: can neither be read nor made
        self._writable = dict(folder.storage)
        self._readable = {
            "/sys/devices/system/cpu/cpufreq": folder.phone / "cpufreq",
            "/system/etc/phone": folder.phone,
            "/proc/uptime": folder.uptime_file,
            "/proc/cpuinfo": folder.phone / "cpuinfo",
            "/proc/sys/kernel/random/boot_id": folder.boot_id_file,
        }

    def locate(self, path: str, *, write: bool = False) -> str:
        """The real path, or one that does not exist."""
        parts = PurePosixPath("/", path).parts
        plain = os.path.normpath("/" + "/".join(parts[1:]))
        places = self._writable if write else self._writable | self._readable
        for place, folder in places.items():
            if plain == place or plain.startswith(place + "/"):
                found = folder / plain[len(place) :].lstrip("/")
                if Path(os.path.realpath(found)).is_relative_to(folder.resolve()):
                    return str(found)
        return str(self._nowhere)

    def expand(self, pattern: str) -> list[str]:
        """The phone's paths that match a pattern; itself where none does."""
        for place, folder in (self._writable | self._readable).items():
            if pattern.startswith(place + "/"):
                rest = pattern[len(place) + 1 :]
                if ".." in PurePosixPath(rest).parts:
                    break
                found = sorted(str(path.relative_to(folder)) for path in folder.glob(rest.lstrip("/")))
                return [f"{place}/{name}" for name in found] or [pattern]
        return [pattern]


class CommandTable:
    """A :class:`~android_bench.virtual_phone.machine.Machine` without a shell."""

    def __init__(self, folder: DeviceFolder) -> None:
        self._folder = folder
        self._paths = PathMap(folder)
        self._closed = False
        self._commands: dict[str, Callable[[list[str]], Result]] = {
            "cat": self._cat,
            "chmod": self._chmod,
            "df": self._df,
            "dumpsys": self._dumpsys,
            "echo": lambda arguments: Result(output=os.fsencode(" ".join(arguments) + "\n")),
            "false": lambda _: Result(1),
            "getprop": self._getprop,
            "id": lambda _: Result(output=b"uid=2000(shell) gid=2000(shell) groups=2000(shell)\n"),
            "kill": self._kill,
            "ls": self._ls,
            "mkdir": self._mkdir,
            "mv": self._mv,
            "nohup": self._prefixed,
            "rm": self._rm,
            "setsid": self._prefixed,
            "sha256sum": self._sha256sum,
            "stat": self._stat,
            "taskset": self._taskset,
            "true": lambda _: Result(),
            "uname": lambda _: self._read("/system/etc/phone/machine"),
        }

    def start_shell(self, command: str, *, merged: bool) -> RunningShell:
        """Run a command line from the table. Raises Disconnected."""
        if self._closed:
            raise Disconnected("the phone is off")
        output, child_output = socket.socketpair()
        control, child_control = socket.socketpair()
        errors, child_errors = (None, child_output) if merged else socket.socketpair()
        shell = RunningShell(output, errors, control)
        threading.Thread(
            target=self._run_line, args=(command, child_output, child_errors, child_control), daemon=True
        ).start()
        return shell

    def start_sync(self, plan: FaultPlan) -> socket.socket:
        """A socket that speaks ``sync:``. Raises Disconnected."""
        if self._closed:
            raise Disconnected("the phone is off")
        ours, theirs = socket.socketpair()
        options = SyncOptions(plan.push_failure, plan.free_bytes, self._paths.locate, may_link=False)

        def run() -> None:
            with (
                theirs,
                os.fdopen(os.dup(theirs.fileno()), "rb") as reader,
                os.fdopen(os.dup(theirs.fileno()), "wb") as writer,
            ):
                serve_sync(reader, writer, options)
                theirs.shutdown(socket.SHUT_RDWR)

        threading.Thread(target=run, daemon=True).start()
        return ours

    def reboot(self) -> None:
        """Nothing runs on, so that there is nothing to end."""

    def close(self) -> None:
        """Start nothing any more."""
        self._closed = True

    def run(self, line: str) -> Result:
        """Do one command line; never raises."""
        try:
            commands = parse(line)
        except NotUnderstood as error:
            return failed(
                f"sh: not understood: {error}. This phone has a table of commands and no shell, because "
                "bubblewrap cannot run on this computer.",
                2,
            )
        code, output, errors = 0, b"", b""
        for command in commands:
            if (command.after == "&&" and code) or (command.after == "||" and not code):
                continue
            done = self._redirected(command, code)
            code, output, errors = done.code, output + done.output, errors + done.errors
        return Result(code, output, errors)

    def _run_line(
        self, line: str, output: socket.socket, errors: socket.socket, control: socket.socket
    ) -> None:
        done = self.run(line)
        with contextlib.suppress(OSError), output, errors, control:
            output.sendall(done.output)
            errors.sendall(done.errors)
            output.shutdown(socket.SHUT_RDWR)
            if errors is not output:
                errors.shutdown(socket.SHUT_RDWR)
            control.sendall(str(done.code).encode())

    def _redirected(self, command: SimpleCommand, last_code: int) -> Result:
        words: list[str] = []
        for word in command.words:
            text = word.text.replace(EXIT_CODE, str(last_code))
            words += self._paths.expand(text) if word.is_pattern else [text]
        done = self._dispatch(words)
        if command.errors_to_output:
            done = Result(done.code, done.output + done.errors)
        try:
            if command.output:
                self._write(command.output, done.output, append=command.append)
                done = Result(done.code, errors=done.errors)
            if command.errors:
                self._write(command.errors, done.errors, append=False)
                done = Result(done.code, done.output)
        except OSError as error:
            return failed(f"sh: can't create {command.output or command.errors}: {error.strerror}")
        except ValueError:
            return failed("sh: bad file name")
        return done

    def _write(self, path: str, content: bytes, *, append: bool) -> None:
        if path == "/dev/null":
            return
        with Path(self._paths.locate(path, write=True)).open("ab" if append else "wb") as file:
            file.write(content)

    def _dispatch(self, words: list[str]) -> Result:
        name = PurePosixPath(words[0]).name
        if name == "benchmark_model" or name in {f"benchmark_model_{tool}" for tool in TOOLS}:
            return self._benchmark(name, words)
        known = self._commands.get(words[0].removeprefix("/system/bin/"))
        if known is None:
            return failed(f"sh: {words[0]}: inaccessible or not found", 127)
        try:
            return known(words[1:])
        except OSError as error:
            return failed(f"{words[0]}: {words[-1]}: {error.strerror or 'I/O error'}")
        except (IndexError, ValueError):
            return failed(f"{words[0]}: bad arguments")

    def _read(self, path: str) -> Result:
        return Result(output=Path(self._paths.locate(path)).read_bytes())

    def _cat(self, arguments: list[str]) -> Result:
        code, output, errors = 0, b"", b""
        for path in arguments:
            try:
                output += self._read(path).output
            except OSError as error:
                code, errors = 1, errors + os.fsencode(f"cat: {path}: {error.strerror}\n")
        return Result(code, output, errors)

    def _chmod(self, arguments: list[str]) -> Result:
        mode = {"+x": 0o755}.get(arguments[0]) or int(arguments[0], 8) if arguments else 0
        for path in arguments[1:]:
            Path(self._paths.locate(path, write=True)).chmod(mode)
        return Result()

    def _df(self, _arguments: list[str]) -> Result:
        usage = shutil.disk_usage(self._folder.root)
        try:
            free = int(self._read("/system/etc/phone/free_kib").output) * 1024
        except FileNotFoundError:
            free = usage.free
        total_kib, free_kib = usage.total // 1024, free // 1024
        return Result(
            output=(
                "Filesystem       1K-blocks      Used Available Use% Mounted on\n"
                f"/dev/block/dm-51 {total_kib} {total_kib - free_kib} {free_kib} "
                f"{100 - 100 * free_kib // total_kib}% /data\n"
            ).encode()
        )

    def _dumpsys(self, arguments: list[str]) -> Result:
        if arguments and arguments[0] in ("thermalservice", "battery"):
            return self._read(f"/system/etc/phone/{arguments[0]}")
        return failed(f"Can't find service: {' '.join(arguments)}")

    def _getprop(self, arguments: list[str]) -> Result:
        if not arguments:
            return self._read("/system/etc/phone/getprop")
        try:
            return self._read(f"/system/etc/phone/properties/{PurePosixPath(arguments[0]).name}")
        except FileNotFoundError:
            return Result(output=os.fsencode(" ".join(arguments[1:2]) + "\n"))

    def _kill(self, arguments: list[str]) -> Result:
        return failed(f"kill: {arguments[-1] if arguments else ''}: No such process")

    def _ls(self, arguments: list[str]) -> Result:
        lines: list[str] = []
        for path in [argument for argument in arguments if not argument.startswith("-")] or ["/"]:
            found = Path(self._paths.locate(path))
            lines += sorted(entry.name for entry in found.iterdir()) if found.is_dir() else [path]
            found.lstat()
        return Result(output=os.fsencode("".join(f"{line}\n" for line in lines)))

    def _mkdir(self, arguments: list[str]) -> Result:
        parents = "-p" in arguments
        for path in arguments:
            if path != "-p":
                Path(self._paths.locate(path, write=True)).mkdir(parents=parents, exist_ok=parents)
        return Result()

    def _mv(self, arguments: list[str]) -> Result:
        *sources, target = [argument for argument in arguments if argument not in ("-f", "-T")]
        place = Path(self._paths.locate(target, write=True))
        for source in sources:
            path = Path(self._paths.locate(source, write=True))
            if path in self._folder.storage.values():
                return failed(f"mv: {source}: Device or resource busy")
            path.replace(place / path.name if place.is_dir() else place)
        return Result()

    def _prefixed(self, arguments: list[str]) -> Result:
        return self._dispatch(arguments) if arguments else failed("usage: setsid COMMAND...")

    def _rm(self, arguments: list[str]) -> Result:
        options = "".join(argument for argument in arguments if argument.startswith("-"))
        for argument in arguments:
            if argument.startswith("-"):
                continue
            path = Path(self._paths.locate(argument, write=True))
            if path in self._folder.storage.values():
                return failed(f"rm: {argument}: Device or resource busy")
            try:
                if path.is_dir() and "r" in options:
                    shutil.rmtree(path)
                else:
                    path.unlink()
            except (FileNotFoundError, NotADirectoryError):
                if "f" not in options:
                    raise
        return Result()

    def _sha256sum(self, arguments: list[str]) -> Result:
        lines = [f"{hashlib.sha256(self._read(path).output).hexdigest()}  {path}\n" for path in arguments]
        return Result(output=os.fsencode("".join(lines)))

    def _stat(self, arguments: list[str]) -> Result:
        form = arguments[1] if arguments[:1] == ["-c"] and len(arguments) > 2 else "%s"
        lines = []
        for path in arguments[2:]:
            found = Path(self._paths.locate(path)).lstat()
            values = {"%s": found.st_size, "%Y": int(found.st_mtime), "%n": path}
            values |= {"%a": f"{stat.S_IMODE(found.st_mode):o}", "%i": found.st_ino}
            line = form
            for mark, value in values.items():
                line = line.replace(mark, str(value))
            lines.append(line + "\n")
        return Result(output=os.fsencode("".join(lines)))

    def _taskset(self, arguments: list[str]) -> Result:
        try:
            mask = int(arguments[0], 16) & ((1 << self._folder.description.cores) - 1)
        except (IndexError, ValueError):
            return failed("taskset: bad mask")
        return self._prefixed(arguments[1:]) if mask else failed("taskset: Invalid argument")

    def _benchmark(self, name: str, words: list[str]) -> Result:
        """Run the tool in a process of its own, its two paths mapped and turned back in its output."""
        flavour = name.removeprefix("benchmark_model").lstrip("_") or self._folder.description.tool
        turned: dict[bytes, bytes] = {}
        mapped: list[str] = []
        for argument in words[1:]:
            flag, _, path = argument.partition("=")
            if flag in ("--graph", "--result_file_path"):
                real = self._paths.locate(path, write=flag != "--graph")
                turned[os.fsencode(real)] = os.fsencode(path)
                mapped.append(f"{flag}={real}")
            else:
                mapped.append(argument)
        command = [
            sys.executable,
            "-P",
            "-m",
            "android_bench.virtual_phone.benchmark_tool",
            flavour,
            words[0],
        ]
        environment = os.environ | {
            "PYTHONPATH": str(_PACKAGE_ROOT),
            "NASFLOW_TOOL_STATE": str(self._folder.phone / "tool.json"),
            "NASFLOW_TOOL_COUNT": str(self._folder.storage["/data/system"] / "tool-signals"),
        }
        done = subprocess.run([*command, *mapped], capture_output=True, env=environment, check=False)
        output, errors = done.stdout, done.stderr
        for real_path, path_shown in turned.items():
            output, errors = output.replace(real_path, path_shown), errors.replace(real_path, path_shown)
        code = done.returncode if done.returncode >= 0 else 128 + signal.Signals(-done.returncode)
        return Result(code, output, errors)

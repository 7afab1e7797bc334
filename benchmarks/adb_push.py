"""How fast files go to a phone: the direct transport beside Google's adb, on the same loopback path.

Both push the same 20 MB to one virtual phone, in turn; the phone's copy must be equal each time. Then
10 MB go to a phone that takes and sends 1448 bytes at a time, the segments of a wireless network: every push
must arrive whole. adb's time holds that of starting its client, as every use of it does; the second ratio
is without it.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import random
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from statistics import median

from android_bench.adb.direct import DirectTransport
from android_bench.virtual_phone.faults import FaultPlan
from android_bench.virtual_phone.phone import SCANNED_PORTS, VirtualPhone, running_phone
from benchmarks._report import Outcome, at_least, main, say
from nasflow.base.errors import DeviceError, MachineError

SIZE_BYTES = 20_000_000
SEGMENTED_BYTES = 10_000_000
SEGMENT_BYTES = 1448
SEGMENTED_PUSHES = 20
TIMEOUT_S = 60.0
FOLDER = "/data/local/tmp"


def run(full: bool) -> Outcome:
    """Push in turn by both ways, then through small segments."""
    rounds = 15 if full else 5
    content = random.Random(0).randbytes(SIZE_BYTES)
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="adb-push-")))
        phone = stack.enter_context(running_phone())
        transport = stack.enter_context(closing(DirectTransport(phone.address, key=home / "adbkey")))
        adb = stack.enter_context(google_adb(phone, home))
        file = home / "content.bin"
        file.write_bytes(content)

        def direct_push(remote: str) -> None:
            transport.push(content, remote, timeout_s=TIMEOUT_S)

        def google_push(remote: str) -> None:
            adb("push", str(file), remote)

        seconds: dict[str, list[float]] = {"direct": [], "google": []}
        ways = {"direct": direct_push, "google": google_push}
        for number in range(-1, rounds):  # the first round warms up: keys, connections, caches
            for name in sorted(ways, reverse=bool(number % 2)):
                took = timed(phone, content, f"{FOLDER}/{name}.bin", ways[name])
                if number >= 0:
                    seconds[name].append(took)
        direct_s, google_s = median(seconds["direct"]), median(seconds["google"])
        direct, google = SIZE_BYTES / 1e6 / direct_s, SIZE_BYTES / 1e6 / google_s
        client_s = median([timed_call(lambda: adb("get-state")) for _ in range(rounds)])
        say(f"direct {direct:.0f} MB/s, Google's adb {google:.0f} MB/s")
        phone.faults.set(FaultPlan(short_read_bytes=SEGMENT_BYTES, segment_bytes=SEGMENT_BYTES))
        whole, segmented_s = segmented(phone, home, content[:SEGMENTED_BYTES])
    return Outcome(
        figures={
            "rounds": rounds,
            "size_bytes": SIZE_BYTES,
            "direct_mb_per_s": direct,
            "google_mb_per_s": google,
            "google_version": google_version(),
            "google_client_ms": 1000 * client_s,
            "direct_over_google_throughput": direct / google,
            "direct_over_google_without_client": (google_s - client_s) / direct_s,
            "segment_bytes": SEGMENT_BYTES,
            "segmented_size_bytes": SEGMENTED_BYTES,
            "segmented_pushes": SEGMENTED_PUSHES,
            "segmented_whole": whole,
            "segmented_seconds": segmented_s,
        },
        bars=[
            at_least("direct_over_google_throughput", direct / google, 0.5),
            at_least("segmented_whole", whole, SEGMENTED_PUSHES),
        ],
    )


def timed(phone: VirtualPhone, content: bytes, remote: str, push: Callable[[str], None]) -> float:
    """Seconds of one push; the file is looked at and removed. Raises DeviceError where it differs."""
    took = timed_call(lambda: push(remote))
    if not arrived(phone, content, remote):
        raise DeviceError(f"{remote} differs from what was pushed.", hint="This is a mistake in a transport.")
    return took


def timed_call(call: Callable[[], object]) -> float:
    """Seconds that it takes."""
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def arrived(phone: VirtualPhone, content: bytes, remote: str) -> bool:
    """Is the file there, and equal by its SHA-256? It is gone afterwards."""
    stored = phone.storage(remote)
    equal = stored.is_file() and (
        hashlib.sha256(stored.read_bytes()).digest() == hashlib.sha256(content).digest()
    )
    stored.unlink(missing_ok=True)
    return equal


def segmented(phone: VirtualPhone, home: Path, content: bytes) -> tuple[int, float]:
    """How many pushes through small segments arrived whole, and the median of their seconds."""
    whole, seconds = 0, []
    for number in range(SEGMENTED_PUSHES):
        remote = f"{FOLDER}/segmented-{number}.bin"
        started = time.perf_counter()
        with closing(DirectTransport(phone.address, key=home / "adbkey")) as transport:
            try:
                transport.push(content, remote, timeout_s=TIMEOUT_S)
            except DeviceError as error:
                say(f"push {number + 1}: {error}")
        seconds.append(time.perf_counter() - started)
        whole += arrived(phone, content, remote)
    say(f"{whole} of {SEGMENTED_PUSHES} pushes in segments of {SEGMENT_BYTES} bytes arrived whole")
    return whole, median(seconds)


@contextmanager
def google_adb(phone: VirtualPhone, home: Path) -> Iterator[Callable[..., str]]:
    """Google's adb with a server and keys of its own, connected to the phone: runs a command on it."""
    port = free_port()
    environment = {
        "HOME": str(home),
        "TMPDIR": str(home),
        "PATH": os.defpath,
        "ADB_MDNS_OPENSCREEN": "0",
        "ADB_LOCAL_TRANSPORT_MAX_PORT": "5554",
    }

    def call(*words: str) -> str:
        done = subprocess.run(
            [google_program(), "-P", str(port), *words],
            env=environment,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=TIMEOUT_S,
            check=False,
        )
        if done.returncode:
            raise MachineError(f"adb {words[0]} failed: {done.stderr.strip() or done.stdout.strip()}")
        return done.stdout

    (home / ".android").mkdir()
    call("start-server")
    try:
        call("connect", phone.address)
        call("-s", phone.address, "wait-for-device")
        yield lambda *words: call("-s", phone.address, *words)
    finally:
        call("kill-server")


def google_program() -> str:
    """The adb inside the package adbutils."""
    found = importlib.util.find_spec("adbutils")
    program = Path(found.origin).parent / "binaries" / "adb" if found and found.origin else None
    if program is None or not program.is_file():
        raise MachineError(
            "adbutils brings no adb program here.",
            hint="Install its wheel for this system: pip install adbutils.",
        )
    return str(program)


def google_version() -> str:
    """Such as ``36.0.0``."""
    told = subprocess.run([google_program(), "version"], capture_output=True, text=True, check=True).stdout
    return next(
        (
            line.removeprefix("Version ").partition("-")[0]
            for line in told.splitlines()
            if line.startswith("Version ")
        ),
        "unknown",
    )


def free_port() -> int:
    """A port of this computer that nobody has, and no adb server scans."""
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port: int = probe.getsockname()[1]
        if port not in SCANNED_PORTS:
            return port


if __name__ == "__main__":
    sys.exit(main("adb_push", run))

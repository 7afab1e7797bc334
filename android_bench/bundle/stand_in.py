"""What a replay needs in place of a phone's benchmark program, which is not in a bundle."""

from __future__ import annotations

import hashlib
import struct

from android_bench.bundle.archive import Bundle
from android_bench.bundle.replay import ReplayTransport
from android_bench.runner.abi import elf_abi
from android_bench.runner.download import Runner
from nasflow.base.errors import IntegrityError

# e_machine, word size: as in runner/abi.py, by Android's names of ABIs.
_MACHINES = {
    "arm64-v8a": (183, 2),
    "armeabi-v7a": (40, 1),
    "x86_64": (62, 2),
    "x86": (3, 1),
    "riscv64": (243, 2),
}


def replay_with_stand_in(
    bundle: Bundle, abi: str = "arm64-v8a", *, part: str | None = None
) -> tuple[ReplayTransport, Runner]:
    """A replay, and a program that it takes for the recorded one: an empty shell of that ABI.

    Raises IntegrityError where the bundle does not say which program was used.
    """
    if bundle.header.info is None or not bundle.header.info.binary_sha256:
        raise IntegrityError(
            "the bundle does not name the program that measures: the checks ended before it was known.",
            hint="Replay its commands one by one with ReplayTransport.",
        )
    recorded = bundle.header.info.binary_sha256
    content = _program(abi)
    name = bundle.header.info.runtime.partition(", ")[2] or "stand-in"
    replay = ReplayTransport(bundle, part=part, aliases={hashlib.sha256(content).hexdigest(): recorded})
    return replay, Runner(content, recorded, name)


def _program(abi: str) -> bytes:
    machine, word = _MACHINES[abi]
    ident = b"\x7fELF" + bytes([word, 1, 1]) + bytes(9)
    content = (ident + struct.pack("<HHI", 3, machine, 1)).ljust(64, b"\0")
    assert elf_abi(content) == abi
    return content

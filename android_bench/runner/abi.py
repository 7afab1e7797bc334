"""For which phones a program is built: read from its ELF header before it is sent."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from nasflow.base.errors import NoUsableDeviceError, UsageError

# e_machine and word size of each ABI's programs (ELF specification; Android NDK, "Android ABIs").
_ELF_OF_ABI = {
    "arm64-v8a": (183, 2),
    "armeabi-v7a": (40, 1),
    "x86_64": (62, 2),
    "x86": (3, 1),
    "riscv64": (243, 2),
}


def check_abi(binary: bytes, abis: Sequence[str], *, name: str) -> None:
    """Whether a program is for a phone that runs programs of ``abis`` (``ro.product.cpu.abilist``).

    Raises UsageError for what is no program, NoUsableDeviceError for one of another ABI.
    """
    seen = elf_abi(binary)
    if seen is None:
        raise UsageError(
            f"{name} is not a Linux or Android program: it begins with {binary[:8]!r}.",
            hint="Set android.runner to auto, or to the path of a benchmark_model.",
        )
    if seen not in abis:
        wanted = " or ".join(abis)
        raise NoUsableDeviceError(
            f"{name} is built for {seen}, but the phone's ABI is {wanted or 'unknown'}.",
            hint=f"Set android.runner to a benchmark_model for {wanted or 'this phone'}.",
        )


def elf_abi(binary: bytes) -> str | None:
    """The ABI in a program's ELF header, by Android's name, or the machine's number; None: no program."""
    if len(binary) < 52 or binary[:4] != b"\x7fELF" or binary[4] not in (1, 2) or binary[5] not in (1, 2):
        return None
    order: Literal["little", "big"] = "little" if binary[5] == 1 else "big"
    kind, machine = (int.from_bytes(binary[at : at + 2], order) for at in (16, 18))
    if kind not in (2, 3):  # ET_EXEC, ET_DYN: a program, or a position-independent one
        return None
    known = {value: name for name, value in _ELF_OF_ABI.items()}
    name = known.get((machine, binary[4])) if order == "little" else None
    return name or f"ELF machine {machine}, {32 * binary[4]} bits"

"""benchmark_model: for which phones a program is built."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from android_bench.runner.abi import check_abi, elf_abi
from nasflow.base.errors import NoUsableDeviceError, UsageError


def elf(machine: int, *, bits: int = 64, kind: int = 3, little: bool = True) -> bytes:
    order = "<" if little else ">"
    head = b"\x7fELF" + bytes([bits // 32, 1 if little else 2, 1]) + bytes(9)
    return (head + struct.pack(f"{order}HHI", kind, machine, 1)).ljust(64, b"\0")


@pytest.mark.parametrize(
    ("binary", "abi"),
    [
        (elf(183), "arm64-v8a"),
        (elf(183, kind=2), "arm64-v8a"),
        (elf(40, bits=32), "armeabi-v7a"),
        (elf(62), "x86_64"),
        (elf(3, bits=32), "x86"),
        (elf(243), "riscv64"),
        (elf(62, bits=32), "ELF machine 62, 32 bits"),
        (elf(183, little=False), "ELF machine 183, 64 bits"),
        (elf(8), "ELF machine 8, 64 bits"),
        (elf(183, kind=1), None),
        (elf(183)[:40], None),
        (b"#!/system/bin/sh\n".ljust(80), None),
        (b"", None),
    ],
)
def test_the_abi_is_read_from_the_program(binary: bytes, abi: str | None) -> None:
    assert elf_abi(binary) == abi


def test_a_program_for_another_phone_is_refused_before_it_is_sent() -> None:
    check_abi(elf(183), ["arm64-v8a"], name="benchmark_model")
    with pytest.raises(NoUsableDeviceError, match=r"x86_64.*arm64-v8a or armeabi-v7a") as caught:
        check_abi(elf(62), ["arm64-v8a", "armeabi-v7a"], name="benchmark_model")
    assert caught.value.exit_code == 4
    with pytest.raises(NoUsableDeviceError, match="ABI is unknown"):
        check_abi(elf(62), [], name="benchmark_model")
    with pytest.raises(UsageError, match="not a Linux or Android program"):
        check_abi(b"<html>", ["arm64-v8a"], name="benchmark_model")


def test_a_32_bit_program_is_for_every_phone_that_runs_such_ones() -> None:
    check_abi(elf(40, bits=32), ["arm64-v8a", "armeabi-v7a", "armeabi"], name="benchmark_model")
    with pytest.raises(NoUsableDeviceError, match="built for armeabi-v7a, but the phone's ABI is arm64-v8a"):
        check_abi(elf(40, bits=32), ["arm64-v8a"], name="benchmark_model")


@settings(max_examples=1_000)
@given(st.binary(max_size=80).map(lambda tail: b"\x7fELF" + tail) | st.binary(max_size=80))
def test_any_bytes_have_an_abi_or_none(binary: bytes) -> None:
    assert elf_abi(binary) is None or binary.startswith(b"\x7fELF")

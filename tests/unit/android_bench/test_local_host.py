"""What this computer says about itself."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError

import pytest
from hypothesis import given
from hypothesis import strategies as st

from android_bench.local import host as local_host
from android_bench.local.host import local_conditions, parse_cpuinfo, runtime_version
from nasflow.base.errors import NoUsableDeviceError

X86 = """processor\t: 0
vendor_id\t: GenuineIntel
cpu family\t: 6
model\t\t: 85
model name\t: Intel(R) Xeon(R) CPU @ 2.60GHz
cpu MHz\t\t: 2600.114

processor\t: 1
model name\t: something else
"""
ARM = """processor\t: 0
BogoMIPS\t: 108.00
CPU implementer\t: 0x41
CPU part\t: 0xd08
"""


def test_the_first_processor_is_read() -> None:
    fields = parse_cpuinfo(X86)
    assert fields["model name"] == "Intel(R) Xeon(R) CPU @ 2.60GHz"
    assert fields["model"] == "85"
    assert fields["cpu MHz"] == "2600.114"


def test_a_processor_without_a_name_keeps_its_part_number() -> None:
    assert parse_cpuinfo(ARM)["CPU part"] == "0xd08"


@given(st.text())
def test_any_text_gives_fields(text: str) -> None:
    for key, value in parse_cpuinfo(text).items():
        assert (key, value) == (key.strip(), value.strip())


def test_conditions_are_read_or_unknown() -> None:
    conditions = local_conditions()
    assert conditions.load_1min is None or conditions.load_1min >= 0
    assert conditions.cpu_mhz is None or conditions.cpu_mhz > 100
    assert conditions.at.tzinfo is not None


def versions(**installed: str) -> object:
    def version(name: str) -> str:
        try:
            return installed[name.replace("-", "_")]
        except KeyError:
            raise PackageNotFoundError(name) from None

    return version


def test_boards_with_the_runtime_of_the_former_name_are_served(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_host, "version", versions(tflite_runtime="2.14.0"))
    assert runtime_version() == "tflite-runtime 2.14.0"


def test_without_a_runtime_the_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_host, "version", versions())
    with pytest.raises(NoUsableDeviceError, match="pip install ai-edge-litert"):
        runtime_version()

"""What NVML tells of a GPU: the real package nvidia-ml-py, NVIDIA's library under it replaced."""

from __future__ import annotations

import sys

import pytest
from support.fake_nvml import DRIVER_NOT_LOADED, UUID, FakeNvml

from android_bench.local.gpu_state import GpuMonitor, GpuState


def test_clock_heat_and_programs_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    FakeNvml(mhz=1755, celsius=63, pids=(800, 7)).install(monkeypatch)
    monitor = GpuMonitor(UUID)
    assert monitor.why_not == ""
    assert monitor.state() == GpuState(1755, 63, (), (7, 800))


@pytest.mark.parametrize(
    ("bits", "words"),
    [
        (0x000, ()),
        (0x001, ()),  # idle
        (0x002, ()),  # clocks that somebody set
        (0x100, ()),  # the display's
        (0x004, ("power limit",)),
        (0x008 | 0x040, ("hardware slowdown", "heat, by the hardware")),
        (0x010, ("sync boost",)),
        (0x001 | 0x020, ("heat",)),
        (0x080, ("power brake",)),
    ],
)
def test_only_reasons_that_slow_a_gpu_down_count(
    monkeypatch: pytest.MonkeyPatch, bits: int, words: tuple[str, ...]
) -> None:
    FakeNvml(reasons=bits).install(monkeypatch)
    assert GpuMonitor(UUID).state().throttled_by == words


@pytest.mark.parametrize(
    ("function", "known"),
    [
        ("nvmlDeviceGetClockInfo", "mhz"),
        ("nvmlDeviceGetTemperature", "celsius"),
        ("nvmlDeviceGetCurrentClocksEventReasons", "throttled_by"),
        ("nvmlDeviceGetComputeRunningProcesses_v3", "programs"),
    ],
)
def test_what_a_gpu_does_not_tell_is_none_and_the_rest_is_read(
    monkeypatch: pytest.MonkeyPatch, function: str, known: str
) -> None:
    FakeNvml(refused=frozenset({function})).install(monkeypatch)
    state = GpuMonitor(UUID).state()
    unknown = [
        name for name in ("mhz", "celsius", "throttled_by", "programs") if getattr(state, name) is None
    ]
    assert unknown == [known]


def test_a_gpu_that_nvml_does_not_know_is_told_and_nothing_is_guessed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    FakeNvml().install(monkeypatch)
    monitor = GpuMonitor("GPU-00000000-0000-0000-0000-000000000000")
    assert monitor.why_not == "NVML says: Not Found"
    assert monitor.state() == GpuState()


def test_without_a_driver_nvmls_words_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeNvml(on_init=DRIVER_NOT_LOADED).install(monkeypatch)
    monitor = GpuMonitor(UUID)
    monitor.close()
    assert monitor.why_not == "NVML says: Driver Not Loaded"
    assert fake.open == 0


def test_without_the_package_the_way_to_install_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    monitor = GpuMonitor(UUID)
    assert "nvidia-ml-py is not installed (pip install 'nasflow[cuda]')" in monitor.why_not
    assert monitor.state() == GpuState()


def test_nvml_is_given_back_once(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeNvml().install(monkeypatch)
    monitor = GpuMonitor(UUID)
    assert fake.open == 1
    monitor.close()
    monitor.close()
    assert fake.open == 0
    assert monitor.state() == GpuState()


@pytest.mark.parametrize(
    ("programs", "own", "others"),
    [
        (None, 5, None),
        ((), None, 0),
        ((5,), 5, 0),
        ((5, 6, 7), 5, 2),
        ((9,), None, 1),  # none of ours runs
        ((41,), 5, 0),  # a container: 41 is ours, as the host counts
        ((41, 42), 5, 1),
        ((), 5, 0),
    ],
)
def test_other_programs_are_counted_without_ours(
    programs: tuple[int, ...] | None, own: int | None, others: int | None
) -> None:
    assert GpuState(programs=programs).other_programs(own) == others

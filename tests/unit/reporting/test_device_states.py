"""The device's state over time: curves, pauses, the screen, and the same in words."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from support.report_pages import on_a_warm_phone, phone_states
from support.sample_documents import sample_documents

from android_bench.device import Conditions, RuntimeOptions
from stages.documents import Verification
from stages.reporting.conditions import Phase, phases
from stages.reporting.figures.conditions import conditions_figure
from stages.reporting.html import render_report
from stages.reporting.run_documents import RunDocuments
from stages.reporting.run_result import build_result

BEGAN = datetime(2026, 3, 4, 4, 0, tzinfo=UTC)


def phase(*states: Conditions) -> Phase:
    return Phase("Blocks timed", states)


def at(minutes: float, **state: object) -> Conditions:
    return Conditions.model_validate({"at": BEGAN + timedelta(minutes=minutes), **state})


def test_ranges_stand_in_words_beside_the_curves() -> None:
    said = phase(
        at(0, cpu_mhz=2400, skin_celsius=31.0, battery_percent=80, awake=True),
        at(2, cpu_mhz=2400, skin_celsius=33.25, battery_percent=79, awake=True),
    ).sentence()
    assert said == (
        "2 min 00 s, 2 readings; clock 2400 MHz; skin temperature 31 to 33.25 °C; battery 79 to 80 %; "
        "screen on throughout."
    )


def test_the_measured_cores_clock_comes_before_that_of_the_computer() -> None:
    said = phase(at(0, cpu_mhz=2400, core_mhz=1800), at(1, cpu_mhz=2400, core_mhz=1900)).sentence()
    assert "clock 1800 to 1900 MHz" in said


def test_what_could_not_be_read_is_not_drawn() -> None:
    told = phase(at(0, load_1min=0.5), at(1, load_1min=0.25))
    assert [quantity.name for quantity in told.known()] == ["load, 1 min"]
    drawn = conditions_figure(told, width=344)
    assert "clock" not in drawn
    assert "battery" not in drawn


@pytest.mark.parametrize(("pause", "drawn", "cut"), [(4.0, 5.0, []), (600.0, 6.0, [2])])
def test_a_long_pause_is_cut_short_and_marked(pause: float, drawn: float, cut: list[int]) -> None:
    told = phase(at(0, cpu_mhz=1), at(1, cpu_mhz=2), at(1 + pause, cpu_mhz=3))
    minutes, pauses = told.minutes()
    assert (minutes[-1], pauses) == (drawn, cut)
    assert conditions_figure(told, width=466).count("warmline") == len(cut)


def test_the_time_with_the_screen_off_is_grey_and_said() -> None:
    awake = (True, False, False, True, False)
    told = phase(*(at(i, cpu_mhz=2000 + i, awake=on) for i, on in enumerate(awake)))
    assert conditions_figure(told, width=466).count('class="phase"') == 2
    assert "screen off at 3 readings" in told.sentence()


def test_a_short_dip_among_thousands_of_readings_is_drawn() -> None:
    told = phase(*(at(i / 10, core_mhz=600 if i == 3333 else 2800) for i in range(5000)))
    drawn = conditions_figure(told, width=344)
    lowest = min(float(y) for y in _ordinates(drawn))
    highest = max(float(y) for y in _ordinates(drawn))
    assert highest - lowest > 30
    assert len(_ordinates(drawn)) <= 260


def _ordinates(drawn: str) -> list[str]:
    points = drawn.partition('points="')[2].partition('"')[0]
    return [point.partition(",")[2] for point in points.split()]


def test_a_run_shows_the_stages_that_told_of_the_device() -> None:
    documents = sample_documents()
    assert phases(RunDocuments.of(documents)) == []  # one moment alone
    told = phases(RunDocuments.of(on_a_warm_phone(documents)))
    assert [len(one.states) for one in told] == [30, 500]
    html = render_report(on_a_warm_phone(documents), build_result(documents))
    assert "The device while it was measured" in html
    assert "screen off at 40 readings" in html
    assert "The device while it was measured" not in render_report(documents, build_result(documents))


def test_moments_are_in_order_and_counted_once() -> None:
    documents = on_a_warm_phone(sample_documents())
    verify = documents["verify"]
    states = phone_states(5, BEGAN)
    documents["verify"] = verify.model_copy(update={"conditions": (*reversed(states), states[2])})
    assert phases(RunDocuments.of(documents))[1].states == states


def test_a_gpus_state_is_told_and_drawn() -> None:
    documents = sample_documents()
    verify = documents["verify"]
    assert isinstance(verify, Verification)
    states = tuple(
        at(i, cpu_mhz=2400, gpu_mhz=1755 + i, gpu_celsius=60 + i, throttled_by=("heat",), other_programs=1)
        for i in range(3)
    )
    networks = tuple(
        network.model_copy(
            update={"measurement": network.measurement.model_copy(update={"conditions": states[2]})}
        )
        for network in verify.networks
    )
    device = verify.device.model_copy(update={"kind": "cuda", "model": "NVIDIA H200"})
    documents["verify"] = verify.model_copy(
        update={
            "conditions": states,
            "networks": networks,
            "device": device,
            "runtime": RuntimeOptions(batch=8, precision="float16"),
        }
    )
    told = phases(RunDocuments.of(documents))[-1]
    assert "clock 1755 to 1757 MHz; GPU temperature 60 to 62 °C" in told.sentence()
    html = render_report(documents, build_result(documents))
    for words in ("1757 MHz", "62 °C", "<dd>heat</dd>", "Other programs on the GPU", "batch 8</dd>"):
        assert words in html
    assert "1 thread" not in html.partition("<dt>Runtime</dt>")[2][:200]

"""The estimate of a phone's minutes: told before the phone is asked for anything."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.scripted_device import ScriptedDevice

from android_bench.device import DeviceInfo
from nasflow.assemble import build_pipeline
from nasflow.base.errors import NoUsableDeviceError
from nasflow.cli.request import RunOptions, Selection
from nasflow.commands.phone_time import before_the_phone_is_asked, phone_time
from nasflow.commands.project import open_project
from nasflow.commands.run import run_pipeline
from nasflow.config import PipelineConfig
from pipeline.events import Event
from pipeline.runner import Pipeline

ON_A_PHONE = PipelineConfig(device="android")


@pytest.fixture(autouse=True)
def no_phone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        monkeypatch.setenv("ANDROID_ADB_SERVER_PORT", str(nobody.getsockname()[1]))
        monkeypatch.setenv("HOME", str(tmp_path / "home"))
        yield


class Untouched(ScriptedDevice):
    """A phone that must not be looked for."""

    def info(self) -> DeviceInfo:
        raise AssertionError("the phone is asked which it is")


class Alike(dict[str, float]):
    """Every model takes a millisecond."""

    def __missing__(self, key: str) -> float:
        return 1.0


def pipeline(folder: Path, config: PipelineConfig = ON_A_PHONE) -> Pipeline:
    events: list[Event] = []
    return build_pipeline(config, folder, events.append, device=Untouched({}))


def test_the_estimate_asks_the_phone_for_nothing(tmp_path: Path) -> None:
    told = before_the_phone_is_asked(ON_A_PHONE, pipeline(tmp_path), RunOptions())
    assert told is not None
    assert list(told.seconds) == ["profile", "latency", "precheck", "prune", "verify"]
    assert sum(told.seconds.values()) < told.most_seconds
    assert "0.25 s to start each timing" in told.describe()


def test_it_is_of_the_stages_that_are_asked_for(tmp_path: Path) -> None:
    told = before_the_phone_is_asked(ON_A_PHONE, pipeline(tmp_path), RunOptions(until="latency"))
    assert told is not None
    assert list(told.seconds) == ["profile", "latency"]
    assert before_the_phone_is_asked(ON_A_PHONE, pipeline(tmp_path), RunOptions(until="baseline")) is None


def test_other_folds_add_what_they_do_not_share(tmp_path: Path) -> None:
    config = ON_A_PHONE.model_copy(update={"seed": 1})
    ours, other = pipeline(tmp_path), pipeline(tmp_path, config)
    alone = before_the_phone_is_asked(ON_A_PHONE, ours, RunOptions())
    alike = before_the_phone_is_asked(ON_A_PHONE, ours, RunOptions(), [pipeline(tmp_path)])
    both = before_the_phone_is_asked(ON_A_PHONE, ours, RunOptions(), [other])
    assert alone is not None and both is not None
    assert alike == alone
    assert both.seconds == pytest.approx({name: 2 * seconds for name, seconds in alone.seconds.items()})
    until = RunOptions(until="latency")  # runs the configured fold alone
    assert before_the_phone_is_asked(ON_A_PHONE, ours, until, [other]) == before_the_phone_is_asked(
        ON_A_PHONE, ours, until
    )


def test_twice_the_rounds_take_twice_the_time(tmp_path: Path) -> None:
    seconds = []
    for rounds in (4, 8):
        config = PipelineConfig.model_validate({"device": "android", "profile": {"rounds": rounds}})
        told = before_the_phone_is_asked(config, pipeline(tmp_path, config), RunOptions(until="profile"))
        assert told is not None
        seconds.append(told.seconds["profile"])
    assert seconds[1] == pytest.approx(2 * seconds[0])


def test_this_computer_has_no_minutes_of_a_phone(tmp_path: Path) -> None:
    local = PipelineConfig()
    assert before_the_phone_is_asked(local, pipeline(tmp_path, local), RunOptions()) is None


def test_what_is_fresh_on_the_phone_of_the_last_run_takes_nothing(tmp_path: Path) -> None:
    config = PipelineConfig.model_validate(
        {
            "device": "android",
            "space": {"name": str(Path(__file__).parents[2] / "integration" / "tiny" / "tiny.yaml")},
            "profile": {"rounds": 3, "extra_rounds": 0, "anchor_width": 0.35},
        }
    )
    events: list[Event] = []
    device = ScriptedDevice(Alike(), noise=0.0)
    measured = build_pipeline(config, tmp_path, events.append, device=device)
    measured.run(until="profile")
    options = RunOptions(until="profile")
    assert before_the_phone_is_asked(config, pipeline(tmp_path, config), options) is None
    assert phone_time(config, measured, measured.status(until="profile")) is None
    again = before_the_phone_is_asked(
        config, pipeline(tmp_path, config), RunOptions(until="profile", force=("profile",))
    )
    assert again is not None
    record = measured.store.latest("profile")
    assert record is not None
    assert again.seconds["profile"] == pytest.approx(record.seconds), "experience counts"


def test_a_run_tells_it_first_and_a_dry_run_too(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    # The precision is given: on some processors it would be tried first.
    settings = 'device: android:nobody\ntraining: {precision: "32"}\n'
    (tmp_path / "pipeline.yaml").write_text(settings, encoding="utf-8")
    selection = Selection(tmp_path / "pipeline.yaml")
    with pytest.raises(NoUsableDeviceError, match="nobody"):
        run_pipeline(RunOptions(selection), open_project(selection))
    first, second, *_ = capfd.readouterr().err.splitlines()
    assert "Measuring on the phone takes about" in first
    assert "9 stages to run" in second
    outcome = run_pipeline(RunOptions(selection, dry_run=True), open_project(selection))
    assert "Measuring on the phone takes about" in outcome.text
    assert outcome.document["phone"]["seconds"].keys() == {
        "profile",
        "latency",
        "precheck",
        "prune",
        "verify",
    }

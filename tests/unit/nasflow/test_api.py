"""The Python face: its examples run as they are written."""

from __future__ import annotations

import doctest
from pathlib import Path

import pytest
from regression.driver import SimulatedDevice

from nasflow import api
from nasflow.base.errors import UsageError
from pipeline.events import Event, Planned, Progress
from pipeline.reporters.event_file import EventFileReader, newest_events

TINY = Path(__file__).resolve().parents[2] / "integration" / "tiny"


def test_the_examples_of_the_python_face_run(tmp_path: Path) -> None:
    for file in TINY.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    names = {"api": api, "tiny": tmp_path, "simulated": SimulatedDevice()}
    outcome = doctest.testmod(api, extraglobs=names, optionflags=doctest.FAIL_FAST)
    assert (outcome.failed, outcome.attempted > 8) == (0, True)


def test_a_run_leaves_its_events_for_whoever_looks_on(tmp_path: Path) -> None:
    for file in TINY.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    told: list[Event] = []
    api.run(tmp_path / "pipeline.yaml", device=SimulatedDevice(), until="profile", on_event=told.append)
    path = newest_events(tmp_path / "artifacts" / "runs")
    assert path is not None
    assert (path.parent / "run.log").is_file()
    reader = EventFileReader(path)
    kept = [event for _, event in reader.read()]
    assert reader.closed
    assert [event for event in kept if not isinstance(event, Progress)] == [
        event for event in told if not isinstance(event, Progress)
    ]
    (plan,) = (event for event in kept if isinstance(event, Planned))
    assert plan.stages == ("profile",)
    assert plan.seconds[0] > 0


def test_every_function_of_the_python_face_is_documented() -> None:
    assert all(getattr(api, name).__doc__ for name in api.__all__)


def test_a_folder_without_a_network_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"network\.json does not exist"):
        api.load_network(tmp_path)

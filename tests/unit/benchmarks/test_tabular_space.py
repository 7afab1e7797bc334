"""The table of finished networks can be gone on with, and says where it cannot."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from benchmarks import _kept_lines, tabular_space
from benchmarks._kept_lines import KeptLines
from benchmarks._tabular import CONTRAST, TABULAR, Run, Tabular, TrainedSpace
from nasflow.base.errors import UsageError


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setattr(_kept_lines, "user_cache_path", lambda _name: tmp_path)
    return tmp_path


def test_a_table_has_how_it_was_made_and_a_line_for_each_training_in_their_order(kept: Path) -> None:
    few = replace(TABULAR, name="few", seeds=(0, 1))
    object.__setattr__(few, "space", TABULAR.space)
    object.__setattr__(few, "networks", TABULAR.networks[:2])
    runs = [Run(choices, seed, 80.0, 70.0) for seed in few.seeds for choices in few.networks]
    runs = [replace(run, test_percent=70.0 + n) for n, run in enumerate(runs)]
    lines = KeptLines("few", [json.dumps(few.provenance(), sort_keys=True)])
    lines.path.parent.mkdir()
    done = [json.dumps([("few", runs[n].seed, *runs[n].choices), vars(runs[n])]) + "\n" for n in (2, 0, 3, 1)]
    lines.path.write_text("".join(done))
    path = kept / "table.jsonl"
    tabular_space.make(few, path)
    head, *rows = path.read_text(encoding="utf-8").splitlines()
    assert json.loads(head) == few.provenance()
    assert [json.loads(row)["test_percent"] for row in rows] == [70.0, 71.0, 72.0, 73.0]
    assert TrainedSpace.read(few, path).test_percent(few.networks[0]) == 71.0
    before = path.read_bytes()
    tabular_space.make(few, path)
    assert path.read_bytes() == before, "a table that is there is not made again"


def test_a_table_that_was_made_otherwise_is_left_alone_and_says_in_what(tmp_path: Path) -> None:
    head = TABULAR.provenance()
    recipe = {key: value for key, value in head["recipe"].items() if key != "epochs"} | {"batch_size": 7}
    path = tmp_path / "table.jsonl"
    path.write_text(json.dumps(head | {"recipe": recipe}) + "\n", encoding="utf-8")
    before = path.read_bytes()
    tabular_space.make(TABULAR, path)
    assert path.read_bytes() == before
    assert tabular_space.made_otherwise(TABULAR, path) == ["recipe.batch_size", "recipe.epochs"]


@pytest.mark.parametrize(("of", "trainings"), [(TABULAR, 441), (CONTRAST, 312)])
def test_a_table_that_lacks_trainings_is_no_truth(of: Tabular, trainings: int, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=f"lacks {trainings} trainings"):
        TrainedSpace.read(of, tmp_path / "none.jsonl")


@pytest.mark.parametrize(("of", "paths", "networks"), [(TABULAR, 243, 147), (CONTRAST, 192, 156)])
def test_skips_at_different_places_are_one_network(of: Tabular, paths: int, networks: int) -> None:
    assert len(of.paths) == of.space.size == paths
    assert len({of.keys(choices) for choices in of.networks}) == len(of.networks) == networks


def test_a_table_is_made_on_one_thread_and_gives_the_others_back() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with tabular_space.one_thread():
            assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)

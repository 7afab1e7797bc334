"""The table of finished networks can be gone on with, and says where it cannot."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from benchmarks import tabular_space
from nasflow.base.errors import UsageError


@pytest.fixture
def nothing_to_train(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tabular_space, "SEEDS", ())


@pytest.mark.parametrize("torn", [None, "", '{"data": {"na'])
def test_a_table_that_was_killed_in_its_first_line_is_begun_anew(
    nothing_to_train: None, tmp_path: Path, torn: str | None
) -> None:
    path = tmp_path / "table.jsonl"
    if torn is not None:
        path.write_text(torn, encoding="utf-8")
    tabular_space.make(path)
    (head,) = path.read_text(encoding="utf-8").splitlines()
    assert json.loads(head) == tabular_space.provenance()


def test_a_table_that_was_begun_otherwise_is_left_alone(nothing_to_train: None, tmp_path: Path) -> None:
    path = tmp_path / "table.jsonl"
    path.write_text('{"seeds": [7]}\n', encoding="utf-8")
    with pytest.raises(UsageError, match="begun in another way"):
        tabular_space.make(path)
    assert path.read_text(encoding="utf-8") == '{"seeds": [7]}\n'


def test_a_table_that_lacks_trainings_is_no_truth(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="lacks 441 trainings"):
        tabular_space.TrainedSpace.read(tmp_path / "none.jsonl")


def test_skips_at_different_places_are_one_network() -> None:
    assert tabular_space.tabular_space().size == 243
    networks = tabular_space.distinct_networks()
    assert len({tabular_space.block_keys(choices) for choices in networks}) == len(networks) == 147


def test_a_table_is_made_on_one_thread_and_gives_the_others_back() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with tabular_space.one_thread():
            assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)

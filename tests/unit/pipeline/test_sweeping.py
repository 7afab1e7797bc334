from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import pytest
from toy_pipeline import Alone, Toy

from nasflow.base.errors import NoUsableDeviceError
from pipeline.runner import Pipeline


@pytest.fixture(autouse=True)
def _no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_a_sweep_leaves_exactly_what_a_lone_run_would_have_made(tmp_path: Path) -> None:
    Toy(tmp_path / "lone").run()
    for settings in ({"rows": 6}, {"factor": 5}, {"seed": 9}, {}):
        toy = Toy(tmp_path / "long", **settings)
        toy.run()
    before = files(tmp_path / "long")
    planned = toy.pipeline.sweep(dry_run=True)
    assert files(tmp_path / "long") == before
    freed = toy.pipeline.sweep()
    assert freed == planned
    assert freed.files == len(before - files(tmp_path / "long"))
    assert freed.total_bytes == sum(freed.bytes_by_kind.values()) > 0
    assert set(freed.bytes_by_kind) == {"blobs", "documents", "records"}
    assert files(tmp_path / "long") == files(tmp_path / "lone")
    assert toy.stale() == {}
    assert toy.pipeline.sweep().files == 0


def interrupted(toy: Toy, step: str) -> None:
    def stop(event: object) -> None:
        if step in toy.notes.steps:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Pipeline(toy.pipeline.stages, toy.store, stop).run()


def test_unfinished_work_of_the_present_configuration_is_kept_and_other_work_is_not(tmp_path: Path) -> None:
    interrupted(Toy(tmp_path, rows=6), "draw 3")
    toy = Toy(tmp_path)
    interrupted(toy, "draw 2")
    assert len(toy.store.scratch_folders("draw")) == 2
    freed = toy.pipeline.sweep()
    assert set(freed.bytes_by_kind) == {"scratch"}
    assert len(toy.store.scratch_folders("draw")) == 1
    after = Toy(tmp_path)
    after.run()
    assert after.notes.steps[0] == "draw 3"


def test_unfinished_work_behind_a_stale_stage_is_kept(tmp_path: Path) -> None:
    toy = Toy(tmp_path)
    interrupted(toy, "double 2")
    draw = toy.store.latest("draw")
    assert draw is not None
    toy.store.record_path("draw", draw.fingerprint).unlink()
    toy.pipeline.sweep()
    after = Toy(tmp_path)
    after.run()
    assert [step for step in after.notes.steps if step.startswith("double")] == ["double 3"]


def test_the_unfinished_work_of_a_forced_run_is_kept(tmp_path: Path) -> None:
    toy = Toy(tmp_path)
    toy.run()
    toy.notes.steps.clear()

    def stop(event: object) -> None:
        if "double 1" in toy.notes.steps:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Pipeline(toy.pipeline.stages, toy.store, stop).run(force=["double"])
    assert toy.pipeline.sweep().files == 0
    after = Toy(tmp_path)
    after.run()
    assert after.notes.steps == ["double 2", "double 3"]


def test_the_latest_output_of_a_stale_stage_is_kept(tmp_path: Path) -> None:
    Toy(tmp_path).run()
    Toy(tmp_path, factor=3).pipeline.sweep()
    assert Toy(tmp_path).stale() == {}


def test_without_its_device_nothing_of_a_stage_is_thrown_away(tmp_path: Path) -> None:
    @dataclass(frozen=True)
    class Unplugged(Alone):
        def environment(self) -> dict[str, str]:
            raise NoUsableDeviceError("No phone is connected.")

    for seed in (1, 2):
        toy = Toy(tmp_path, seed=seed)
        toy.run()
    draw, double, _, *rest = toy.pipeline.stages
    Pipeline([draw, double, Unplugged(2, toy.notes), *rest], toy.store, toy.events.append).sweep()
    assert len(list(toy.store.records("alone"))) == 2
    assert len(list(toy.store.records("sum"))) == 2
    assert len(list(toy.store.records("draw"))) == 1


def test_leftovers_of_killed_writes_go_and_strangers_files_stay(tmp_path: Path) -> None:
    toy = Toy(tmp_path)
    toy.run()
    strangers = {"README.md", "report.html", "objects/notes.txt", "runs/x/run.log", "scratch/mine/x"}
    leftovers = {
        ".lock.owner.0123.tmp",
        "objects/ab/.abcdef.0123.tmp",
        "records/draw/.f.json.0123.tmp",
        "scratch/.draw-0123456789abcdef.0123.tmp/rows.log",
    }
    before = files(tmp_path)
    for name in strangers | leftovers:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"12345")
    assert toy.store.usage()["left over"] == 20
    freed = toy.pipeline.sweep()
    assert freed.files == 4
    assert freed.bytes_by_kind == {"left over": 20}
    assert files(tmp_path) == before | strangers


def test_damaged_records_are_swept_with_what_they_alone_needed(tmp_path: Path) -> None:
    toy = Toy(tmp_path)
    toy.run()
    draw = toy.store.latest("draw")
    assert draw is not None
    toy.store.record_path("draw", draw.fingerprint).write_bytes(b"damaged")
    freed = toy.pipeline.sweep()
    assert set(freed.bytes_by_kind) == {"blobs", "documents", "records"}
    after = Toy(tmp_path)
    after.run()
    assert after.notes.ran == ["draw"]


def test_usage_counts_every_byte_once(tmp_path: Path) -> None:
    toy = Toy(tmp_path)
    interrupted(toy, "double 2")
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "run.log").write_bytes(b"123")
    usage = toy.store.usage()
    assert sum(usage.values()) == sum((tmp_path / name).stat().st_size for name in files(tmp_path))
    assert usage["logs"] == 3
    assert min(usage["blobs"], usage["documents"], usage["records"], usage["scratch"]) > 0

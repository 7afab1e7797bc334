"""What a run refuses, or warns of, before any stage works."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.sample_documents import sample_documents
from support.scripted_device import ScriptedDevice
from support.toy_pipeline import ToyPipeline
from support.toy_search import latency_model

from android_bench.device import Device
from nasflow.assemble import build_stages
from nasflow.base.errors import InfeasibleTargetError
from nasflow.base.processes import usable_cores
from nasflow.cli.app import main
from nasflow.cli.request import RunOptions, Selection
from nasflow.commands.beforehand import check_images, doubtful_settings
from nasflow.commands.project import open_project
from nasflow.commands.run import run_pipeline
from nasflow.config import PipelineConfig
from pipeline.events import Emit
from pipeline.runner import Pipeline
from stages.space import SpaceConfig, load_space

HSWISH = """
name: hswish
resolution: 32
classes: 10
stem: {width: 8}
stages:
  - {width: 8, layers: 6, stride: 2}
head_width: 16
candidates:
  - {kernel: 3, expansion: 2, activation: hswish}
  - {kernel: 3, expansion: 2}
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "pipeline.yaml"
    path.write_text("seed: 1\n", encoding="utf-8")
    return path


@pytest.mark.parametrize("words", [["run"], ["run", "--dry-run"], ["search"], ["verify", "--dry-run"]])
def test_a_mistyped_folder_of_images_is_told_before_anything_is_measured(
    config: Path, words: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    code = main([*words, "--config", str(config), "--set", "data.path=imagse"])
    error, hint = [line for line in capfd.readouterr().err.splitlines() if line][-2:]
    assert code == 8
    assert error == f"error: data.path: {config.parent / 'imagse'} does not exist."
    assert "Correct data.path" in hint
    assert not list(config.parent.glob("artifacts/records/*"))


def test_what_reads_no_images_needs_no_folder_of_them(
    config: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    words = ["latency", "--dry-run", "--config", str(config), "--set", "data.path=nowhere"]
    assert main(words) == 0
    assert "profile" in capfd.readouterr().out


def test_stages_that_have_run_need_their_folder_no_more(config: Path) -> None:
    project = open_project(Selection(config, ("data.path=nowhere",)))
    check_images(project, project.pipeline(lambda _event: None), [])


def test_more_threads_than_cores_are_warned_of(config: Path, capfd: pytest.CaptureFixture[str]) -> None:
    words = ["run", "--dry-run", "--config", str(config), "--set"]
    assert main([*words, "runtime.threads=64"]) == 0
    told = " ".join(capfd.readouterr().out.split())
    assert f"runtime.threads is 64, but this computer has only {usable_cores()} core" in told
    assert main([*words, f"runtime.threads={usable_cores()}", "--json"]) == 0
    assert "runtime.threads is" not in json.dumps(capfd.readouterr().out)


def test_what_the_test_images_can_show_is_told_before_a_search(
    config: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", "--dry-run", "--config", str(config)]) == 0
    assert "10,000 test images: differences under 0.9 points cannot be shown" in capfd.readouterr().out
    assert main(["run", "--dry-run", "--config", str(config), "--json"]) == 0
    shown = json.loads(capfd.readouterr().out)["test_images"]
    assert shown["test_images"] == 10_000
    assert 0.8 < shown["difference_points"] < 0.9
    assert main(["latency", "--dry-run", "--config", str(config)]) == 0
    assert "test images" not in capfd.readouterr().out


@pytest.mark.parametrize("device", ["android", "android:R5CT1"])
def test_a_phones_cores_are_not_this_computers(config: Path, device: str) -> None:
    project = open_project(Selection(config, ("runtime.threads=64", f"device={device}")))
    pipeline = project.pipeline(lambda _event: None)
    stages = pipeline.status(environment=lambda _stage: {})
    assert doubtful_settings(project.config, pipeline, stages) == []


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ((), True),
        (("convert.require_one_partition=false",), False),
        (("convert.precisions=[float16]",), False),
        (("device=android", "runtime.delegate=gpu"), False),
        (("space.name=fashion",), False),
    ],
)
def test_an_int8_file_that_h_swish_prevents_is_told_before_anything_is_measured(
    config: Path, settings: tuple[str, ...], told: bool
) -> None:
    """The networks' other files are made: nothing is refused."""
    (config.parent / "hswish.yaml").write_text(HSWISH, encoding="utf-8")
    project = open_project(Selection(config, ("space.name=hswish.yaml", *settings)))
    pipeline = project.pipeline(lambda _event: None)
    pipeline.check()
    stages = pipeline.status(environment=lambda _stage: {})
    said = [text for text in doubtful_settings(project.config, pipeline, stages) if "h-swish" in text]
    assert len(said) == told
    assert all("gets no int8 file" in text for text in said)


class Measured(ToyPipeline):
    """The latency model is there; search and prune are the real stages, and stale."""

    def __call__(
        self, config: PipelineConfig, base_dir: Path, emit: Emit, *, device: Device | None = None
    ) -> Pipeline:
        toy = super().__call__(config, base_dir, emit, device=device)
        real = {stage.name: stage for stage in build_stages(config, base_dir, ScriptedDevice({}))}
        own = [real[s.name] if s.name in ("search", "prune") else s for s in toy.stages]
        return Pipeline(own, toy.store, emit)


LATENCY = latency_model(load_space(SpaceConfig()))


@pytest.mark.parametrize("dry_run", [True, False])
@pytest.mark.parametrize(
    ("target_ms", "minimum_share", "words"),
    [
        (1e-6, 0.9, r"target\.pick_ms: no network of the space takes 1e-06 ms or less"),
        # Above the slowest one but for a rounding there is none: a share of almost 1 is used by none.
        (LATENCY.feasible_ms[0] * 1.001, 0.99999, r"no network of space \w+ takes between"),
    ],
    ids=["impossible", "gap"],
)
def test_a_target_of_prunes_that_no_network_meets_is_told_before_the_search(
    config: Path, dry_run: bool, target_ms: float, minimum_share: float, words: str
) -> None:
    toy = Measured(documents={**sample_documents(), "latency": LATENCY})
    run_pipeline(RunOptions(until="latency"), open_project(Selection(config), toy))
    settings = (
        f"target.pick_ms={target_ms}",
        f"target.minimum_share={minimum_share}",
        f"target.ms={LATENCY.feasible_ms[1]}",
    )
    with pytest.raises(InfeasibleTargetError, match=words):
        run_pipeline(RunOptions(dry_run=dry_run), open_project(Selection(config, settings), toy))
    # Without a latency model there is nothing to hold a target against yet.
    toy = Measured(documents=toy.documents)
    chosen = open_project(Selection(config, (*settings, "artifacts=other")), toy)
    assert run_pipeline(RunOptions(dry_run=True), chosen).exit_code == 0

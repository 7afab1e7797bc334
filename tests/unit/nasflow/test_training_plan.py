"""What is decided once about training on this computer: kept, reused, and only where it may be decided."""

from __future__ import annotations

from pathlib import Path

import pytest

from nasflow.assemble import build_pipeline
from nasflow.base.text import human_duration
from nasflow.cli.request import Selection
from nasflow.commands import training_plan
from nasflow.commands.project import open_project
from nasflow.commands.status import work_ahead
from nasflow.commands.training_plan import (
    FILE_NAME,
    at_measured_pace,
    decide,
    lengths_of,
    planned,
    shortens,
)
from nasflow.config import PipelineConfig
from nasflow.reference import QUICK_START, pipeline_yaml
from pipeline.runner import Pipeline
from stages.training.budget import Lengths, Pace
from stages.training.precision import Hardware, PrecisionChoice, Tried

SHORTEST = Lengths(warmup=0, search=1, training=1)


def ignore(_event: object) -> None:
    """Nobody listens."""


def pipeline_of(config: PipelineConfig, folder: Path) -> Pipeline:
    return build_pipeline(config, folder, ignore)


@pytest.fixture
def snail(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A computer that takes a second for an image; what it was asked to measure."""
    asked: list[str] = []

    def measure(*_settings: object) -> Pace:
        asked.append("pace")
        return Pace(supernet_image_ms=1000, baseline_image_ms=1000, baseline_macs=10**7)

    monkeypatch.setattr("stages.training.pace.measure_pace", measure)
    monkeypatch.setattr(training_plan, "bf16_hardware", lambda: Hardware(cpu=False, gpu=False))
    return asked


def decided(config: PipelineConfig, folder: Path) -> tuple[PipelineConfig, list[tuple[str, bool]]]:
    told: list[tuple[str, bool]] = []
    settled = decide(
        config,
        folder,
        folder / "artifacts",
        pipeline_of(config, folder),
        lambda text, warning: told.append((text, warning)),
    )
    return settled, told


def test_a_slow_computer_is_told_before_the_run_and_measured_once(tmp_path: Path, snail: list[str]) -> None:
    config, told = decided(QUICK_START, tmp_path)
    assert lengths_of(config) == SHORTEST
    ((text, warning),) = told
    assert warning and "training.epochs 1 (not 2)" in text and "nasflow run --full-length" in text
    again, nothing = decided(QUICK_START, tmp_path)
    assert again == config and not nothing
    assert snail == ["pace"]
    assert planned(QUICK_START, tmp_path / "artifacts") == config


def test_what_was_told_when_it_was_decided_is_what_the_stages_are_said_to_take(
    tmp_path: Path, snail: list[str]
) -> None:
    config, ((text, _),) = decided(QUICK_START, tmp_path)
    artifacts, pipeline = tmp_path / "artifacts", pipeline_of(config, tmp_path)
    guessed = pipeline.status()
    stages = at_measured_pace(QUICK_START, artifacts, pipeline, guessed)
    seconds = sum(stage.estimate_seconds for stage in stages)
    assert f"it takes about {human_duration(seconds)}" in text
    assert f"{len(stages)} stages to run, about {human_duration(seconds)}" == work_ahead(stages)
    changed = {old.name for old, new in zip(guessed, stages, strict=True) if old != new}
    assert changed == {"search", "finetune", "baseline"}
    assert at_measured_pace(PipelineConfig(), artifacts, pipeline, guessed) == guessed, "never measured"


def test_the_epochs_that_were_decided_enter_the_fingerprints_and_the_budget_does_not(
    tmp_path: Path, snail: list[str]
) -> None:
    config, _ = decided(QUICK_START, tmp_path)
    short, whole = (pipeline_of(c, tmp_path) for c in (config, QUICK_START))
    settings = {stage.name: stage.settings() for stage in short.stages}
    assert settings["search"]["config"]["epochs"] == 1
    assert settings["finetune"]["config"]["epochs"] == settings["baseline"]["recipe"]["epochs"] == 1
    assert "budget_minutes" not in settings["finetune"]["config"]
    changed = {
        s.name for s, t in zip(short.stages, whole.stages, strict=True) if s.settings() != t.settings()
    }
    assert changed == {"search", "finetune", "baseline", "convert"}  # which may fine-tune for int8


def test_a_file_that_is_damaged_is_decided_again(tmp_path: Path, snail: list[str]) -> None:
    decided(QUICK_START, tmp_path)
    (tmp_path / "artifacts" / FILE_NAME).write_text('{"plans": {"x": 7}}')
    config, _ = decided(QUICK_START, tmp_path)
    assert lengths_of(config) == SHORTEST and snail == ["pace", "pace"]


def test_who_asks_for_other_epochs_gets_them(tmp_path: Path, snail: list[str]) -> None:
    more = QUICK_START.model_copy(update={"search": QUICK_START.search.model_copy(update={"epochs": 20})})
    unlimited = QUICK_START.model_copy(
        update={"training": QUICK_START.training.model_copy(update={"budget_minutes": None})}
    )
    for config in (more, unlimited, PipelineConfig()):
        assert not shortens(config)
        assert decided(config, tmp_path) == (config, [])
    assert not snail and not (tmp_path / "artifacts").exists()


def test_a_fast_computer_keeps_all_epochs_and_is_told_nothing(
    tmp_path: Path, snail: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    quick = Pace(supernet_image_ms=0.01, baseline_image_ms=0.01, baseline_macs=10**7)
    monkeypatch.setattr("stages.training.pace.measure_pace", lambda *_settings: quick)
    config, told = decided(QUICK_START, tmp_path)
    assert (config, told) == (QUICK_START, [])
    assert (tmp_path / "artifacts" / FILE_NAME).exists()


def test_precision_is_decided_once_where_the_processor_has_a_choice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[str] = []

    def choose(*_settings: object) -> PrecisionChoice:
        tried.append("precision")
        half = "bf16" if len(tried) == 1 else "32"
        return PrecisionChoice.model_validate(
            {"precision": half, "float32": Tried(step_ms=100, loss=1), "bfloat16": Tried(step_ms=50, loss=1)}
        )

    monkeypatch.setattr(training_plan, "bf16_hardware", lambda: Hardware(cpu=True, gpu=False))
    monkeypatch.setattr("stages.training.precision.try_precisions", choose)
    config, told = decided(PipelineConfig(), tmp_path)
    again, _ = decided(PipelineConfig(), tmp_path)
    assert config.training.precision == again.training.precision == "bf16"
    assert tried == ["precision"]
    ((text, warning),) = told
    assert "bfloat16" in text and not warning
    assert {
        s.settings()["precision"] for s in pipeline_of(config, tmp_path).stages if s.name == "search"
    } == {"bf16"}
    fixed = PipelineConfig.model_validate({"training": {"precision": "32"}})
    assert decided(fixed, tmp_path)[0] == fixed


def test_every_command_reads_the_configuration_with_what_was_decided(
    tmp_path: Path, snail: list[str]
) -> None:
    path = tmp_path / "pipeline.yaml"
    path.write_text(pipeline_yaml())
    before = open_project(Selection(path))
    assert before.config == QUICK_START
    decided(before.config, tmp_path)
    assert lengths_of(open_project(Selection(path)).config) == SHORTEST
    whole = open_project(Selection(path, ("training.budget_minutes=null",)))
    assert lengths_of(whole.config) == lengths_of(QUICK_START)

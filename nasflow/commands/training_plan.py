"""What is decided once about training on this computer, and kept beside the results: precision and epochs.

Both depend on timings, and must not come out otherwise in the next run: ``training_plan.json`` in the
artifacts folder holds them, by the settings that they were decided for. Configurations are read with them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError

from nasflow.assemble import resolve_data
from nasflow.base.files import read_or_none, write_atomic
from nasflow.base.text import human_duration
from nasflow.config import PipelineConfig
from nasflow.reference import QUICK_START
from pipeline.artifact import Record, canonical_json, sha256_hex
from pipeline.freshness import StageStatus
from pipeline.runner import Pipeline
from pipeline.selection import needed_for
from stages.baseline import Baseline
from stages.data.config import open_dataset
from stages.nas.config import architecture_share
from stages.prune import Prune
from stages.search import Search
from stages.training.budget import Lengths, Pace, Shortened, Workload, fit
from stages.training.precision import PrecisionChoice, bf16_hardware

FILE_NAME = "training_plan.json"
KEYS = {
    "warmup": "search.warmup_epochs",
    "search": "search.epochs",
    "training": "training.epochs",
}
SLOW = 1.25
"""A run that takes so many times the budget at its shortest is warned of."""


class TrainingPlan(Record):
    """Decisions for one set of settings; None: there was nothing to decide."""

    precision: PrecisionChoice | None = None
    lengths: Lengths | None = None
    pace: Pace | None = None


class TrainingPlans(Record):
    """All decisions of an artifacts folder, by the digest of the settings that they are for."""

    schema_version: int = 1
    plans: dict[str, TrainingPlan] = Field(default_factory=dict)


def lengths_of(config: PipelineConfig) -> Lengths:
    """The epochs that a configuration asks for."""
    return Lengths(
        warmup=config.search.warmup_epochs,
        search=config.search.epochs,
        training=config.training.epochs,
    )


def shortens(config: PipelineConfig) -> bool:
    """Whether epochs may be fewer than the configuration says: those of the quick start alone."""
    return config.training.budget_minutes is not None and lengths_of(config) == lengths_of(QUICK_START)


def planned(config: PipelineConfig, artifacts: Path) -> PipelineConfig:
    """The configuration with what was decided for it, if anything was."""
    if config.training.precision != "auto" and not shortens(config):
        return config
    plan = _read(artifacts).plans.get(_digest(config))
    return config if plan is None else _applied(config, plan)


def kept_pace(config: PipelineConfig, artifacts: Path) -> Pace | None:
    """The speed that was measured for a configuration, as it was asked for; None where none was."""
    plan = _read(artifacts).plans.get(_digest(config))
    return None if plan is None else plan.pace


def at_measured_pace(
    asked: PipelineConfig, artifacts: Path, pipeline: Pipeline, statuses: Sequence[StageStatus]
) -> tuple[StageStatus, ...]:
    """The same, trainings that never ran with the seconds that follow from the speed that was measured here.

    ``asked`` is the configuration before what was decided for it, and ``pipeline`` that of the decided one.
    Without a measured speed, everything stays as it is.
    """
    pace = kept_pace(asked, artifacts)
    if pace is None:
        return tuple(statuses)
    stages: dict[type, Any] = {type(stage): stage for stage in pipeline.stages}
    search, baseline = stages[Search], stages[Baseline]
    workload = _workload(pipeline, search, baseline, stages[Prune], open_dataset(search.data).counts["train"])
    lengths = Lengths(
        warmup=search.config.warmup_epochs, search=search.config.epochs, training=baseline.recipe.epochs
    )
    seconds = workload.training_seconds(lengths, pace)
    return tuple(
        replace(status, estimate_seconds=seconds[status.name])
        if status.record is None and status.name in seconds
        else status
        for status in statuses
    )


def would_be_planned(config: PipelineConfig, pipeline: Pipeline, images: int, pace: Pace) -> PipelineConfig:
    """The configuration with the epochs that would be decided on for this speed; nothing is kept."""
    if not shortens(config):
        return config
    stages: dict[type, Any] = {type(stage): stage for stage in pipeline.stages}
    workload = _workload(pipeline, stages[Search], stages[Baseline], stages[Prune], images)
    shortened = fit(lengths_of(config), workload, pace, 60 * (config.training.budget_minutes or 0))
    return _applied(config, TrainingPlan(lengths=shortened.lengths))


def decide(
    config: PipelineConfig,
    base_dir: Path,
    artifacts: Path,
    pipeline: Pipeline,
    tell: Callable[[str, bool], None],
    until: str | None = None,
) -> PipelineConfig:
    """The configuration with what is decided for it: as before, else after a short measurement.

    ``pipeline`` is that of the configuration, and runs nothing here. ``tell`` is given what a person should
    know before the run, and whether it is a warning. Nothing is decided where no stage that ``until`` needs
    trains. Raises MachineError, DatasetMissingError where images are needed and missing.
    """
    undecided = config.training.precision == "auto" and bf16_hardware().capable
    trains = any(isinstance(stage, Search | Baseline) for stage in needed_for(pipeline.stages, until))
    trains &= any(isinstance(stage, Baseline) for stage in pipeline.stages)  # whose networks are tried
    if not trains or (not undecided and not shortens(config)):
        return config
    kept = _read(artifacts)
    plan = kept.plans.get(_digest(config))
    if plan is None:
        plan = _decided(config, base_dir, pipeline, tell, undecided=undecided)
        plans = {**kept.plans, _digest(config): plan}
        content = TrainingPlans(plans=plans).model_dump_json(indent=2)
        write_atomic(artifacts / FILE_NAME, content.encode())
    return _applied(config, plan)


def _decided(
    config: PipelineConfig,
    base_dir: Path,
    pipeline: Pipeline,
    tell: Callable[[str, bool], None],
    *,
    undecided: bool,
) -> TrainingPlan:
    stages: dict[type, Any] = {type(stage): stage for stage in pipeline.stages}
    baseline: Baseline = stages[Baseline]
    reference = baseline.networks()[0][2]
    data = resolve_data(config.data, base_dir)
    recipe = config.training
    choice: PrecisionChoice | None = None
    if undecided:
        from stages.training.precision import try_precisions

        baseline.check_files()
        if config.offline:
            open_dataset(data).check_at_hand()
        choice = try_precisions(reference, recipe, data, config.seed)
        seen = [tried.step_ms for tried in (choice.float32, choice.bfloat16) if tried is not None]
        if seen:
            words = "bfloat16" if choice.precision == "bf16" else "float32"
            tell(f"training in {words}: a step takes {seen[0]:.0f} ms, in bfloat16 {seen[1]:.0f} ms.", False)
        recipe = recipe.model_copy(update={"precision": choice.precision})
    if not shortens(config):
        return TrainingPlan(precision=choice)
    from stages.training.pace import measure_pace

    search: Search = stages[Search]
    pace = measure_pace(search.space, reference, recipe, config.search.batch_size)
    workload = _workload(pipeline, search, baseline, stages[Prune], open_dataset(data).counts["train"])
    budget_seconds = 60 * (config.training.budget_minutes or 0)
    shortened = fit(lengths_of(config), workload, pace, budget_seconds)
    _tell(shortened, lengths_of(config), budget_seconds, tell)
    return TrainingPlan(precision=choice, lengths=shortened.lengths, pace=pace)


def _tell(
    shortened: Shortened, asked: Lengths, budget_seconds: float, tell: Callable[[str, bool], None]
) -> None:
    if shortened.lengths == asked:
        return
    before, after = asked.model_dump(), shortened.lengths.model_dump()
    changes = ", ".join(
        f"{key} {after[name]} (not {before[name]})"
        for name, key in KEYS.items()
        if after[name] != before[name]
    )
    tell(
        f"this computer would take about {human_duration(shortened.asked_seconds)}; with fewer epochs it "
        f"takes about {human_duration(shortened.seconds)}: {changes}. As many as the settings say: "
        "'nasflow run --full-length'.",
        shortened.seconds > SLOW * budget_seconds,
    )


def _workload(pipeline: Pipeline, search: Search, baseline: Baseline, prune: Prune, images: int) -> Workload:
    from nasflow.base.processes import usable_cores

    middle = prune.space.network(prune.space.middle_path()).macs
    other = [stage for stage in pipeline.stages if stage.name not in ("search", "finetune", "baseline")]
    return Workload(
        images=images,
        cores=usable_cores(),
        found=(middle,) * prune.most_networks,
        baselines=tuple(net.macs for _, _, net in baseline.networks()),
        other_seconds=sum(stage.estimate_seconds() for stage in other),
        architecture_share=architecture_share(search.config, images),
    )


def _applied(config: PipelineConfig, plan: TrainingPlan) -> PipelineConfig:
    training = config.training
    if plan.precision is not None:
        training = training.model_copy(update={"precision": plan.precision.precision})
    if plan.lengths is None:
        return config.model_copy(update={"training": training})
    lengths = plan.lengths
    return config.model_copy(
        update={
            "training": training.model_copy(update={"epochs": lengths.training}),
            "search": config.search.model_copy(
                update={"warmup_epochs": lengths.warmup, "epochs": lengths.search}
            ),
        }
    )


def _digest(config: PipelineConfig) -> str:
    """Of what a decision is for. Not of all that bears on the time: a decision that changed with it would
    make stages stale that the change does not concern.
    """
    settings = {
        "lengths": lengths_of(config).model_dump() if shortens(config) else None,
        "budget_minutes": config.training.budget_minutes if shortens(config) else None,
        "precision": config.training.precision,
        "space": config.space.model_dump(mode="json"),
        "source": config.data.source,
        "train_images": config.data.train_images,
        "batch_sizes": [config.search.batch_size, config.training.batch_size],
    }
    return sha256_hex(canonical_json(settings))


def _read(artifacts: Path) -> TrainingPlans:
    """What is kept; nothing where the file is missing or another version's: it is decided again."""
    content = read_or_none(artifacts / FILE_NAME)
    if content is None:
        return TrainingPlans()
    try:
        return TrainingPlans.model_validate_json(content)
    except ValidationError:
        return TrainingPlans()

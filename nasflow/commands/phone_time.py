"""How long a run will keep a phone busy, told before the phone is asked for anything."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from android_bench.device import PHONE_OVERHEAD
from nasflow.base.text import human_duration
from nasflow.cli.request import RunOptions
from nasflow.commands.folds import shared_stages
from nasflow.config import PipelineConfig
from nasflow.devices import on_a_phone
from pipeline.freshness import StageStatus
from pipeline.runner import Pipeline
from pipeline.stage import Stage
from pipeline.store.records import StageRecord
from stages.measurement.config import MACS_PER_MS, Measures


@dataclass(frozen=True)
class PhoneTime:
    """Seconds by stage, and in all where the phone's timings scatter."""

    seconds: Mapping[str, float]
    most_seconds: float

    def describe(self) -> str:
        """One line, with what is assumed."""
        parts = ", ".join(f"{name} {human_duration(seconds)}" for name, seconds in self.seconds.items())
        total = sum(self.seconds.values())
        words = f"Measuring on the phone takes about {human_duration(total)}"
        if len(self.seconds) > 1:
            words += f" ({parts})"
        if self.most_seconds > 1.1 * total:
            words += f", and up to {human_duration(self.most_seconds)} if its timings vary"
        return (
            f"{words}. Its speed is not known yet: "
            f"the estimate assumes {PHONE_OVERHEAD.timing_ms / 1000:g} s to start each timing and "
            f"{MACS_PER_MS / 1e6:.0f} million multiply-accumulates per millisecond."
        )


def phone_time(
    config: PipelineConfig,
    pipeline: Pipeline,
    stages: Sequence[StageStatus],
    folds: Iterable[Sequence[StageStatus]] = (),
) -> PhoneTime | None:
    """What the stale ones among these stages take on the phone; None without a phone, or with none stale.

    ``folds``: the other folds' stages. A stage that a phone has run before is taken to be as much longer than
    its guess as it was then.
    """
    if not on_a_phone(config.device):
        return None
    of_folds = (stages, *folds)
    seconds: dict[str, float] = {}
    most = 0.0
    for stage in pipeline.stages:
        if not isinstance(stage, Measures):
            continue
        for status in (status for of_fold in of_folds for status in of_fold):
            if status.name != stage.name or status.fresh:
                continue
            least_s, most_s = stage.device_seconds()
            experience = 1.0
            if _of_a_phone(status.record):
                experience = status.estimate_seconds / stage.estimate_seconds()
            seconds[stage.name] = seconds.get(stage.name, 0.0) + experience * least_s
            most += max(most_s, experience * least_s)
    return PhoneTime(seconds, most) if seconds else None


def before_the_phone_is_asked(
    config: PipelineConfig, pipeline: Pipeline, options: RunOptions, others: Iterable[Pipeline] = ()
) -> PhoneTime | None:
    """The same for a run that has not looked for its phone yet: as if it were the one of the last run.

    ``others``: the pipelines of the other folds, looked at where they will be run on a phone.
    """

    def environment(stage: Stage) -> Mapping[str, str]:
        if not isinstance(stage, Measures):
            return stage.environment()
        latest = pipeline.store.latest(stage.name)
        return latest.environment if latest is not None and _of_a_phone(latest) else {}

    stages = pipeline.status(options.until, options.from_stage, options.force, environment=environment)
    folds = (
        [
            status
            for status in other.status(environment=environment)
            if status.name not in shared_stages(pipeline, other)
        ]
        for other in others
        if len(stages) == len(pipeline.stages)
    )
    return phone_time(config, pipeline, stages, folds)


def _of_a_phone(record: StageRecord | None) -> bool:
    return record is not None and record.environment.get("device_kind") == "android"

"""The latency model that a project has of its device."""

from __future__ import annotations

from typing import TypeVar

from nasflow.base.errors import UsageError
from nasflow.base.text import plain_line
from pipeline.runner import Pipeline
from pipeline.stage import Stage
from stages.documents import LatencyModel, LatencyTable
from stages.latency_model import FitLatency
from stages.profile_ops import ProfileOps

MEASURE = "Measure this device first: nasflow latency."
Kind = TypeVar("Kind", bound=Stage)


def measured_model(pipeline: Pipeline, *, present: bool = False) -> tuple[LatencyTable, LatencyModel]:
    """Table and model of the present configuration, and of the device where it can be reached.

    ``present``: it must be, for what was measured last may be of another device. Raises UsageError, and with
    ``present`` what the device raises.
    """
    for status in pipeline.status(until="latency"):
        if status.problem is not None:
            if present:
                raise status.problem
            break  # the device is not at hand, and is not needed for this
        if not status.fresh:
            raise UsageError(
                f"There is no latency model for this configuration yet (stage {status.name}: "
                f"{status.why.rstrip('.')}).",
                hint=MEASURE,
            )
    return latest_model(pipeline)


def latest_model(pipeline: Pipeline) -> tuple[LatencyTable, LatencyModel]:
    """Table and model as they were measured last, also where the device has changed since.

    Raises UsageError where there are none of this space, or not of one another.
    """
    profile, latency = (status.record for status in pipeline.status(until="latency"))
    stage = stage_of(pipeline, FitLatency)
    space = stage.space.model_dump(mode="json")
    if (
        profile is None
        or latency is None
        or latency.inputs.get("table") != profile.output.sha256
        or latency.settings.get("space") != space
    ):
        raise UsageError(f"Space {stage.space.name} has not been measured on this device yet.", hint=MEASURE)
    return pipeline.store.document(profile, LatencyTable), pipeline.store.document(latency, LatencyModel)


def refuse_to_replace(pipeline: Pipeline, what: str) -> None:
    """Raises UsageError where this device was measured, or one of its kind, which ``what`` would replace."""
    status = pipeline.status(until="latency")[0]
    if status.fresh and status.record is not None and status.record.seconds > 0:
        there = pipeline.store.document(status.record, LatencyTable).device
        here = stage_of(pipeline, ProfileOps).device.info()
        if there.serial != here.serial:
            raise UsageError(
                f"The measured {plain_line(there.model)} is {plain_line(there.serial)}, and this one, of the "
                f"same kind, is {plain_line(here.serial)}. A project keeps one latency model of each kind; "
                f"{what} would replace it.",
                hint="Keep this device's results in a folder of their own: --set artifacts=FOLDER, here and "
                "whenever this device is meant. Or replace the measurement with --force.",
            )
        raise UsageError(
            f"This device has been measured already with this configuration; {what} would replace that "
            "measurement.",
            hint="Keep what was measured, or replace it with --force.",
        )


def stage_of(pipeline: Pipeline, kind: type[Kind]) -> Kind:
    """The pipeline's stage of that kind."""
    return next(stage for stage in pipeline.stages if isinstance(stage, kind))

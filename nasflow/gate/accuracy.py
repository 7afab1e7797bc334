"""Both models' answers for the test images of a folder, as their metadata want the images."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from android_bench.local.device import LocalDevice
from nasflow.base.errors import ConversionError, UsageError
from nasflow.base.text import plain_line
from nasflow.gate.judge import Judge, Normalization
from nasflow.gate.subjects import Subject
from pipeline.artifact import canonical_json, sha256_hex
from pipeline.events import Emit, Progress
from stages.conversion.inspector import ModelInspector
from stages.data.config import DataConfig, SizedData, open_dataset

if TYPE_CHECKING:
    from stages.documents.gate import AccuracyCompared

_CHUNK = 64
_SOURCE = "verify"


def accuracy_compared(
    candidate: Subject,
    baseline: Subject,
    data: DataConfig,
    most_points: float,
    emit: Emit,
    look: Callable[[], None],
    given: Normalization | None = None,
) -> AccuracyCompared:
    """Which of the test images both answer correctly, on this computer.

    ``data``: of a folder. ``look``: has its files read, and tells how that goes. ``given``: see
    :meth:`Judge.of`. Raises UsageError where the models do not classify these images, DatasetMissingError,
    ConversionError where this computer cannot run one, DeviceError.
    """
    import numpy as np

    from stages.verification.accuracy_gate import compare_accuracy

    judges = [Judge.of(subject, given) for subject in (candidate, baseline)]
    if given is not None and not any(judge.normalization is given for judge in judges):
        raise UsageError(
            "--mean and --std would do nothing: both models say how they take their pixels.",
            hint="Leave them out.",
        )
    dataset = open_dataset(data)
    look()
    places = [judge.places(dataset.class_names) for judge in judges]
    correct = []
    with ModelInspector() as inspector:  # a phone's models were only read before
        for judge in judges:
            inspector.inspect(judge.subject.content, name=judge.subject.name, depth="invoke")
    with LocalDevice() as here:
        for number, (judge, outputs_K) in enumerate(zip(judges, places, strict=True)):
            sized = SizedData.model_validate(
                {**{name: getattr(data, name) for name in DataConfig.model_fields}, "resolution": judge.side}
            )
            test = open_dataset(sized).load("test")
            answers_N = np.zeros(len(test), np.int64)
            for first in range(0, len(test), _CHUNK):
                part = slice(first, first + _CHUNK)
                pixels_NHWC = np.rint(test.batch_NHWC(part) * 127.5 + 127.5).astype(np.uint8)
                values_NL = here.run_model(judge.subject.content, judge.taken(pixels_NHWC))
                if not np.isfinite(values_NL).all():
                    raise ConversionError(
                        f"{judge.subject.name} answers with NaN or infinity for test images.",
                        hint="Convert or train it again.",
                    )
                answers_N[part] = values_NL.argmax(axis=1)
                done = number * len(test) + first + len(values_NL)
                emit(Progress(_SOURCE, done, 2 * len(test), "images", judge.subject.name))
            correct.append(answers_N == np.asarray(outputs_K)[test.labels])
    if len(correct[0]) < 2:
        raise UsageError(
            f"{plain_line(str(data.path))} has {len(correct[0])} test images.",
            hint="Give a folder with more images, or with a folder test/ in it.",
        )
    return compare_accuracy(
        correct[0],
        correct[1],
        most_points,
        classes=len(dataset.class_names),
        data_sha256=sha256_hex(canonical_json(dataset.identity())),
    )

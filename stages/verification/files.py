"""The found network's files, each precision beside float32: on all test images, in the same rounds."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from pipeline.stage import BlobStore
from stages.documents import ModelFile, VerifiedFile
from stages.verification.answers import Answers
from stages.verification.counted import Counted
from stages.verification.estimate import Estimate
from stages.verification.side_by_side import Tested
from stages.verification.statistics import paired_difference, wilson_interval


def verified_files(
    files: Mapping[str, ModelFile],
    answers: Mapping[str, Answers],
    tested: Tested,
    counted: Counted,
    store: BlobStore,
) -> tuple[VerifiedFile, ...]:
    """Figures of each file by its name in ``tested`` and ``counted``; one of them is float32."""
    (plain,) = (name for name, file in files.items() if file.precision == "float32")
    found = []
    for name, file in files.items():
        correct_N = tested.correct(name)
        accuracy = wilson_interval(int(correct_N.sum()), len(correct_N))
        difference = paired_difference(correct_N, tested.correct(plain)) if name != plain else None
        ratio = counted.ratio(name, plain) if name != plain else None
        found.append(
            VerifiedFile(
                precision=file.precision,
                input_type=file.input_type,
                model=file.blob,
                fine_tuned=file.quantization is not None and file.quantization.fine_tuned,
                operators=file.check.operators,
                delegate_partitions=file.check.delegate_partitions,
                accuracy_percent=100 * accuracy.value,
                accuracy_interval_95=_percent(accuracy),
                accuracy_points=None if difference is None else 100 * difference.value,
                accuracy_points_interval_95=None if difference is None else _percent(difference),
                calibration_error_percent=answers[name].calibration_error_percent,
                measurement=counted.combined(name),
                latency_ratio=None if ratio is None else ratio.value,
                latency_ratio_interval_95=None if ratio is None else ratio.interval,
                correct=store.put_bytes(np.packbits(correct_N).tobytes(), ".bits"),
            )
        )
    return tuple(found)


def _percent(estimate: Estimate) -> tuple[float, float]:
    return 100 * estimate.low, 100 * estimate.high

"""Which class each `.tflite` file answers for each test image, and how sure it says it is."""

from __future__ import annotations

import base64
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from android_bench.device import Device
from nasflow.base.errors import DeviceError
from pipeline.stage import Context
from stages.data.dataset import Images
from stages.data.model_input import model_input
from stages.documents import ModelFile

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_CHUNK_BYTES = 32 * 2**20  # of images unpacked at once


@dataclass(frozen=True)
class Answers:
    """What one file answers for the test images.

    ``classes_N``: index of the class, int64 (images,); ``probability_N`` what it says of that class, 0..1,
    float32 (images,). ``calibration_error_percent``: how far these probabilities are from how often the
    classes are right (:func:`calibration_error`).
    """

    classes_N: NDArray[np.int64]
    probability_N: NDArray[np.float32]
    calibration_error_percent: float


def answers_of(
    context: Context, files: Mapping[str, ModelFile], test: Images, device: Device
) -> tuple[dict[str, Answers], float]:
    """For each file's name what it answers, and the seconds that it took, earlier runs included.

    A file's answers are on the disk before the next one is asked. Raises DeviceError where a model does not
    run, or answers with something that is not a number.
    """
    import numpy as np

    done = {row["model"]: row for row in context.scratch.rows("answers")}
    for index, (name, file) in enumerate(files.items()):
        sha256 = file.blob.sha256
        if sha256 not in done:
            started = time.monotonic()
            answers = _ask(name, context.store.read_bytes(file.blob), file, test, device)
            done[sha256] = {
                "model": sha256,
                "answers": base64.b64encode(class_bytes(answers.classes_N)).decode(),
                "probabilities": base64.b64encode(answers.probability_N.astype("<f4").tobytes()).decode(),
                "calibration_error_percent": answers.calibration_error_percent,
                "seconds": time.monotonic() - started,
            }
            context.scratch.append("answers", done[sha256])
        context.progress((index + 1) * len(test), len(files) * len(test), "images", name)
    answered = {}
    for name, file in files.items():
        row = done[file.blob.sha256]
        classes_N = classes_in(base64.b64decode(row["answers"]))
        probability_N = np.frombuffer(base64.b64decode(row["probabilities"]), "<f4").astype(np.float32)
        answered[name] = Answers(classes_N, probability_N, row["calibration_error_percent"])
    return answered, float(sum(row["seconds"] for row in done.values()))


def class_bytes(classes: NDArray[np.int64]) -> bytes:
    """Indices of classes as they are stored: uint16, little endian."""
    return classes.astype("<u2").tobytes()


def classes_in(stored: bytes) -> NDArray[np.int64]:
    """The indices that :func:`class_bytes` has stored."""
    import numpy as np

    return np.frombuffer(stored, "<u2").astype(np.int64)


def calibration_error(
    confidence_N: NDArray[np.float64], correct_N: NDArray[np.bool_], bins: int = 15
) -> float:
    """Expected calibration error (arXiv 1706.04599, equation 3), 0..1.

    Images are put into ``bins`` by the probability of the class that is answered; it is the mean, over all
    images, of the difference between a bin's mean probability and its share of right answers.
    """
    import numpy as np

    places_N = np.clip((confidence_N * bins).astype(np.int64), 0, bins - 1)
    gap_B = np.bincount(places_N, weights=confidence_N - correct_N, minlength=bins)
    return float(np.abs(gap_B).sum() / max(1, len(confidence_N)))


def _ask(name: str, model: bytes, file: ModelFile, test: Images, device: Device) -> Answers:
    import numpy as np

    chunk = max(1, _CHUNK_BYTES // test.batch_NHWC(slice(0, 1)).nbytes)
    classes_N, confidence_N = np.zeros(len(test), np.int64), np.zeros(len(test))
    for first in range(0, len(test), chunk):
        part = slice(first, first + chunk)
        outputs = device.run_model(model, model_input(test.batch_NHWC(part), file.input_type))
        if not np.isfinite(outputs).all():
            raise DeviceError(
                f"{name}: the .tflite model answered with NaN or infinity.",
                hint="Convert it again: nasflow run --force convert.",
            )
        outputs_NK = outputs.reshape(len(outputs), -1).astype(np.float64)
        # The largest probability and the largest logit are of the same class.
        classes_N[part], largest_N1 = outputs_NK.argmax(axis=1), outputs_NK.max(axis=1, keepdims=True)
        if file.output == "logits":
            confidence_N[part] = 1 / np.exp(outputs_NK - largest_N1).sum(axis=1)
        else:
            confidence_N[part] = largest_N1[:, 0]
    error = calibration_error(confidence_N, np.equal(classes_N, test.labels))
    return Answers(classes_N, confidence_N.astype(np.float32), 100 * error)

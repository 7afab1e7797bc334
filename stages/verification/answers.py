"""Which class each `.tflite` file answers for each test image."""

from __future__ import annotations

import base64
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from android_bench.device import Device
from nasflow.base.errors import DeviceError
from pipeline.stage import Context
from stages.data.dataset import Images
from stages.documents import ConvertedNetwork

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_CHUNK_BYTES = 32 * 2**20  # of images unpacked at once


def predicted_classes(
    context: Context, networks: Sequence[ConvertedNetwork], test: Images, device: Device
) -> tuple[dict[str, NDArray[np.int64]], float]:
    """For each network's name the index of the class that it answers: int64 (images,).

    And the seconds that it took, earlier runs included. Each network's answers are on the disk before the
    next network is asked. Raises DeviceError where a model does not run, or answers with something that is
    not a number.
    """
    done = {row["model"]: row for row in context.scratch.rows("answers")}
    for index, network in enumerate(networks):
        sha256 = network.file().blob.sha256
        if sha256 not in done:
            started = time.monotonic()
            answers = _ask(network.name, context.store.read_bytes(network.file().blob), test, device)
            done[sha256] = {
                "model": sha256,
                "answers": base64.b64encode(class_bytes(answers)).decode(),
                "seconds": time.monotonic() - started,
            }
            context.scratch.append("answers", done[sha256])
        context.progress((index + 1) * len(test), len(networks) * len(test), "images", network.name)
    answered = {
        network.name: classes_in(base64.b64decode(done[network.file().blob.sha256]["answers"]))
        for network in networks
    }
    return answered, float(sum(row["seconds"] for row in done.values()))


def class_bytes(classes: NDArray[np.int64]) -> bytes:
    """Indices of classes as they are stored: uint16, little endian."""
    return classes.astype("<u2").tobytes()


def classes_in(stored: bytes) -> NDArray[np.int64]:
    """The indices that :func:`class_bytes` has stored."""
    import numpy as np

    return np.frombuffer(stored, "<u2").astype(np.int64)


def _ask(name: str, model: bytes, test: Images, device: Device) -> NDArray[np.int64]:
    import numpy as np

    chunk = max(1, _CHUNK_BYTES // test.batch_NHWC(slice(0, 1)).nbytes)
    answers = np.zeros(len(test), np.int64)
    for first in range(0, len(test), chunk):
        part = slice(first, first + chunk)
        outputs = device.run_model(model, test.batch_NHWC(part))
        if not np.isfinite(outputs).all():
            raise DeviceError(
                f"{name}: the .tflite model answered with NaN or infinity.",
                hint="Convert it again: nasflow run --force convert.",
            )
        # The largest probability and the largest logit are of the same class.
        answers[part] = outputs.reshape(len(answers[part]), -1).argmax(axis=1)
    return answers

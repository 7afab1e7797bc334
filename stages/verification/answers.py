"""Which test images each `.tflite` file classifies correctly."""

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


def correct_answers(
    context: Context, networks: Sequence[ConvertedNetwork], test: Images, device: Device
) -> tuple[dict[str, NDArray[np.bool_]], float]:
    """For each network's name a bool [images]; and the seconds that it took, earlier runs included.

    Each network's answers are on the disk before the next network is asked. Raises DeviceError where a
    model does not run, or answers with something that is not a number.
    """
    import numpy as np

    done = {row["model"]: row for row in context.scratch.rows("answers")}
    for index, network in enumerate(networks):
        sha256 = network.file().blob.sha256
        if sha256 not in done:
            started = time.monotonic()
            correct = _ask(network.name, context.store.read_bytes(network.file().blob), test, device)
            done[sha256] = {
                "model": sha256,
                "correct": base64.b64encode(np.packbits(correct).tobytes()).decode(),
                "seconds": time.monotonic() - started,
            }
            context.scratch.append("answers", done[sha256])
        context.progress((index + 1) * len(test), len(networks) * len(test), "images", network.name)
    bits = {
        network.name: np.unpackbits(
            np.frombuffer(base64.b64decode(done[network.file().blob.sha256]["correct"]), np.uint8),
            count=len(test),
        ).astype(bool)
        for network in networks
    }
    return bits, float(sum(row["seconds"] for row in done.values()))


def _ask(name: str, model: bytes, test: Images, device: Device) -> NDArray[np.bool_]:
    import numpy as np

    chunk = max(1, _CHUNK_BYTES // test.batch_NHWC(slice(0, 1)).nbytes)
    correct = np.zeros(len(test), bool)
    for first in range(0, len(test), chunk):
        part = slice(first, first + chunk)
        logits = device.run_model(model, test.batch_NHWC(part))
        if not np.isfinite(logits).all():
            raise DeviceError(
                f"{name}: the .tflite model answered with NaN or infinity.",
                hint="Convert it again: nasflow run --force convert.",
            )
        labels = test.labels[part]
        correct[part] = logits.reshape(len(labels), -1).argmax(axis=1) == labels
    return correct

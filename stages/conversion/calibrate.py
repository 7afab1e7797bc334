"""Between which values a network's activations lie, seen on training images."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from nasflow.base.errors import ConversionError, UsageError
from nasflow.base.files import disk_faults
from stages.conversion.converter import manner_of_death

if TYPE_CHECKING:
    from stages.conversion.parity import Unlabelled
    from stages.conversion.quantize import Ranges

WORKER = "stages.conversion.calibration_worker"


def calibration_indices(
    labels: NDArray[np.int64], count: int, class_names: Sequence[str], seed: int
) -> NDArray[np.int64]:
    """Which images are calibrated on: ``count`` at most, of each class as many as it has and others have.

    Raises UsageError where all are of one class: the ranges of what the others show would be guessed.
    """
    generator = np.random.default_rng(seed)
    shuffled = generator.permutation(len(labels))
    classes = np.unique(labels)
    if len(classes) < 2:
        names = ", ".join(class_names[int(label)] for label in classes) or "none"
        raise UsageError(
            f"the {len(labels)} training images that int8 would be calibrated on are all of one class "
            f"({names}); the network has {len(class_names)}.",
            hint="Calibrate on images of every class: see that each class has training images (nasflow "
            "data), or take int8 out of convert.precisions (or runtime.precision).",
        )
    # The first of every class, then the second of every class, and so on.
    place = np.empty(len(labels), np.int64)
    for label in classes:
        of_class = shuffled[labels[shuffled] == label]
        place[of_class] = np.arange(len(of_class))
    order = shuffled[np.argsort(place[shuffled], kind="stable")]
    return np.sort(order[:count])


def calibrated_ranges(model: bytes, images: Unlabelled, indices: NDArray[np.int64], *, name: str) -> Ranges:
    """Least and greatest value of all that a float32 model computes for chosen images, by tensor.

    In a child process, which what runs a model may bring down. ``name`` is the network's. Raises
    ConversionError where the child does not answer.
    """
    with tempfile.TemporaryDirectory(prefix="nasflow-calibrate-") as folder:
        network, pictures = Path(folder) / "network.tflite", Path(folder) / "images.npy"
        with disk_faults(pictures, "write"):
            network.write_bytes(model)
            np.save(pictures, images.batch_NHWC(indices))
        seconds = 60.0 + len(indices)
        try:
            child = subprocess.run(
                [sys.executable, "-P", "-m", WORKER, str(network), str(pictures)],
                capture_output=True,
                text=True,
                encoding="utf-8",
                errors="replace",
                timeout=seconds,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise _failure(name, f"was not done within {seconds:g} s", "") from error
    if child.returncode != 0:
        raise _failure(name, manner_of_death(child.returncode), child.stderr.strip())
    return {tensor: (low, high) for tensor, (low, high) in json.loads(child.stdout).items()}


def _failure(name: str, what: str, words: str) -> ConversionError:
    last = f" ({words.splitlines()[-1].strip()})" if words else ""
    return ConversionError(
        f"network {name} cannot be calibrated for int8: the process that ran it {what}{last}.",
        hint="Convert again (nasflow run --force convert); if it happens again, please report this network.",
        raw=words,
    )

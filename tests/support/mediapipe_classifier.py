"""What MediaPipe's ImageClassifier answers, asked in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

WORKER = Path(__file__).with_name("mediapipe_worker.py")


def classify(folder: Path, images_NHWC: NDArray[np.uint8], models: Sequence[Path]) -> list[Any]:
    """For each model ``[[name, score], ...]`` of each image, or what MediaPipe says against the model."""
    images = folder / "images.npy"
    np.save(images, images_NHWC)
    done = subprocess.run(
        [sys.executable, str(WORKER), str(images), *map(str, models)],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    said: list[Any] = json.loads(done.stdout)
    return said

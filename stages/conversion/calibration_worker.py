"""The child process that calibrates: ``python -P -m stages.conversion.calibration_worker MODEL IMAGES``.

Runs a float32 model on images (a ``.npy`` file, (N, height, width, channels)) and prints one JSON document:
the least and the greatest value of each tensor, by its name.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_quantizer.calibrator import CalibrationMode, Calibrator
from ai_edge_quantizer.recipe import static_wi8_ai8
from ai_edge_quantizer.recipe_manager import RecipeManager

Extremes = Mapping[str, Any]


def main(model: Path, images: Path) -> None:
    """Tell the ranges of all images together."""
    calibrator = Calibrator(
        model.read_bytes(),
        num_threads=1,
        mode=CalibrationMode.CALIBRATION_PROFILER_BASED,
        qsv_update_func=widest,
    )
    recipe = RecipeManager()
    recipe.load_quantization_recipe(static_wi8_ai8())
    signature = next(iter(calibrator.get_signature_list()))
    (source,) = calibrator.get_signature_list()[signature]["inputs"]
    images_NHWC = np.load(images, mmap_mode="r", allow_pickle=False)
    # A list, for the library goes through it twice; its images stay in the file.
    calibrator.calibrate({signature: [{source: image[np.newaxis]} for image in images_NHWC]}, recipe)
    found = {
        name: (float(np.min(values["min"])), float(np.max(values["max"])))
        for name, values in calibrator.get_model_qsvs().items()
    }
    sys.stdout.write(json.dumps(found))


def widest(before: Extremes, new: Extremes) -> Extremes:
    """The range of both together.

    Of its own accord the library takes a moving average, which cuts off what few images reach: on a trained
    MobileNetV2 the answers' signal-to-noise ratio was 16 dB with that, and 30 dB with this.
    """
    return {"min": np.minimum(before["min"], new["min"]), "max": np.maximum(before["max"], new["max"])}


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))

"""MediaPipe's ImageClassifier in a process of its own: ``python mediapipe_worker.py IMAGES.npy MODEL...``.

Prints one JSON document: for each model, in order, ``[[name, score], ...]`` for each image, the best
first; or what MediaPipe said of a model that it does not take.
"""

from __future__ import annotations

import json
import sys

import numpy as np


def main(images_path: str, models: list[str]) -> None:
    """Classify all images with all models."""
    sys.modules["tensorflow"] = None  # type: ignore[assignment]  # imported where it is, and never used
    import mediapipe as mp
    from mediapipe.tasks.python import BaseOptions
    from mediapipe.tasks.python.vision import ImageClassifier, ImageClassifierOptions

    images_NHWC = np.load(images_path)
    said: list[object] = []
    for model in models:
        options = ImageClassifierOptions(base_options=BaseOptions(model_asset_path=model))
        try:
            classifier = ImageClassifier.create_from_options(options)
        except (ValueError, RuntimeError, NotImplementedError) as error:
            said.append(str(error))
            continue
        with classifier:
            answers = [
                classifier.classify(mp.Image(image_format=mp.ImageFormat.SRGB, data=image))
                for image in images_NHWC
            ]
        said.append(
            [[[c.category_name, c.score] for c in answer.classifications[0].categories] for answer in answers]
        )
    sys.stdout.write(json.dumps(said))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])

"""The small networks by which doctor tries a device, in the precision that is to be measured there."""

from __future__ import annotations

from typing import NamedTuple

from stages.documents import Precision


class TrialModel(NamedTuple):
    """What a network is called, and its `.tflite` file."""

    name: str
    model: bytes


def trial_model(resolution: int, precision: Precision) -> TrialModel:
    """A narrow MobileNetV2 for images of so many pixels."""
    from stages.conversion.measured import measured_network
    from stages.space.mobilenet_v2 import mobilenet_v2

    net = mobilenet_v2(resolution=resolution, classes=10, width=0.35)
    return TrialModel(
        f"MobileNetV2 0.35 at {resolution} pixels", measured_network(net, precision, output="logits")
    )

"""The ONNX model of a conversion as one that can be measured and used: with the softmax that files end in."""

from __future__ import annotations

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper

from android_bench.device import Device
from nasflow.base.errors import ConversionError
from stages.conversion.parity import Tolerance, compare, figures, keeps
from stages.conversion.softmax import NAME
from stages.space.block_spec import ModelOutput


def with_onnx_output(logits_model: bytes, output: ModelOutput) -> bytes:
    """An exported model, whose one output are logits (1, classes), answering with ``output``.

    Raises ConversionError where it has other outputs.
    """
    if output == "logits":
        return logits_model
    model = onnx.load_from_string(logits_model)
    graph = model.graph
    if len(graph.output) != 1 or len(graph.output[0].type.tensor_type.shape.dim) != 2:
        raise ConversionError(
            f"the ONNX model has {len(graph.output)} outputs, and not one of logits (1, classes).",
            hint="Only logits become probabilities: convert it with output='logits', which adds nothing.",
        )
    graph.node.append(helper.make_node("Softmax", [graph.output[0].name], [NAME], axis=1))
    graph.output[0].name = NAME
    return bytes(model.SerializeToString())


def check_onnx_answers(
    onnx_model: bytes,
    model: bytes,
    images_NHWC: NDArray[np.float32],
    engine: Device,
    here: Device,
    tolerance: Tolerance,
    *,
    name: str,
) -> None:
    """Hold what ``engine`` answers by the ONNX model against what the `.tflite` file answers ``here``.

    Raises ConversionError where they differ by more than is allowed, DeviceError where one does not run.
    """
    expected, seen = (
        device.run_model(content, images_NHWC).reshape(len(images_NHWC), -1)
        for device, content in ((here, model), (engine, onnx_model))
    )
    ends = (here.info().runtime, engine.info().runtime)
    parity = compare(expected, seen, name=name, models=ends)
    if not keeps(parity, tolerance):
        raise ConversionError(
            f"network {name}: {ends[1]} answers otherwise by its ONNX model than {ends[0]} by its `.tflite` "
            f"file. {figures(parity, tolerance)}, on {len(images_NHWC)} test images.",
            hint="Convert again (nasflow run --force convert); if it happens again, please report it.",
        )

"""The steps of a conversion, each held against the one before it.

PyTorch -> ONNX -> TensorFlow -> TFLite, and the directly written model, which is what latencies were measured
with. The first step that changes what the network computes is named, and the first block that it changes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, get_args

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx.reference import ReferenceEvaluator

from android_bench.device import Device
from nasflow.base.errors import ConversionError
from stages.conversion.differing_block import first_differing_block
from stages.conversion.export import depthwise_weights
from stages.conversion.flatbuffer import Implementations, network_model
from stages.conversion.folding import folded_weights
from stages.conversion.parity import Tolerance, compare, figures, in_double, keeps
from stages.conversion.ways import split_indices
from stages.documents.conversion import Edge, EdgeCheck
from stages.nn.network import Network

Answers = NDArray[np.float32]
_ENDS: dict[Edge, tuple[str, str]] = {
    "torch_onnx": ("PyTorch", "ONNX"),
    "onnx_tensorflow": ("ONNX", "TensorFlow"),
    "tensorflow_tflite": ("TensorFlow", "TFLite"),
    "tflite_direct": ("TFLite", "the directly written model"),
}


class TensorflowAnswers(Protocol):
    """Runs an ONNX model as TensorFlow was given it (:mod:`stages.conversion.converter`)."""

    def answers(
        self,
        onnx_model: bytes,
        images_NHWC: NDArray[np.float32],
        *,
        name: str,
        depthwise: tuple[str, ...] = (),
        split: tuple[int, ...] = (),
    ) -> Answers:
        """What it answers, (n, classes). Raises ConversionError."""


@dataclass(frozen=True)
class Steps:
    """A network on its way: the models that a conversion makes one after the other."""

    module: Network
    onnx: bytes
    tflite: bytes
    implementations: Implementations


def check_edges(
    steps: Steps,
    images_NHWC: NDArray[np.float32],
    tensorflow: TensorflowAnswers,
    here: Device,
    tolerance: Tolerance,
    *,
    name: str,
) -> tuple[EdgeCheck, ...]:
    """Every step's logits for the same few images beside those of the step before.

    Raises ConversionError that names the first edge which does not keep the tolerance, and the first block
    whose output it changes, where that can be found; DeviceError where a model does not run.
    """
    module = steps.module
    written = network_model(
        module.net, folded_weights(module), implementations=steps.implementations, output="logits"
    )
    models = {"tflite_direct": written}  # to look for the block in; of all others the converted one
    makers: dict[Edge, Callable[[], Answers]] = {
        "torch_onnx": lambda: onnx_answers(steps.onnx, images_NHWC),
        "onnx_tensorflow": lambda: tensorflow.answers(
            steps.onnx,
            images_NHWC,
            name=name,
            depthwise=depthwise_weights(module),
            split=split_indices(module.net, steps.implementations),
        ),
        "tensorflow_tflite": lambda: _flat(here.run_model(steps.tflite, images_NHWC)),
        "tflite_direct": lambda: _flat(here.run_model(written, images_NHWC)),
    }
    before_NK, exact_NK = (_torch_answers(network, images_NHWC) for network in (module, in_double(module)))
    checks = []
    for edge in get_args(Edge):
        source, target = _ENDS[edge]
        after_NK = makers[edge]()
        parity = compare(before_NK, after_NK, name=name, exact_NK=exact_NK, models=(source, target))
        if not keeps(parity, tolerance):
            block = first_differing_block(
                models.get(edge, steps.tflite),
                module,
                steps.implementations,
                images_NHWC,
                here,
                tolerance.max_relative_diff,
            )
            where = (
                f"The first block whose output differs is {block}."
                if block
                else "No block by itself differs by more than is allowed."
            )
            raise ConversionError(
                f"network {name}: the conversion breaks between {source} and {target}. "
                f"{figures(parity, tolerance)}, on {len(images_NHWC)} real and extreme images. {where}",
                hint="Convert again (nasflow run --force convert); if it happens again, please report it.",
            )
        checks.append(parity.at_edge(edge))
        before_NK = after_NK
    return tuple(checks)


def onnx_answers(model: bytes, images_NHWC: NDArray[np.float32]) -> Answers:
    """What an ONNX model for one image answers for each, by the reference that defines ONNX: (n, classes)."""
    evaluator: Any = ReferenceEvaluator(onnx.load_model_from_string(model))
    (name,) = evaluator.input_names
    images_NCHW = np.ascontiguousarray(images_NHWC.transpose(0, 3, 1, 2))
    return np.concatenate([evaluator.run(None, {name: image[None]})[0] for image in images_NCHW])


def _torch_answers(network: torch.nn.Module, images_NHWC: NDArray[np.float32]) -> NDArray[Any]:
    x_NCHW = torch.from_numpy(images_NHWC).permute(0, 3, 1, 2)
    with torch.inference_mode():
        answers: NDArray[Any] = network(x_NCHW.to(next(network.parameters()).dtype)).numpy()
    return answers


def _flat(answers: Answers) -> Answers:
    return answers.reshape(len(answers), -1)

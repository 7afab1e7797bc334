"""One network through the whole conversion: PyTorch -> ONNX -> TensorFlow -> TFLite -> proof."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from torch import nn

from nasflow.base.errors import ConversionError
from pipeline import signals
from stages.conversion.edge_images import edge_images
from stages.conversion.edges import Steps, TensorflowAnswers, check_edges
from stages.conversion.export import depthwise_weights, export_onnx
from stages.conversion.flatbuffer import Implementations
from stages.conversion.graph_check import sound_graph
from stages.conversion.lint import GraphDelegate
from stages.conversion.onnx_graph import read_graph
from stages.conversion.parity import (
    Tolerance,
    Unlabelled,
    check_parity,
    compare,
    evenly_spaced,
    keeps,
    torch_logits,
)
from stages.conversion.softmax import check_probabilities, with_output
from stages.conversion.ways import split_indices
from stages.documents import ConversionCheck
from stages.nn.network import Network
from stages.space.block_spec import ModelOutput

if TYPE_CHECKING:
    from android_bench.device import Device


class Converter(Protocol):
    """Turns an ONNX model into a `.tflite` model."""

    def convert(
        self, onnx_model: bytes, *, name: str, depthwise: Sequence[str] = (), split: Sequence[int] = ()
    ) -> bytes:
        """The `.tflite` model; the depthwise convolutions at the places ``split`` in parts.

        ``depthwise`` are the names of the weights whose convolutions are depthwise, whatever their groups.
        Raises ConversionError.
        """


@dataclass(frozen=True)
class Limits:
    """What a converted model must keep (see :class:`stages.conversion.config.ConvertConfig`).

    ``delegate``: what will run it.
    """

    images: int
    tolerance: Tolerance
    one_partition: bool
    output: ModelOutput = "probabilities"
    delegate: GraphDelegate = "cpu"


@dataclass(frozen=True)
class Finished:
    """The file that ships, and the proof that it computes what the network computes."""

    model: bytes
    check: ConversionCheck


def convert_module(
    module: nn.Module,
    converter: Converter,
    *,
    resolution: int,
    channels: int = 3,
    name: str = "network",
    split: Sequence[int] = (),
) -> bytes:
    """A PyTorch network as a float32 `.tflite` model with the input (1, resolution, resolution, channels).

    It answers with what the network returns: no softmax is added yet. ``split`` are the places, among the
    depthwise convolutions, of those that are computed in parts. Raises ConversionError, also for an operator
    that cannot be translated.
    """
    onnx_model = exported(module, (1, channels, resolution, resolution), name)
    return converter.convert(onnx_model, name=name, depthwise=depthwise_weights(module), split=split)


def convert_network(
    module: Network, converter: Converter, implementations: Implementations, *, name: str
) -> Steps:
    """A network with all models that a conversion makes of it; their outputs are logits (1, classes).

    ``implementations`` say how blocks are computed that can be computed in several ways. Raises as
    :func:`convert_module` does, and where a weight is NaN or infinite.
    """
    net = module.net
    _check_finite(module, name)
    onnx_model = exported(module, (1, net.input_channels, net.resolution, net.resolution), name)
    split = split_indices(net, implementations)
    tflite = converter.convert(onnx_model, name=name, depthwise=depthwise_weights(module), split=split)
    return Steps(module, onnx_model, tflite, implementations)


def _check_finite(module: Network, name: str) -> None:
    """Raises ConversionError that names the first block with a weight that is no number."""
    for weight, tensor in module.state_dict().items():
        bad = tensor.numel() - int(tensor.isfinite().sum())
        if bad:
            _, index, part = weight.split(".", 2)
            raise ConversionError(
                f"network {name}: {bad} of {tensor.numel()} numbers of {part} in block {index} "
                f"({module.net.blocks[int(index)].key}) are NaN or infinite.",
                hint="Train it again: nasflow run --from finetune.",
            )


def exported(module: nn.Module, shape_NCHW: tuple[int, int, int, int], name: str) -> bytes:
    """The ONNX model of a network, which answers with what the network returns. Raises ConversionError."""
    try:
        # An interruption in the midst of torch's tracing would be reported as an error of the network.
        with signals.deferred():
            onnx_model = export_onnx(module, shape_NCHW)
        read_graph(onnx_model)  # refuses what cannot be translated before TensorFlow is asked
    except ConversionError as error:
        raise ConversionError(f"network {name}: {error.message}", hint=error.hint, raw=error.raw) from error
    return onnx_model


def finish_network(
    steps: Steps,
    images: Unlabelled,
    tensorflow: TensorflowAnswers,
    here: Device,
    limits: Limits,
    *,
    name: str,
) -> Finished:
    """The model that ships, and the proof that it computes what the network computes, in one piece.

    Logits are compared: of every step of the conversion on a few real and extreme images, of PyTorch and
    TFLite on ``limits.images`` of ``images``. Raises ConversionError where a limit is not kept, DeviceError
    where the model does not run.
    """
    model = with_output(steps.tflite, limits.output, name=name)
    graph = sound_graph(
        model, steps.module.net, name=name, delegate=limits.delegate, one_partition=limits.one_partition
    )
    few_NHWC = edge_images(images)
    edges = check_edges(steps, few_NHWC, tensorflow, here, limits.tolerance, name=name)
    indices = evenly_spaced(len(images), limits.images)
    reference_NK = torch_logits(steps.module, images, indices)
    converted_NK = here.run_model(steps.tflite, images.batch_NHWC(indices)).reshape(len(indices), -1)
    parity = compare(reference_NK, converted_NK, name=name)
    if not keeps(parity, limits.tolerance):  # a deep network may only amplify what float32 rounds off
        exact_NK = torch_logits(steps.module, images, indices, double=True)
        parity = compare(reference_NK, converted_NK, name=name, exact_NK=exact_NK)
    check_parity(parity, indices, limits.tolerance, name=name)
    if limits.output == "probabilities":
        check_probabilities(model, few_NHWC, here.run_model(steps.tflite, few_NHWC), here, name=name)
    return Finished(model, graph.proof(parity, edges))

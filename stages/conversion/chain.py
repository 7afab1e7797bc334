"""One network through the whole conversion: PyTorch -> ONNX -> TensorFlow -> TFLite -> proof."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from torch import nn

from nasflow.base.errors import ConversionError
from pipeline import signals
from stages.conversion.export import depthwise_weights, export_onnx
from stages.conversion.inspection import check_structure, inspect_model
from stages.conversion.onnx_graph import read_graph
from stages.conversion.parity import check_parity, compare, evenly_spaced, keeps, torch_logits
from stages.conversion.softmax import check_probabilities, with_output
from stages.documents import ConversionCheck
from stages.space.block_spec import ModelOutput

if TYPE_CHECKING:
    from android_bench.device import Device
    from stages.data.dataset import Images
    from stages.space.search_space import NetConfig


_FEW = 16  # images on which a softmax is looked at


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
    """What a converted model must keep (see :class:`stages.convert.ConvertConfig`)."""

    images: int
    max_relative_diff: float
    min_top1_agreement_percent: float
    one_partition: bool
    output: ModelOutput = "probabilities"


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

    It answers with what the network returns: no softmax is added yet (see :func:`finish_model`).
    ``split`` are the places, among the depthwise convolutions, of those that are computed in parts.
    Raises ConversionError, also for an operator that cannot be translated.
    """
    try:
        # An interruption in the midst of torch's tracing would be reported as an error of the network.
        with signals.deferred():
            onnx_model = export_onnx(module, (1, channels, resolution, resolution))
        read_graph(onnx_model)  # refuses what cannot be translated before TensorFlow is asked
    except ConversionError as error:
        raise ConversionError(f"network {name}: {error.message}", hint=error.hint, raw=error.raw) from error
    return converter.convert(onnx_model, name=name, depthwise=depthwise_weights(module), split=split)


def finish_model(
    logits_model: bytes,
    module: nn.Module,
    net: NetConfig,
    images: Images,
    device: Device,
    limits: Limits,
    *,
    name: str,
) -> Finished:
    """The model that ships, and the proof that it computes what ``module`` computes, in one piece.

    Logits are compared: ``logits_model`` is what :func:`convert_module` made. ``images`` are real ones, of
    which ``limits.images`` are compared. Raises ConversionError where a limit is not kept, DeviceError where
    the model does not run.
    """
    model = with_output(logits_model, limits.output, name=name)
    structure = inspect_model(model, name=f"the model of network {name}")
    check_structure(
        structure,
        name=name,
        input_shape_NHWC=(1, net.resolution, net.resolution, net.input_channels),
        classes=net.classes,
        one_partition=limits.one_partition,
    )
    indices = evenly_spaced(len(images), limits.images)
    reference_NK = torch_logits(module, images, indices)
    converted_NK = device.run_model(logits_model, images.batch_NHWC(indices)).reshape(len(indices), -1)
    allowed = {
        "max_relative_diff": limits.max_relative_diff,
        "min_top1_agreement_percent": limits.min_top1_agreement_percent,
    }
    parity = compare(reference_NK, converted_NK, name=name)
    if not keeps(parity, **allowed):  # a deep network may only amplify what float32 rounds off
        exact_NK = torch_logits(module, images, indices, double=True)
        parity = compare(reference_NK, converted_NK, name=name, exact_NK=exact_NK)
    check_parity(parity, indices, name=name, **allowed)
    if limits.output == "probabilities":
        few = indices[:_FEW]
        check_probabilities(model, images.batch_NHWC(few), converted_NK[:_FEW], device, name=name)
    return Finished(
        model,
        ConversionCheck(
            images=parity.images,
            max_abs_diff=parity.max_abs_diff,
            top1_agreement_percent=parity.top1_agreement_percent,
            operators=structure.operators,
            operator_counts=dict(structure.operator_counts),
            delegate_partitions=structure.delegate_partitions,
        ),
    )

"""torch -> ONNX."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator

import torch
from torch import nn

from nasflow.base.errors import ConversionError
from stages.nn.blocks import DepthwiseConv2d

OPSET = 20


def export_onnx(module: nn.Module, input_shape_NCHW: tuple[int, int, int, int]) -> bytes:
    """The network in inference mode as an ONNX model, weights inside.

    ``module`` is put back into the mode in which it came. Raises ConversionError where PyTorch's
    exporter cannot follow the module.
    """
    training = module.training
    image = torch.zeros(input_shape_NCHW)
    try:
        module.eval()
        with _without_known_noise(), torch.no_grad():
            program = torch.onnx.export(
                module,
                (image,),
                dynamo=True,
                external_data=False,
                opset_version=OPSET,
                input_names=["image"],
                output_names=["logits"],
                verbose=False,
            )
    except torch.onnx.OnnxExporterError as error:
        raise ConversionError(
            f"PyTorch cannot export {type(module).__name__} for an input of {list(input_shape_NCHW)}: "
            f"{_cause(error)}.",
            hint="The network must be traceable by torch.export: no control flow that depends on data.",
            raw=str(error),
        ) from error
    finally:
        module.train(training)
    assert program is not None  # dynamo=True always returns a program
    return bytes(program.model_proto.SerializeToString())


def depthwise_weights(module: nn.Module) -> tuple[str, ...]:
    """Names that the weights of depthwise convolutions have in the ONNX model, in the order of the modules.

    A depthwise convolution of one channel has one group, as a full one has: the model alone does not tell.
    """
    return tuple(
        f"{name}.weight" for name, part in module.named_modules() if isinstance(part, DepthwiseConv2d)
    )


def _cause(error: BaseException) -> str:
    while error.__cause__ is not None:
        error = error.__cause__
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0].rstrip(".")


@contextlib.contextmanager
def _without_known_noise() -> Iterator[None]:
    """Silence exactly two things that the exporter says about itself and not about the network."""
    logger = logging.getLogger("torch.onnx._internal.exporter._registration")

    def other(record: logging.LogRecord) -> bool:
        return not record.getMessage().startswith("torchvision is not installed.")

    logger.addFilter(other)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings(
                "ignore", r"`isinstance\(treespec, LeafSpec\)` is deprecated", FutureWarning
            )
            yield
    finally:
        logger.removeFilter(other)

"""What an app must know of a `.tflite` file: the types of its input and output, and what its output means.

For files of our own store, whose content is known by its hash. Nothing is run.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ai_edge_litert import schema_py_generated as schema

from nasflow.base.errors import ConversionError
from stages.conversion.constants import not_finite_in
from stages.conversion.file_check import TYPES, UnsoundError, sound_root

PIXEL_MEAN = PIXEL_STD = 127.5
"""Networks take ``(pixel - 127.5) / 127.5`` in all channels (:mod:`stages.nn.input_fold` brings pretrained
weights to that)."""

_PASSING_ON = (schema.BuiltinOperator.QUANTIZE, schema.BuiltinOperator.DEQUANTIZE)
_APP_TYPES = ("float32", "uint8")


@dataclass(frozen=True)
class TensorFacts:
    """A tensor's name, shape, type (numpy's name) and, where it is quantized, scale and zero point."""

    name: str
    shape: tuple[int, ...]
    type: str
    scale: float | None = None
    zero_point: int = 0


@dataclass(frozen=True)
class ModelFacts:
    """The one input (1, H, W, channels) and the one output (1, classes) of an image classifier.

    ``probabilities``: whether the output is a softmax's; else logits.
    """

    input: TensorFacts
    output: TensorFacts
    probabilities: bool

    @property
    def channels(self) -> int:
        """Channels of the image."""
        return self.input.shape[3]

    @property
    def classes(self) -> int:
        """Outputs."""
        return self.output.shape[-1]

    def refused_by_apps(self) -> str:
        """Why MediaPipe's and ML Kit's classifiers do not take the model; empty where they do.

        MediaPipe: image_tensor_specs.cc and classification_postprocessing_graph.cc; ML Kit: its page "Custom
        models".
        """
        if self.channels != 3:
            return f"its input has {self.channels} channel{'s' if self.channels > 1 else ''}, and not 3"
        if self.input.type not in _APP_TYPES or self.output.type not in _APP_TYPES:
            return f"it takes {self.input.type} and gives {self.output.type}, and not float32 or uint8"
        return ""


def read_facts(model: bytes, *, name: str) -> ModelFacts:
    """Read a model of ours; ``name`` is what errors call it.

    Raises ConversionError where it is no image classifier of one input and one output, where a constant is
    NaN or infinite, or where a quantized input reads pixels otherwise than the network was trained on them.
    """
    try:
        root = sound_root(model)
    except UnsoundError as error:
        raise _unfit(name, str(error)) from error
    if root.SubgraphsLength() != 1:
        raise _unfit(name, f"it has {root.SubgraphsLength()} subgraphs, and not one")
    graph = root.Subgraphs(0)
    if (graph.InputsLength(), graph.OutputsLength()) != (1, 1):
        raise _unfit(
            name,
            f"it has {graph.InputsLength()} inputs and {graph.OutputsLength()} outputs, and not one of each",
        )
    _check_constants(root, model, name)
    facts = ModelFacts(
        input=_tensor(graph.Tensors(graph.Inputs(0))),
        output=_tensor(graph.Tensors(graph.Outputs(0))),
        probabilities=_ends_in_softmax(root, graph),
    )
    if len(facts.input.shape) != 4 or facts.input.shape[0] != 1 or len(facts.output.shape) != 2:
        raise _unfit(
            name, f"it maps {list(facts.input.shape)} to {list(facts.output.shape)}, not an image to classes"
        )
    _check_pixels(facts.input, name)
    return facts


def _tensor(tensor: Any) -> TensorFacts:
    quantization = tensor.Quantization()
    quantized = quantization is not None and quantization.ScaleLength() == 1
    return TensorFacts(
        name=(tensor.Name() or b"").decode("utf-8", "replace"),
        shape=tuple(int(size) for size in tensor.ShapeAsNumpy()) if tensor.ShapeLength() else (),
        type=TYPES[tensor.Type()].lower(),
        scale=float(quantization.Scale(0)) if quantized else None,
        zero_point=int(quantization.ZeroPoint(0)) if quantized and quantization.ZeroPointLength() else 0,
    )


def _check_pixels(tensor: TensorFacts, name: str) -> None:
    """Apps write raw pixels into a quantized input: their meaning must be the one of the training."""
    if tensor.type == "float32":
        return
    if tensor.scale is None or tensor.type not in ("uint8", "int8"):
        raise _unfit(name, f"its input has the type {tensor.type} without a scale")
    shift = 0 if tensor.type == "uint8" else 128
    for pixel in (0, 255):
        read = tensor.scale * (pixel - shift - tensor.zero_point)
        meant = (pixel - PIXEL_MEAN) / PIXEL_STD
        if not abs(read - meant) <= 1.01 / PIXEL_STD:  # one level: a zero point is a whole number
            raise _unfit(
                name,
                f"its input reads the pixel {pixel} as {read:.4f}, and was trained to read it as {meant:.4f} "
                f"(scale {tensor.scale:.6g}, zero point {tensor.zero_point})",
            )


def _ends_in_softmax(root: Any, graph: Any) -> bool:
    tensor = graph.Outputs(0)
    for index in reversed(range(graph.OperatorsLength())):
        operator = graph.Operators(index)
        if tensor not in [operator.Outputs(place) for place in range(operator.OutputsLength())]:
            continue
        code = _code(root, operator)
        if code == schema.BuiltinOperator.SOFTMAX:
            return True
        if code not in _PASSING_ON:
            return False
        tensor = operator.Inputs(0)
    return False


def _code(root: Any, operator: Any) -> int:
    code = root.OperatorCodes(operator.OpcodeIndex())
    return max(int(code.BuiltinCode()), int(code.DeprecatedBuiltinCode()))


def _check_constants(root: Any, model: bytes, name: str) -> None:
    for found in not_finite_in(root, model):
        raise ConversionError(
            f"{name}: {found.count} number{'s' if found.count > 1 else ''} of '{found.tensor}' "
            f"({found.layer or 'no operator reads it'}) {'are' if found.count > 1 else 'is'} NaN or "
            "infinite.",
            hint="The training has diverged, or the conversion went wrong: train again with a lower "
            "learning rate (key training.learning_rate).",
        )


def _unfit(name: str, what: str) -> ConversionError:
    return ConversionError(
        f"{name} is not an image classifier that apps can use: {what}.",
        hint="Convert it again: nasflow run --force convert.",
    )

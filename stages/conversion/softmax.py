"""The softmax at the end of a model that ships.

A network is converted, and held against PyTorch, with logits for its output, and so are its files in other
precisions held against float32: a softmax hides differences of all classes but the first few. The operator is
appended to the finished file.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

from nasflow.base.errors import ConversionError
from stages.conversion.model_file import packed, unpacked
from stages.space.block_spec import ModelOutput

if TYPE_CHECKING:
    from android_bench.device import Device

NAME = "probabilities"
MOST_ABOVE = 1e-5
"""By how much a probability, or the sum of all, may differ from what logits in float64 make."""


def with_output(logits_model: bytes, output: ModelOutput, *, name: str = "network") -> bytes:
    """The model that answers with ``output``. Raises ConversionError as :func:`append_softmax` does."""
    return logits_model if output == "logits" else append_softmax(logits_model, name=name)


def without_softmax(model: bytes) -> bytes:
    """What :func:`append_softmax` was given, but for names: it answers with logits. Other models stay."""
    content = unpacked(model)
    graph = content.subgraphs[0]
    *others, last = graph.operators
    code = content.operatorCodes[last.opcodeIndex].builtinCode
    if code != schema.BuiltinOperator.SOFTMAX or list(last.outputs) != list(graph.outputs):
        return model
    graph.operators, graph.outputs = others, list(last.inputs)
    content.signatureDefs = None  # they name the output that is no longer computed
    return packed(content)


def append_softmax(model: bytes, *, name: str = "network") -> bytes:
    """A float32 model whose output are logits (1, classes), with a softmax behind them.

    ``name`` is what an error calls it. Raises ConversionError where the output is of another shape or type.
    """
    content = unpacked(model)
    graph = content.subgraphs[0]
    logits = graph.outputs[0]
    shape = [int(size) for size in graph.tensors[logits].shape]
    if len(graph.outputs) != 1 or len(shape) != 2 or graph.tensors[logits].type != schema.TensorType.FLOAT32:
        raise ConversionError(
            f"network {name} does not answer with float32 logits (1, classes): its first of "
            f"{len(graph.outputs)} outputs has the shape {shape}.",
            hint="Only logits become probabilities: convert it with output='logits', which adds nothing.",
        )
    graph.tensors.append(schema.TensorT(shape=shape, type=schema.TensorType.FLOAT32, name=NAME))
    graph.operators.append(
        schema.OperatorT(
            opcodeIndex=_code(content),
            inputs=[logits],
            outputs=[len(graph.tensors) - 1],
            builtinOptionsType=schema.BuiltinOptions.SoftmaxOptions,
            builtinOptions=schema.SoftmaxOptionsT(beta=1.0),
        )
    )
    graph.outputs = [len(graph.tensors) - 1]
    for signature in content.signatureDefs or ():
        for output in signature.outputs:
            output.tensorIndex = len(graph.tensors) - 1
    return packed(content)


def _code(content: Any) -> int:
    """Index of the operator's code, added where the model has none."""
    for index, code in enumerate(content.operatorCodes):
        if code.builtinCode == schema.BuiltinOperator.SOFTMAX:
            return index
    softmax = schema.BuiltinOperator.SOFTMAX
    content.operatorCodes.append(
        schema.OperatorCodeT(deprecatedBuiltinCode=softmax, builtinCode=softmax, version=1)
    )
    return len(content.operatorCodes) - 1


def probabilities_of(logits_NK: NDArray[Any]) -> NDArray[np.float64]:
    """Softmax over classes, in float64."""
    exponents_NK = logits_NK.astype(np.float64) - logits_NK.max(axis=1, keepdims=True)
    powers_NK = np.exp(exponents_NK)
    return np.asarray(powers_NK / powers_NK.sum(axis=1, keepdims=True))


def check_probabilities(
    model: bytes, images_NHWC: NDArray[Any], logits_NK: NDArray[Any], here: Device, *, name: str
) -> None:
    """Hold a model's probabilities against the logits of the model that it was made of, for the same images.

    Raises ConversionError where one differs, or their sum is not 1.
    """
    seen_NK = here.run_model(model, images_NHWC).reshape(logits_NK.shape)
    difference = float(np.abs(seen_NK - probabilities_of(logits_NK)).max())
    excess = float(np.abs(seen_NK.sum(axis=1, dtype=np.float64) - 1).max())
    if not (difference <= MOST_ABOVE and excess <= MOST_ABOVE):
        raise ConversionError(
            f"network {name}: the model's probabilities differ from the softmax of its logits by up to "
            f"{difference:.3g}, and their sum from 1 by up to {excess:.3g}; allowed are {MOST_ABOVE:g}.",
            hint="Convert again (nasflow run --force convert); if it happens again, please report it.",
        )

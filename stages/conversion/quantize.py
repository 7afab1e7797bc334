"""A float32 `.tflite` model in other precisions: float16 weights, int8, dynamic range.

By Google's ai-edge-quantizer, which works on the file itself: no TensorFlow, about 0.1 s for a MobileNetV2
([why](../../docs/adr/0033-precisions.md)). What int8 needs to know beside the model are the ranges of its
activations: :mod:`stages.conversion.calibrate` reads them off training images, :func:`assumed_ranges` makes
them up where only the time of a model counts.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from nasflow.base.errors import ConversionError
from stages.conversion.int8_scales import with_workable_scales
from stages.conversion.model_file import packed, unpacked
from stages.documents.origin import ElementType, Precision

if TYPE_CHECKING:
    from ai_edge_quantizer.recipe_manager import RecipeManager

Ranges = Mapping[str, tuple[float, float]]
"""Tensor's name -> least and greatest value. Of all that a model computes, and of its input."""

INPUT_RANGE = (-1.0, 1.0)
"""Of the input, whatever images hold: pixels 0 to 255, which apps hand to a uint8 input as they are."""
_ASSUMED = {
    schema.ActivationFunctionType.RELU6: (0.0, 6.0),
    schema.ActivationFunctionType.RELU: (0.0, 6.0),
    schema.ActivationFunctionType.NONE: (-6.0, 6.0),
}
_WIDEST = 1e-6  # a tensor that is 0 for all images has a scale all the same


def in_precision(
    model: bytes, precision: Precision, *, ranges: Ranges | None = None, io: ElementType = "uint8"
) -> bytes:
    """A float32 model in another precision; ``ranges`` and ``io`` are for int8 alone.

    Raises ConversionError where ranges are missing.
    """
    if precision == "float32":
        return model
    if precision == "float16":
        return float16_model(model)
    if precision == "dynamic_range":
        return dynamic_range_model(model)
    return int8_model(model, assumed_ranges(model) if ranges is None else ranges, io=io)


def float16_model(model: bytes) -> bytes:
    """The model with its kernels in float16, each behind a DEQUANTIZE: half the size.

    XNNPACK turns them into float32 once, when it takes the model over, and computes as it does with the
    float32 file; a GPU delegate takes them as they are.
    """
    from ai_edge_quantizer.algorithm_manager import AlgorithmName
    from ai_edge_quantizer.qtyping import TFLOperationName

    recipe = _recipe()
    recipe.add_weight_only_config(
        ".*", TFLOperationName.ALL_SUPPORTED, 16, algorithm_key=AlgorithmName.FLOAT_CASTING
    )
    return _quantized(model, recipe, {})


def dynamic_range_model(model: bytes) -> bytes:
    """The model with its kernels in int8 and float32 between them.

    Small, but slower than float32 for these networks: XNNPACK takes no depthwise convolution of that kind.
    """
    from ai_edge_quantizer.qtyping import TFLOperationName

    recipe = _recipe()
    recipe.add_dynamic_config(".*", TFLOperationName.ALL_SUPPORTED, 8)
    return _quantized(model, recipe, {})


def int8_model(model: bytes, ranges: Ranges, *, io: ElementType = "uint8") -> bytes:
    """The model in int8: kernels by output channel and symmetric, activations by tensor.

    ``io`` is the input's type: uint8 (a QUANTIZE behind it), float32 (also), or int8, which is what lies
    between operators, and then the output's, too. Else the output is float32. A softmax stays in float32
    behind a DEQUANTIZE: XNNPACK takes it over so, and not in int8. Raises ConversionError where a range is
    missing.
    """
    from ai_edge_quantizer.algorithm_manager import AlgorithmName
    from ai_edge_quantizer.qtyping import TFLOperationName

    computed = computed_tensors(model)
    missing = sorted(computed.keys() - ranges.keys())
    if missing:
        raise ConversionError(
            f"no range of values is known for {len(missing)} tensors of the model, {missing[0]} among them.",
            hint="Calibrate this very model: ranges of another one do not fit.",
        )
    recipe = _recipe()
    recipe.add_static_config(".*", TFLOperationName.ALL_SUPPORTED, 8, 8)
    in_float = [TFLOperationName.SOFTMAX]
    if io != "int8":
        in_float.append(TFLOperationName.OUTPUT)
    if io == "float32":
        in_float.append(TFLOperationName.INPUT)
    elif io == "uint8":
        recipe.add_quantization_config(".*", TFLOperationName.INPUT, _unsigned())
    for operator in in_float:
        recipe.add_quantization_config(".*", operator, algorithm_key=AlgorithmName.NO_QUANTIZE)
    seen = {**{name: ranges[name] for name in computed}, input_name(model): INPUT_RANGE}
    return _quantized(model, recipe, with_workable_scales(model, seen))


def computed_tensors(model: bytes) -> dict[str, int]:
    """Names of a model's input and of all that its operators write, with the fused activation of each."""
    graph = schema.Model.GetRootAs(model).Subgraphs(0)  # read in place: unpacking takes longer than the rest
    names = {int(place): schema.ActivationFunctionType.NONE for place in graph.InputsAsNumpy()}
    for number in range(graph.OperatorsLength()):
        operator = schema.OperatorT.InitFromObj(graph.Operators(number))
        fused = getattr(operator.builtinOptions, "fusedActivationFunction", None)
        for place in operator.outputs:
            names[int(place)] = fused or schema.ActivationFunctionType.NONE
    return {graph.Tensors(place).Name().decode(): int(fused) for place, fused in names.items()}


def input_name(model: bytes) -> str:
    """The name of a model's one input tensor."""
    graph = schema.Model.GetRootAs(model).Subgraphs(0)
    return str(graph.Tensors(graph.Inputs(0)).Name().decode())


def assumed_ranges(model: bytes) -> Ranges:
    """Ranges of no images: an integer operator takes the same time whatever its scales are."""
    return {name: _ASSUMED.get(fused, (-6.0, 6.0)) for name, fused in computed_tensors(model).items()}


def _recipe() -> RecipeManager:
    from ai_edge_quantizer.recipe_manager import RecipeManager

    return RecipeManager()


def _unsigned() -> Any:
    from ai_edge_quantizer import qtyping

    return qtyping.OpQuantizationConfig(
        activation_tensor_config=qtyping.TensorQuantizationConfig(
            8, symmetric=False, dtype=qtyping.TensorDataType.UINT
        ),
        weight_tensor_config=qtyping.TensorQuantizationConfig(
            8, symmetric=True, granularity=qtyping.QuantGranularity.CHANNELWISE
        ),
        compute_precision=qtyping.ComputePrecision.INTEGER,
    )


def _quantized(model: bytes, recipe: RecipeManager, ranges: Ranges) -> bytes:
    """What the library's Quantizer does, without the interpreter that it opens to check the ranges' names."""
    from ai_edge_quantizer.model_modifier import ModelModifier
    from ai_edge_quantizer.params_generator import ParamsGenerator
    from ai_edge_quantizer.utils.tfl_flatbuffer_utils import read_model

    statistics = {
        name: {"min": np.array([min(low, 0.0)]), "max": np.array([max(high, 0.0, _WIDEST)])}
        for name, (low, high) in ranges.items()
    }
    content = read_model(memoryview(model))
    content.signatureDefs = content.signatureDefs or []  # gone through by the library, be there some or not
    plan = ParamsGenerator(content).generate_quantization_parameters(
        recipe, statistics, enable_progress_bar=False
    )
    # The library changes a copy of what it is given.
    return _with_buffers_inside(bytes(ModelModifier(content).modify_model(plan, enable_progress_bar=False)))


def _with_buffers_inside(model: bytes) -> bytes:
    """The library puts the buffers of models above 256 KB behind the flatbuffer, by offsets into the file.

    Older runtimes do not look there, and whatever packs the file anew would lose them.
    """
    content = unpacked(model)
    for buffer in content.buffers:
        if buffer.offset > 1:  # 0 and 1 stand for a buffer that lies in the flatbuffer
            buffer.data = np.frombuffer(model, np.uint8, buffer.size, buffer.offset)
            buffer.offset = buffer.size = 0
    return packed(content)

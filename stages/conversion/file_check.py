"""Is a file a `.tflite` model that can be read, whoever wrote it?

Nothing is run. What is accepted here, the readers of this package take without an error of their own.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from ai_edge_litert import schema_py_generated as schema

from nasflow.base.errors import ConversionError
from nasflow.base.text import human_bytes, plain_line
from stages.conversion.flatbuffer_bounds import OutOfBoundsError, check_bounds, check_table

IDENTIFIER = b"TFL3"
MOST_TENSOR_BYTES = 2**32
"""No phone has room for such a tensor; a damaged shape easily asks for more."""

_FORMATS = {
    b"PK\x03\x04": "a zip archive (an .aar or .apk, or a Keras model)",
    b"\x89HDF": "an HDF5 file (a Keras model)",
    b"\x89PNG": "an image",
    b"\xff\xd8\xff": "an image",
    b"\x1f\x8b": "a gzip file",
}
_BITS = {
    "FLOAT32": 32, "FLOAT16": 16, "INT32": 32, "UINT8": 8, "INT64": 64, "BOOL": 8, "INT16": 16,
    "COMPLEX64": 64, "INT8": 8, "FLOAT64": 64, "COMPLEX128": 128, "UINT64": 64, "UINT32": 32, "UINT16": 16,
    "INT4": 4, "BFLOAT16": 16, "INT2": 2, "UINT4": 4, "FLOAT8_E4M3FN": 8, "FLOAT8_E5M2": 8,
}  # fmt: skip
"""Bits of one value. Strings, resources and variants have no size of their own."""


def _codes(enumeration: type) -> dict[int, str]:
    return {code: name for name, code in vars(enumeration).items() if not name.startswith("_")}


TYPES = _codes(schema.TensorType)
OPERATORS = _codes(schema.BuiltinOperator)
_OPTIONS = _codes(schema.BuiltinOptions)
ACTIVATIONS = _codes(schema.ActivationFunctionType)
PADDINGS = _codes(schema.Padding)
_READ_OPTIONS = {
    "CONV_2D": schema.Conv2DOptions,
    "DEPTHWISE_CONV_2D": schema.DepthwiseConv2DOptions,
    "ADD": schema.AddOptions,
    "MUL": schema.MulOptions,
}
_WITHOUT_OPTIONS = frozenset({"ADD", "MUL"})  # may have none: no activation is fused then


class UnsoundError(ValueError):
    """What is wrong with a file, as a part of a sentence."""


def looks_like_tflite(content: bytes) -> bool:
    """Whether the file bears TFLite's mark."""
    return content[4:8] == IDENTIFIER


def what_it_is_instead(content: bytes) -> str:
    """For a file without TFLite's mark, as a part of a sentence: ``it is empty``."""
    if not content:
        return "it is empty"
    if len(content) < 8:
        return f"it holds nothing but {content!r}"
    for start, words in _FORMATS.items():
        if content.startswith(start):
            return f"it is {words}"
    return f"it starts with {content[:8]!r}, and bytes 5 to 8 of a model are {IDENTIFIER!r}"


def check_file(content: bytes, *, name: str = "model") -> Any:
    """The root table (``schema.Model``) of a model that is sound; ``name`` is what an error calls the file.

    Sound: all offsets stay in the file, all indices in their lists; operators stand in the order in which
    they run (the schema asks for it); constants are as large as their shapes say; no tensor has 4 GiB or
    more. Raises ConversionError.
    """
    try:
        return sound_root(content)
    except UnsoundError as error:
        raise ConversionError(
            f"{name} ({len(content)} bytes) is not a usable .tflite model: {error}.",
            hint="The file is damaged or was not finished: copy or convert it again.",
        ) from error


def operator_names(model: Any) -> list[str]:
    """Names of the operator codes of a sound model, in the file's order (a custom one by its own name)."""
    return [_operator_name(model.OperatorCodes(index)) for index in range(model.OperatorCodesLength())]


def numbers(vector: Any) -> list[int]:
    """A vector of the schema as a list; the generated code answers 0 where there is none."""
    return [] if isinstance(vector, int) else [int(value) for value in vector]


def text(words: bytes | None) -> str:
    """A string of the schema, fit to be shown."""
    return plain_line(words or b"", limit=200)


def sound_root(content: bytes) -> Any:
    """See :func:`check_file`. Raises UnsoundError."""
    if not looks_like_tflite(content):
        raise UnsoundError(what_it_is_instead(content))
    try:
        return _checked(content)
    except OutOfBoundsError as error:
        raise UnsoundError(str(error)) from error


def _checked(content: bytes) -> Any:
    check_bounds(content)
    model = schema.Model.GetRootAs(content)
    if model.Version() != 3:
        raise UnsoundError(f"its schema has version {model.Version()}, and not 3")
    if model.SubgraphsLength() == 0:
        raise UnsoundError("it holds no graph")
    names = operator_names(model)
    sizes = [_buffer_bytes(model.Buffers(index), content, index) for index in range(model.BuffersLength())]
    for index in range(model.SubgraphsLength()):
        graph = model.Subgraphs(index)
        for number in range(graph.TensorsLength()):
            _check_tensor(graph.Tensors(number), number, sizes)
        _check_operators(graph, names, content)
    return model


def _operator_name(code: Any) -> str:
    # Codes above 126 do not fit the older field, which then holds 127.
    builtin = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())
    if builtin not in OPERATORS:
        raise UnsoundError(f"it uses the operator {builtin}, which this LiteRT does not know")
    custom = text(code.CustomCode())
    return custom or OPERATORS[builtin]


def _buffer_bytes(buffer: Any, content: bytes, index: int) -> int:
    """How many bytes a buffer holds, in the flatbuffer or behind it. 0: not a constant."""
    if buffer.Offset() <= 1:  # as LiteRT reads it: such a buffer lies in the flatbuffer
        return int(buffer.DataLength())
    if buffer.Offset() + buffer.Size() > len(content):
        raise UnsoundError(
            f"buffer {index} lies at bytes {buffer.Offset()} to {buffer.Offset() + buffer.Size()}, and the "
            f"file has {len(content)}"
        )
    return int(buffer.Size())


def _check_tensor(tensor: Any, number: int, buffer_bytes: Sequence[int]) -> None:
    what = f"tensor {number} ({text(tensor.Name()) or 'without a name'})"
    kind = TYPES.get(tensor.Type())
    if kind is None:
        raise UnsoundError(f"{what} has the type {tensor.Type()}, which this LiteRT does not know")
    shape = numbers(tensor.ShapeAsNumpy())
    if any(size < 0 for size in shape):
        raise UnsoundError(f"{what} has the shape {_shown(shape)}")
    if not 0 <= tensor.Buffer() < max(1, len(buffer_bytes)):
        raise UnsoundError(f"{what} refers to buffer {tensor.Buffer()}, and there are {len(buffer_bytes)}")
    if kind not in _BITS:
        return
    needed = (math.prod(shape) * _BITS[kind] + 7) // 8
    if needed >= MOST_TENSOR_BYTES:
        raise UnsoundError(f"{what} has the shape {_shown(shape)}, which takes {human_bytes(needed)}")
    held = buffer_bytes[tensor.Buffer()] if buffer_bytes else 0
    if held and held != needed and tensor.Sparsity() is None:
        raise UnsoundError(
            f"{what} has the shape {_shown(shape)} of {kind}, which takes {needed} bytes, and its buffer "
            f"holds {held}"
        )


def _shown(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape[:8])) + (" ..." if len(shape) > 8 else "")


def _check_operators(graph: Any, names: Sequence[str], content: bytes) -> None:
    tensors = graph.TensorsLength()
    for words, indices in (("input", graph.InputsAsNumpy()), ("output", graph.OutputsAsNumpy())):
        _check_indices(numbers(indices), tensors, f"the graph's {words}")
    written_by: dict[int, int] = {}
    operators = [graph.Operators(index) for index in range(graph.OperatorsLength())]
    for index, operator in enumerate(operators):
        if not 0 <= operator.OpcodeIndex() < len(names):
            raise UnsoundError(
                f"operator {index} has the code {operator.OpcodeIndex()}, and there are {len(names)}"
            )
        what = f"operator {index} ({names[operator.OpcodeIndex()]})"
        outputs = numbers(operator.OutputsAsNumpy())
        _check_indices(numbers(operator.InputsAsNumpy()), tensors, f"{what}: an input", least=-1)
        _check_indices(outputs, tensors, f"{what}: an output")
        _check_options(operator, names[operator.OpcodeIndex()], what, content)
        for tensor in outputs:
            written_by.setdefault(tensor, index)
    for index, operator in enumerate(operators):
        for tensor in numbers(operator.InputsAsNumpy()):
            if written_by.get(tensor, -1) >= index and not graph.Tensors(tensor).IsVariable():
                raise UnsoundError(
                    f"operator {index} ({names[operator.OpcodeIndex()]}) reads tensor {tensor}, which "
                    f"operator {written_by[tensor]} writes afterwards"
                )


def _check_indices(indices: Sequence[int], tensors: int, what: str, *, least: int = 0) -> None:
    """``least`` -1: an input that is left out."""
    for index in indices:
        if not least <= index < tensors:
            raise UnsoundError(f"{what} is tensor {index}, and there are {tensors}")


def _check_options(operator: Any, name: str, what: str, content: bytes) -> None:
    """Options that this package reads: those of the operator, with values that the schema knows."""
    if name not in _READ_OPTIONS:
        return
    kind, table = _READ_OPTIONS[name], operator.BuiltinOptions()
    if table is None and name in _WITHOUT_OPTIONS:
        return
    if table is None or _OPTIONS.get(operator.BuiltinOptionsType()) != kind.__name__:
        raise UnsoundError(f"{what} has no {kind.__name__}")
    inputs = numbers(operator.InputsAsNumpy())
    if len(inputs) < 2 or min(inputs[:2]) < 0 or not numbers(operator.OutputsAsNumpy()):
        raise UnsoundError(f"{what} has fewer than two inputs, or no output")
    check_table(content, table.Pos, kind.__name__)
    options = kind()
    options.Init(table.Bytes, table.Pos)
    if options.FusedActivationFunction() not in ACTIVATIONS:
        raise UnsoundError(f"{what} has the activation {options.FusedActivationFunction()}")
    if hasattr(options, "Padding") and options.Padding() not in PADDINGS:
        raise UnsoundError(f"{what} has the padding {options.Padding()}")

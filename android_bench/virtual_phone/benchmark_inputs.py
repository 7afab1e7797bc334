"""The classic tool's inputs from files, and its outputs to one.

Source: ``PopulateInputLayerInfo``, ``SplitInputLayerNameAndValueFile``, ``LoadInputTensorData``, ``Init``
and ``OutputSaver`` of ``tensorflow/lite/tools/benchmark/benchmark_tflite_model.cc``; the FATAL lines are
those of ``TFLITE_LOG(FATAL)``, which aborts. What is not imitated: tensors of strings, and sizes other than
the model's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from android_bench.virtual_phone.benchmark_flags import ParsedFlags
from android_bench.virtual_phone.tool_ends import ToolAborted, ToolFailed


@dataclass(frozen=True)
class Layer:
    """What the flags say of one input. ``file`` empty: it gets random values."""

    name: str
    shape: tuple[int, ...]
    file: str = ""


def layers_of(flags: ParsedFlags) -> tuple[Layer, ...]:
    """The inputs that the flags name, in their order. Raises ToolFailed, ToolAborted."""
    names_text, shapes_text = flags.text("input_layer"), flags.text("input_layer_shape")
    names, shapes = _split(names_text, ","), _split(shapes_text, ":")
    if len(names) != len(shapes):
        raise ToolFailed(
            f"The number of items in --input_layer_shape ({shapes_text}, with {len(shapes)} items) must "
            f"match the number of items in --input_layer ({names_text}, with {len(names)} items). For "
            "example --input_layer=input1,input2 --input_layer_shape=1,224,224,4:1,20"
        )
    layers = {}
    for name, text in zip(names, shapes, strict=True):
        try:
            layers[name] = Layer(name, tuple(int(extent) for extent in text.split(",")))
        except ValueError:
            raise ToolAborted(f"FATAL: Incorrect size string specified: {text}") from None
    for item in _split(flags.text("input_layer_value_files"), ","):
        name, path = _name_and_file(item)
        if name not in layers:
            raise ToolAborted(
                f"FATAL: Cannot find the corresponding input_layer name({name}) in --input_layer as "
                f"{names_text}"
            )
        layers[name] = Layer(name, layers[name].shape, path)
    return tuple(layers.values())


def fill(interpreter: Any, layers: Sequence[Layer], warn: Callable[[str], object]) -> None:
    """Set the inputs that have files. Raises ToolFailed, ToolAborted."""
    import numpy as np

    tensors = interpreter.get_input_details()
    if layers and len(layers) != len(tensors):
        raise ToolAborted(f"FATAL: Inputs mismatch: Model inputs #:{len(layers)} expected: {len(tensors)}")
    for layer, tensor in zip(layers, tensors, strict=False):
        if layer.name != tensor["name"]:
            warn(f"Tensor # {tensor['index']} is named {tensor['name']} but flags call it {layer.name}")
        if len(layer.shape) != len(tensor["shape"]):
            raise ToolFailed(
                f"Input tensor #{tensor['index']} should have {len(tensor['shape'])} dimensions!"
            )
    for layer, tensor in zip(layers, tensors, strict=False):
        if not layer.file:
            continue
        try:
            content = Path(layer.file).read_bytes()
        except OSError:
            raise ToolAborted(f"FATAL: Failed to read the input_layer_value_file:{layer.file}") from None
        kind = np.dtype(tensor["dtype"])
        size = int(np.prod(tensor["shape"])) * kind.itemsize
        if len(content) != size:
            raise ToolAborted(
                f"FATAL: The size of {layer.file} is {len(content)} bytes. It should be {size} bytes."
            )
        interpreter.set_tensor(tensor["index"], np.frombuffer(content, kind).reshape(tensor["shape"]))


def save_outputs(interpreter: Any, path: str, free_bytes: int | None) -> None:
    """The memory of every output, one after the other; where the file cannot be written, in silence."""
    content = b"".join(
        interpreter.get_tensor(tensor["index"]).tobytes() for tensor in interpreter.get_output_details()
    )
    try:
        Path(path).write_bytes(content if free_bytes is None else content[:free_bytes])
    except OSError:
        return


def _split(text: str, delimiter: str) -> list[str]:
    return text.split(delimiter) if text else []


def _name_and_file(item: str) -> tuple[str, str]:
    parts = item.replace("::", "\0").split(":")
    if len(parts) != 2:
        what = "doesn't contain any delimiter." if len(parts) < 2 else "contains more than one delimiter."
        raise ToolFailed(f"{item} {what}", f"Wrong input value file item specified: {item}")
    name, path = (part.replace("\0", ":") for part in parts)
    return name, path

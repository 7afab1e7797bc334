"""Small image classifiers as real `.tflite` files: convolution, mean, dense layer, softmax.

Written with the schema's own classes, apart from the writers that they test.
"""

from __future__ import annotations

import struct
from typing import Any, Literal

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

_FLOAT32, _UINT8, _INT32 = schema.TensorType.FLOAT32, schema.TensorType.UINT8, schema.TensorType.INT32
_HIDDEN = 16


class _AlignedBuffer(schema.BufferT):  # type: ignore[misc]
    """A buffer aligned to 16 bytes, as the schema asks."""

    def Pack(self, builder: Any) -> int:
        if self.data is None:
            schema.BufferStart(builder)
            return int(schema.BufferEnd(builder))
        builder.StartVector(1, len(self.data), 16)
        builder.head -= len(self.data)
        builder.Bytes[builder.head : builder.head + len(self.data)] = self.data
        data = builder.EndVector()
        schema.BufferStart(builder)
        schema.BufferAddData(builder, data)
        return int(schema.BufferEnd(builder))


class _Model:
    def __init__(self) -> None:
        self.tensors: list[Any] = []
        self.buffers: list[Any] = [_AlignedBuffer()]
        self.operators: list[Any] = []
        self.codes: list[int] = []

    def tensor(
        self, name: str, shape: tuple[int, ...], kind: int = _FLOAT32, quantization: Any = None
    ) -> int:
        self.tensors.append(
            schema.TensorT(shape=list(shape), type=kind, buffer=0, name=name, quantization=quantization)
        )
        return len(self.tensors) - 1

    def constant(self, name: str, values: NDArray[Any]) -> int:
        kind = _INT32 if values.dtype == np.int32 else _FLOAT32
        index = self.tensor(name, values.shape, kind)
        self.tensors[index].buffer = len(self.buffers)
        self.buffers.append(_AlignedBuffer(data=np.ascontiguousarray(values).tobytes()))
        return index

    def add(self, word: str, inputs: list[int], output: int, options: Any) -> int:
        code = getattr(schema.BuiltinOperator, word)
        if code not in self.codes:
            self.codes.append(code)
        kind = type(options).__name__.removesuffix("T")
        self.operators.append(
            schema.OperatorT(
                opcodeIndex=self.codes.index(code),
                inputs=inputs,
                outputs=[output],
                builtinOptionsType=getattr(schema.BuiltinOptions, kind),
                builtinOptions=options,
            )
        )
        return output

    def content(self, output: int) -> bytes:
        graph = schema.SubGraphT(
            tensors=self.tensors, inputs=[0], outputs=[output], operators=self.operators, name="main"
        )
        codes = [schema.OperatorCodeT(deprecatedBuiltinCode=c, builtinCode=c, version=1) for c in self.codes]
        model = schema.ModelT(version=3, operatorCodes=codes, subgraphs=[graph], description="small")
        model.buffers = self.buffers
        builder = flatbuffers.Builder(65_536)
        builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
        return bytes(builder.Output())


def small_classifier(
    classes: int = 10,
    *,
    channels: int = 3,
    resolution: int = 32,
    input_type: Literal["float32", "uint8"] = "float32",
    output: Literal["probabilities", "logits"] = "probabilities",
    scale: float = 1 / 127.5,
    zero_point: int = 128,
    spoiled: float | None = None,
    seed: int = 0,
) -> bytes:
    """A classifier of (1, resolution, resolution, channels) with random weights.

    A uint8 input is read with ``scale`` and ``zero_point``. ``spoiled``: one weight of the convolution.
    """
    random = np.random.default_rng(seed)
    model = _Model()
    shape = (1, resolution, resolution, channels)
    if input_type == "uint8":
        read = schema.QuantizationParametersT(scale=[scale], zeroPoint=[zero_point])
        source = model.tensor("image", shape, _UINT8, read)
        image = model.add("DEQUANTIZE", [source], model.tensor("read", shape), schema.DequantizeOptionsT())
    else:
        image = model.tensor("image", shape)
    kernel = random.normal(0, 0.5, (_HIDDEN, 3, 3, channels)).astype(np.float32)
    if spoiled is not None:
        kernel.flat[7] = spoiled
    half = resolution // 2
    hidden = model.add(
        "CONV_2D",
        [
            image,
            model.constant("conv.weight", kernel),
            model.constant("conv.bias", np.zeros(_HIDDEN, np.float32)),
        ],
        model.tensor("conv", (1, half, half, _HIDDEN)),
        schema.Conv2DOptionsT(
            padding=schema.Padding.SAME,
            strideH=2,
            strideW=2,
            dilationHFactor=1,
            dilationWFactor=1,
            fusedActivationFunction=schema.ActivationFunctionType.RELU6,
        ),
    )
    mean = model.add(
        "MEAN",
        [hidden, model.constant("axes", np.array([1, 2], np.int32))],
        model.tensor("mean", (1, _HIDDEN)),
        schema.ReducerOptionsT(keepDims=False),
    )
    dense = random.normal(0, 2, (classes, _HIDDEN)).astype(np.float32)
    answer = model.add(
        "FULLY_CONNECTED",
        [
            mean,
            model.constant("dense.weight", dense),
            model.constant("dense.bias", np.zeros(classes, np.float32)),
        ],
        model.tensor("logits", (1, classes)),
        schema.FullyConnectedOptionsT(),
    )
    if output == "probabilities":
        given = model.tensor("probabilities", (1, classes))
        answer = model.add("SOFTMAX", [answer], given, schema.SoftmaxOptionsT(beta=1.0))
    return model.content(answer)


def with_buffers_outside(model: bytes) -> bytes:
    """The same model, its constants behind the flatbuffer, as ai-edge-quantizer writes large ones."""
    plain = schema.ModelT.InitFromObj(schema.Model.GetRootAs(model))
    contents = {index: bytes(b.data) for index, b in enumerate(plain.buffers) if b.data is not None}
    for index in contents:
        plain.buffers[index].data, plain.buffers[index].offset, plain.buffers[index].size = None, 1, 1
    builder = flatbuffers.Builder(4096)
    builder.Finish(plain.Pack(builder), file_identifier=b"TFL3")
    packed = bytearray(builder.Output())
    packed += bytes(-len(packed) % 16)
    root = schema.Model.GetRootAs(bytes(packed))
    for index, content in contents.items():
        table = root.Buffers(index)._tab
        for field, value in ((1, len(packed)), (2, len(content))):
            struct.pack_into("<Q", packed, table.Pos + table.Offset(4 + 2 * field), value)
        packed += content + bytes(-len(content) % 16)
    return bytes(packed)


def answers(model: bytes, images_NHWC: NDArray[np.uint8]) -> NDArray[np.float32]:
    """What LiteRT's interpreter makes of raw images: (N, classes)."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=model, num_threads=1)
    interpreter.allocate_tensors()
    source, target = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    given = []
    for image in images_NHWC:
        value = image if source["dtype"] is np.uint8 else (image.astype(np.float32) - 127.5) / 127.5
        interpreter.set_tensor(source["index"], value[None].astype(source["dtype"]))
        interpreter.invoke()
        raw = interpreter.get_tensor(target["index"])[0]
        scale, zero = target["quantization"]
        given.append(scale * (raw.astype(np.float32) - zero) if scale else raw)
    return np.stack(given)

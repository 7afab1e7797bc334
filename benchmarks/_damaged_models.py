"""Model files that no converter writes: cut, flipped, and with numbers that lead out of the file.

Used by the tests (100 files) and by ``benchmarks/hostile_models.py`` (1,000). The same seed gives the same
files.
"""

from __future__ import annotations

import io
import random
import struct
import zipfile
from collections.abc import Callable, Iterator
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from stages.conversion.flatbuffer import network_model
from stages.space.search_space import Candidate, SearchSpace, StageSpec, StemSpec

_WORDS = (0, 1, 4, 0x7F, 0xFFFF, 0x7FFFFFFF, 0x7FFFFFFC, 0x80000000, 0xFFFFFFFF, 0xFFFFFFFE, 0x40000000)
_SIZES = (0, -1, 2**31 - 1, -(2**31), 65_536, 46_341, 2**30, 3)


def small_network() -> bytes:
    """A network of eight operators with random weights: 16x16 pixels, four classes, 6 kB."""
    return _network(Candidate(kernel=3, expansion=2))


def gated_network() -> bytes:
    """The same with squeeze-and-excite, h-swish and a kernel of 5."""
    return _network(Candidate(kernel=5, expansion=3, squeeze_excite=True, activation="hswish"))


def _network(candidate: Candidate) -> bytes:
    space = SearchSpace(
        name="small",
        resolution=16,
        classes=4,
        stem=StemSpec(width=8),
        stages=(StageSpec(width=8, layers=1),),
        head_width=16,
        candidates=(candidate,),
    )
    return network_model(space.network([0]))


def packed(tree: Any) -> bytes:
    """The file of a model in the schema's object form (``ModelT``)."""
    builder = flatbuffers.Builder()
    builder.Finish(tree.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def unpacked(model: bytes) -> Any:
    """A model in the schema's object form (``ModelT``), to be changed."""
    return schema.ModelT.InitFromObj(schema.Model.GetRootAs(model))


def damaged_models(model: bytes, count: int, *, seed: int) -> Iterator[tuple[str, bytes]]:
    """``count`` damaged files made of a sound one, each with the kind of its damage; all kinds in turn."""
    rng = random.Random(seed)
    kinds = list(_KINDS.items())
    for number in range(count):
        name, damage = kinds[number % len(kinds)]
        yield name, damage(model, rng)


def _bits(model: bytes, rng: random.Random) -> bytes:
    """Some bits anywhere."""
    content = bytearray(model)
    for _ in range(rng.choice((1, 3, 40))):
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    return bytes(content)


def _first_bits(model: bytes, rng: random.Random) -> bytes:
    """Bits of the root table and what stands around it."""
    content = bytearray(model)
    for _ in range(rng.choice((1, 2, 5))):
        content[rng.randrange(min(256, len(content)))] ^= 1 << rng.randrange(8)
    return bytes(content)


def _word(model: bytes, rng: random.Random) -> bytes:
    """A number that is a length, an offset or an index, or none of them."""
    content = bytearray(model)
    for _ in range(rng.choice((1, 1, 4))):
        struct.pack_into("<I", content, 4 * rng.randrange(len(content) // 4), rng.choice(_WORDS))
    return bytes(content)


def _structure_word(model: bytes, rng: random.Random) -> bytes:
    """The same where the words are small: lengths, offsets and indices, hardly any weight."""
    content = bytearray(model)
    places = [
        at for at in range(0, len(content) - 3, 4) if 0 < struct.unpack_from("<I", content, at)[0] < 9000
    ]
    for _ in range(rng.choice((1, 2))):
        struct.pack_into("<I", content, rng.choice(places), rng.choice(_WORDS))
    return bytes(content)


def _cut(model: bytes, rng: random.Random) -> bytes:
    return model[: rng.randrange(len(model))]


def _foreign(model: bytes, rng: random.Random) -> bytes:
    """Another format, or nothing."""
    return rng.choice(
        (
            b"",
            b"TFL3",
            b"PK\x03\x04" + rng.randbytes(200),
            model[:4] + b"TFL2" + model[8:],
            b"\x18\0\0\0TFL3" + rng.randbytes(2_000),
            b"\xff" * 8_000,
            bytes(8_000),
            b"\x08\x08" + rng.randbytes(500),
        )
    )


def _zip_behind(model: bytes, _rng: random.Random) -> bytes:
    """A sound model with a zip behind it, as metadata are carried."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as packed_files:
        packed_files.writestr("labels.txt", "one\ntwo\n")
    return model + archive.getvalue()


def _overlong(model: bytes, rng: random.Random) -> bytes:
    return model + rng.randbytes(rng.choice((1, 4_096)))


def _shape(model: bytes, rng: random.Random) -> bytes:
    tree = unpacked(model)
    tensor = rng.choice(tree.subgraphs[0].tensors)
    shape = list(tensor.shape) or [1]
    for _ in range(rng.choice((1, 2))):
        shape[rng.randrange(len(shape))] = rng.choice(_SIZES)
    tensor.shape = shape
    return packed(tree)


def _input_shape(model: bytes, rng: random.Random) -> bytes:
    tree = unpacked(model)
    graph = tree.subgraphs[0]
    side = rng.choice((0, -1, 46_341, 2**31 - 1, 20_000))
    graph.tensors[graph.inputs[0]].shape = [1, side, side, 3]
    return packed(tree)


def _tensor_index(model: bytes, rng: random.Random) -> bytes:
    tree = unpacked(model)
    graph = tree.subgraphs[0]
    wrong = rng.choice((-1, -2, -(2**31), 2**31 - 1, len(graph.tensors), 10_000))
    owner, field = rng.choice([(graph, "inputs"), (graph, "outputs"), *_ends(graph, rng)])
    changed = list(getattr(owner, field))
    changed[rng.randrange(len(changed))] = wrong
    setattr(owner, field, changed)
    return packed(tree)


def _ends(graph: Any, rng: random.Random) -> list[tuple[Any, str]]:
    return [(rng.choice(graph.operators), field) for field in ("inputs", "outputs", "inputs", "outputs")]


def _cycle(model: bytes, rng: random.Random) -> bytes:
    tree = unpacked(model)
    operators = tree.subgraphs[0].operators
    early = rng.randrange(len(operators) - 1)
    late = rng.randrange(early, len(operators))
    operators[early].inputs = [operators[late].outputs[0], *list(operators[early].inputs)[1:]]
    return packed(tree)


def _shuffled(model: bytes, rng: random.Random) -> bytes:
    tree = unpacked(model)
    rng.shuffle(tree.subgraphs[0].operators)
    return packed(tree)


def _buffer(model: bytes, rng: random.Random) -> bytes:
    tree = unpacked(model)
    tensor = rng.choice(tree.subgraphs[0].tensors)
    tensor.buffer = rng.choice((len(tree.buffers), 2**32 - 1, 0, rng.randrange(len(tree.buffers))))
    return packed(tree)


def _short_buffer(model: bytes, rng: random.Random) -> bytes:
    tree = unpacked(model)
    buffer = rng.choice([one for one in tree.buffers if one.data is not None and len(one.data) > 4])
    buffer.data = buffer.data[: rng.randrange(len(buffer.data))]
    return packed(tree)


def _outside_buffer(model: bytes, rng: random.Random) -> bytes:
    """Constants that lie behind the flatbuffer, or are said to."""
    tree = unpacked(model)
    buffer = rng.choice([one for one in tree.buffers if one.data is not None])
    buffer.offset, buffer.size = rng.choice((2, 10**6, 2**40, 2**64 - 1)), rng.choice((16, 2**40, 2**64 - 1))
    if rng.random() < 0.5:
        buffer.data = None
    return packed(tree)


def _type(model: bytes, rng: random.Random) -> bytes:
    tree = unpacked(model)
    rng.choice(tree.subgraphs[0].tensors).type = rng.choice((1, 5, 9, 10, 11, 13, 14, 17, 21, 99, -1))
    return packed(tree)


def _operator(model: bytes, rng: random.Random) -> bytes:
    tree = unpacked(model)
    match rng.randrange(4):
        case 0:
            rng.choice(tree.subgraphs[0].operators).opcodeIndex = rng.choice((99, 2**32 - 1))
        case 1:
            rng.choice(tree.operatorCodes).builtinCode = rng.choice((-1, 5_000, 2**31 - 1, 119, 117, 127))
        case 2:
            code = rng.choice(tree.operatorCodes)
            code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.CUSTOM
            code.customCode = rng.choice((b"FlexConv", b"\xff\xfe", b"x" * 5_000, b"\x1b[31mred"))
        case _:
            rng.choice(tree.operatorCodes).version = rng.choice((-1, 0, 99))
    return packed(tree)


def _other_operator(model: bytes, rng: random.Random) -> bytes:
    """The inputs and options of one operator under the name of another."""
    tree = unpacked(model)
    code = rng.choice(tree.operatorCodes)
    code.builtinCode = rng.randrange(0, 200)
    code.deprecatedBuiltinCode = min(code.builtinCode, 127)
    return packed(tree)


def _options(model: bytes, rng: random.Random) -> bytes:
    tree = unpacked(model)
    operator = rng.choice(
        [one for one in tree.subgraphs[0].operators if hasattr(one.builtinOptions, "strideH")]
    )
    field = rng.choice(("strideH", "strideW", "dilationHFactor", "dilationWFactor"))
    setattr(operator.builtinOptions, field, rng.choice((0, -1, 2**31 - 1, 7)))
    return packed(tree)


def _no_options(model: bytes, rng: random.Random) -> bytes:
    tree = unpacked(model)
    operator = rng.choice(tree.subgraphs[0].operators)
    operator.builtinOptions = None
    if rng.random() < 0.5:
        operator.builtinOptionsType = 0
    return packed(tree)


def _fewer_inputs(model: bytes, rng: random.Random) -> bytes:
    tree = unpacked(model)
    operator = rng.choice(tree.subgraphs[0].operators)
    operator.inputs = list(operator.inputs)[: rng.randrange(len(operator.inputs))]
    return packed(tree)


def _no_graph(model: bytes, rng: random.Random) -> bytes:
    tree = unpacked(model)
    graph = tree.subgraphs[0]
    match rng.randrange(5):
        case 0:
            tree.subgraphs = []
        case 1:
            graph.operators = []
        case 2:
            graph.inputs = []
        case 3:
            graph.outputs = []
        case _:
            graph.tensors = []
    return packed(tree)


def _not_finite(model: bytes, rng: random.Random) -> bytes:
    tree = unpacked(model)
    graph = tree.subgraphs[0]
    held = [tree.buffers[one.buffer] for one in graph.tensors]
    buffer = rng.choice([one for one in held if one.data is not None and len(one.data) >= 16])
    values = np.array(buffer.data, np.uint8)
    count = len(values) // 4
    values[: 4 * count].view(np.float32)[rng.randrange(count)] = rng.choice((np.nan, np.inf, -np.inf))
    buffer.data = values
    return packed(tree)


def _quantization(model: bytes, rng: random.Random) -> bytes:
    tree = unpacked(model)
    tensor = rng.choice(tree.subgraphs[0].tensors)
    quantized = schema.QuantizationParametersT()
    quantized.scale = [rng.choice((0.0, -1.0, float("nan"), 1e38))] * rng.choice((1, 7))
    quantized.zeroPoint = [rng.choice((0, 2**63 - 1, -1))] * rng.choice((1, 7))
    quantized.quantizedDimension = rng.choice((0, 9, -1))
    tensor.quantization = quantized
    tensor.type = rng.choice((schema.TensorType.INT8, schema.TensorType.UINT8, schema.TensorType.FLOAT32))
    return packed(tree)


_KINDS: dict[str, Callable[[bytes, random.Random], bytes]] = {
    "bits": _bits,
    "first bits": _first_bits,
    "word": _word,
    "structure": _structure_word,
    "cut": _cut,
    "foreign": _foreign,
    "zip behind": _zip_behind,
    "overlong": _overlong,
    "shape": _shape,
    "input shape": _input_shape,
    "tensor index": _tensor_index,
    "cycle": _cycle,
    "shuffled": _shuffled,
    "buffer": _buffer,
    "short buffer": _short_buffer,
    "outside buffer": _outside_buffer,
    "type": _type,
    "operator": _operator,
    "other operator": _other_operator,
    "options": _options,
    "no options": _no_options,
    "fewer inputs": _fewer_inputs,
    "no graph": _no_graph,
    "not finite": _not_finite,
    "quantization": _quantization,
}

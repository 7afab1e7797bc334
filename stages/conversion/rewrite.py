"""Graph rewriting before translation.

Batch normalisation and padding join their convolution: what is fused here needs no operator of its own in
TFLite. Large depthwise convolutions that the device computes faster in parts are split.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from stages.conversion.depthwise_split import DILATION, PARTS, first_taps, split_kernel
from stages.conversion.onnx_graph import DEPTHWISE, Array, Graph, Node, unsupported


def simplify(graph: Graph, depthwise: Collection[str] = (), split: Collection[int] = ()) -> Graph:
    """The same function in the operators that TFLite computes fastest.

    ``depthwise`` are names of weights whose convolutions are depthwise, whatever their groups; ``split`` are
    the places, among the depthwise convolutions, of those that are computed in parts. Raises ConversionError.
    """
    marked = mark_depthwise(graph, depthwise)
    return split_depthwise(merge_padding(fold_batch_norm(marked)), split)


def mark_depthwise(graph: Graph, weights: Collection[str]) -> Graph:
    """Give the convolutions of these weights the attribute ``depthwise``.

    Raises ConversionError where a name is not that of one convolution's weight, or the weight is of another
    shape than a depthwise convolution's.
    """
    nodes = []
    missing = set(weights)
    for node in graph.nodes:
        if node.operator == "Conv" and node.inputs[1] in missing:
            missing.remove(node.inputs[1])
            shape = graph.constants[node.inputs[1]].shape
            if shape[1] != 1 or shape[0] != node.integer("group", 1):
                raise unsupported("Conv", node.name, f"it is depthwise, and its weight has shape {shape}")
            node = replace(node, attributes={**node.attributes, DEPTHWISE: 1})
        nodes.append(node)
    if missing:
        raise unsupported("Conv", "", f"no convolution has the weight {min(missing)}")
    return replace(graph, nodes=tuple(nodes))


def fold_batch_norm(graph: Graph) -> Graph:
    """Fold every inference-mode BN into the convolution before it; others become a MUL and an ADD.

    w' = w * gamma / sqrt(var + eps), b' = (b - mean) * gamma / sqrt(var + eps) + beta (computed in
    float64). Raises ConversionError where statistics are not constant.
    """
    constants = dict(graph.constants)
    nodes: list[Node] = []
    for node in graph.nodes:
        if node.operator != "BatchNormalization":
            nodes.append(node)
            continue
        scale, shift = _scale_and_shift(node, constants)
        index = _sole_producer(graph, nodes, node.inputs[0])
        if index is not None and _folds(nodes[index], constants):
            conv = nodes[index]
            weight_OIHW = constants[conv.inputs[1]]
            bias = constants[conv.inputs[2]] if conv.input(2) else np.zeros(len(scale))
            weight_name, bias_name = f"{node.output}:weight", f"{node.output}:bias"
            constants[weight_name] = (weight_OIHW * scale[:, None, None, None]).astype(np.float32)
            constants[bias_name] = (bias * scale + shift).astype(np.float32)
            inputs = (conv.inputs[0], weight_name, bias_name)
            nodes[index] = replace(conv, inputs=inputs, output=node.output)
            continue
        scale_name, shift_name, scaled = (f"{node.output}:{what}" for what in ("scale", "shift", "scaled"))
        constants[scale_name] = scale.astype(np.float32)[:, None, None]
        constants[shift_name] = shift.astype(np.float32)[:, None, None]
        nodes.append(Node("Mul", scale_name, (node.inputs[0], scale_name), scaled, {}))
        nodes.append(Node("Add", shift_name, (scaled, shift_name), node.output, {}))
    return replace(graph, nodes=tuple(nodes), constants=constants)


def merge_padding(graph: Graph) -> Graph:
    """Move zero padding of H and W into the convolutions that read it.

    A Pad node stays where something else reads it too, or where it pads with another value.
    """
    merged: dict[str, tuple[str, tuple[int, int, int, int]]] = {}
    for node in graph.nodes:
        readers = graph.consumers(node.output)
        zeros = _zero_padding(node, graph) if node.operator == "Pad" else None
        if zeros and readers and node.output != graph.output_name and all(_takes(r, node) for r in readers):
            merged[node.output] = (node.inputs[0], zeros)
    nodes: list[Node] = []
    for node in graph.nodes:
        if node.output in merged:
            continue
        source = node.inputs[0]
        if source in merged:
            before, zeros = merged[source]
            pads = tuple(a + b for a, b in zip(node.integers("pads", (0,) * 4), zeros, strict=True))
            node = replace(
                node, inputs=(before, *node.inputs[1:]), attributes={**node.attributes, "pads": pads}
            )
        nodes.append(node)
    return replace(graph, nodes=tuple(nodes))


def split_depthwise(graph: Graph, split: Collection[int]) -> Graph:
    """Replace the depthwise convolutions at these places (counted from 0) by the sum of their four parts.

    Raises ConversionError where a place has none, or one whose padding is not written out.
    """
    constants = dict(graph.constants)
    depthwise = [node for node in graph.nodes if _is_depthwise(node, constants)]
    if split and max(split) >= len(depthwise):
        raise unsupported(
            "Conv", "", f"depthwise convolution {max(split)} is to be split; there are {len(depthwise)}"
        )
    chosen = {depthwise[index].output for index in split}
    nodes: list[Node] = []
    for node in graph.nodes:
        nodes += _parts(node, constants) if node.output in chosen else [node]
    return replace(graph, nodes=tuple(nodes), constants=constants)


def _is_depthwise(node: Node, constants: dict[str, Array]) -> bool:
    return (
        node.operator == "Conv"
        and (node.integer("group", 1) > 1 or bool(node.integer(DEPTHWISE, 0)))
        and node.input(1) in constants
        and constants[node.inputs[1]].shape[1] == 1
    )


def _parts(node: Node, constants: dict[str, Array]) -> list[Node]:
    if node.text("auto_pad", "NOTSET") != "NOTSET" or node.integers("dilations", (1, 1)) != (1, 1):
        raise unsupported("Conv", node.name, "only a plain convolution with explicit padding can be split")
    weight_CMHW = constants[node.inputs[1]]
    sides = weight_CMHW.shape[2:]
    pads = node.integers("pads", (0, 0, 0, 0))
    nodes: list[Node] = []
    total = ""
    for index, (first, part) in enumerate(zip(first_taps(), split_kernel(weight_CMHW, 2, 3), strict=True)):
        output = f"{node.output}:part{index}"
        constants[f"{output}:weight"] = np.ascontiguousarray(part)
        # What a part does not reach on a side, it need not pad there.
        last = [start + DILATION * (count - 1) for start, count in zip(first, part.shape[2:], strict=True)]
        spared = (*first, *(side - 1 - end for side, end in zip(sides, last, strict=True)))
        attributes = {
            **node.attributes,
            "kernel_shape": part.shape[2:],
            "dilations": (DILATION, DILATION),
            "pads": tuple(pad - spare for pad, spare in zip(pads, spared, strict=True)),
        }
        bias = node.inputs[2:] if index == 0 else ()
        nodes.append(Node("Conv", output, (node.inputs[0], f"{output}:weight", *bias), output, attributes))
        if index == 0:
            total = output
            continue
        joined = node.output if index == PARTS - 1 else f"{output}:sum"
        nodes.append(Node("Add", joined, (total, output), joined, {}))
        total = joined
    return nodes


def _scale_and_shift(
    node: Node, constants: dict[str, Array]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    if node.integer("training_mode", 0) or any(name not in constants for name in node.inputs[1:5]):
        raise unsupported("BatchNormalization", node.name, "it is in training mode; export in eval mode")
    gamma, beta, mean, variance = (constants[name].astype(np.float64) for name in node.inputs[1:5])
    scale = gamma / np.sqrt(variance + node.number("epsilon", 1e-5))
    return scale, beta - mean * scale


def _sole_producer(graph: Graph, nodes: list[Node], tensor: str) -> int | None:
    """Place in ``nodes`` of the node that makes a tensor which is read once and nowhere else."""
    if tensor == graph.output_name or len(graph.consumers(tensor)) != 1:
        return None
    return next((index for index, node in enumerate(nodes) if node.output == tensor), None)


def _folds(node: Node, constants: dict[str, Array]) -> bool:
    return node.operator == "Conv" and all(name in constants for name in node.inputs[1:] if name)


def _takes(reader: Node, pad: Node) -> bool:
    """Whether padding can move into this reader: a convolution with explicit padding of this input."""
    return (
        reader.operator == "Conv"
        and reader.inputs[0] == pad.output
        and pad.output not in reader.inputs[1:]
        and reader.text("auto_pad", "NOTSET") == "NOTSET"
    )


def _zero_padding(node: Node, graph: Graph) -> tuple[int, int, int, int] | None:
    """(top, left, bottom, right) of a Pad node that adds zeros around an image, else None."""
    value = graph.constants.get(node.input(2))
    pads = graph.constants.get(node.input(1))
    if node.text("mode", "constant") != "constant" or pads is None or pads.size != 8 or node.input(3):
        return None
    if value is not None and np.any(np.asarray(value) != 0):
        return None
    sizes = [int(size) for size in pads.tolist()]
    spatial = (sizes[2], sizes[3], sizes[6], sizes[7])
    others = (sizes[0], sizes[1], sizes[4], sizes[5])
    return spatial if not any(others) and min(spatial) >= 0 else None

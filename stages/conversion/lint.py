"""What a model's graph should not hold, for its precision and for what computes it.

A rule is broken at an operator, which is named by the tensor that it writes. What XNNPACK takes over is asked
of LiteRT (:mod:`stages.conversion.inspection`); what a GPU takes over cannot be asked without one: a table.
What an NPU takes over is its compiler's matter: there is no rule about it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from ai_edge_litert import schema_py_generated as schema

from nasflow.base.errors import ConversionError
from stages.conversion.file_check import OPERATORS
from stages.conversion.inspection import ModelStructure, inspect_model
from stages.conversion.model_file import unpacked
from stages.documents.conversion import GraphLint, LintCode, LintFinding

GraphPrecision: TypeAlias = Literal["float32", "float16", "int8"]
GraphDelegate: TypeAlias = Literal["cpu", "gpu", "npu"]
Edge: TypeAlias = Literal["constant", "input", "output"]

_CHANGING = frozenset({"QUANTIZE", "DEQUANTIZE", "CAST"})
_MOVING = frozenset(
    {"PAD", "PADV2", "MIRROR_PAD", "TRANSPOSE", "SPACE_TO_BATCH_ND", "BATCH_TO_SPACE_ND", "RESHAPE"}
)
"""Operators that only move data: delegates run them, but a network laid out for the device needs none."""
_ACTIVATIONS = frozenset({"RELU", "RELU6", "RELU_N1_TO_1"})
_WEIGHTED = frozenset({"CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"})
_FUSING = _WEIGHTED | {"ADD", "MUL"}
_CHANGES_AT: Mapping[str, frozenset[Edge]] = {
    "float32": frozenset(),
    "float16": frozenset({"constant"}),  # weights, which are stored in half of the bytes
    "int8": frozenset({"input", "output"}),
}
_COMPUTED_IN: Mapping[str, int] = {
    "float32": schema.TensorType.FLOAT32,
    "float16": schema.TensorType.FLOAT32,
    "int8": schema.TensorType.INT8,
}
_FLOAT_END = "SOFTMAX"
"""At the end of a graph it computes in float32 in every precision: XNNPACK takes none over in int8."""
_ON_GPU = frozenset(
    {*_WEIGHTED, *_ACTIVATIONS, *_MOVING, "ADD", "MUL", "MEAN", "HARD_SWISH", "SOFTMAX"}
    | {"AVERAGE_POOL_2D", "LOGISTIC", "QUANTIZE", "DEQUANTIZE"}
) - {"SPACE_TO_BATCH_ND", "BATCH_TO_SPACE_ND"}
"""Of the operators that networks are made of, those that TensorFlow 2.21 lists for its GPU delegate
(tensorflow/lite/tools/versioning/gpu_compatibility.cc)."""


def lint_graph(
    model: bytes,
    structure: ModelStructure | None = None,
    *,
    precision: GraphPrecision = "float32",
    delegate: GraphDelegate = "cpu",
) -> GraphLint:
    """All rules that a model breaks; ``structure`` is what LiteRT says of it, where it was asked already.

    Only for models that this program has made: nothing is checked while it is read. Raises ConversionError
    where LiteRT cannot open the model.
    """
    operators = _operators(model)
    if delegate == "gpu":
        outside = [_Outside(o.name, o.written) for o in operators if o.name not in _ON_GPU]
        pieces = _pieces_on_gpu(operators)
    else:
        structure = structure if structure is not None else inspect_model(model)
        beside = _beside(precision, structure)
        outside = [_Outside(name, "") for name in structure.undelegated if name not in beside]
        pieces = structure.delegate_partitions
    whole = pieces == 1
    if delegate == "npu":  # XNNPACK's pieces are not an NPU's
        outside, whole = [], True
    findings = [
        *([] if whole else [LintFinding(code="several_pieces", operator="", tensor="")]),
        *(LintFinding(code="not_delegated", operator=o.operator, tensor=o.tensor) for o in outside),
        *_findings(operators, precision),
    ]
    return GraphLint(
        precision=precision,
        delegate=delegate,
        operator_counts=dict(sorted(Counter(operator.name for operator in operators).items())),
        delegate_partitions=pieces,
        findings=tuple(findings),
    )


def _beside(precision: GraphPrecision, structure: ModelStructure) -> frozenset[str]:
    """Operators that need not be delegated: XNNPACK leaves out the one that makes int8 of an app's pixels."""
    return frozenset({"QUANTIZE"} if precision == "int8" and structure.input_type == "uint8" else ())


def check_graph(lint: GraphLint, *, name: str, one_partition: bool = True) -> None:
    """Refuse a model that breaks a rule; without ``one_partition`` it may fall into several pieces.

    Raises ConversionError that names each rule's operators, the first rule first.
    """
    allowed = (
        frozenset[LintCode]() if one_partition else frozenset[LintCode](["several_pieces", "not_delegated"])
    )
    broken = [finding for finding in lint.findings if finding.code not in allowed]
    if not broken:
        return
    words = []
    for code in dict.fromkeys(finding.code for finding in broken):
        counts = Counter(finding.operator for finding in broken if finding.code == code)
        listed = ", ".join(f"{count} {operator}" for operator, count in sorted(counts.items()) if operator)
        if code == "several_pieces":
            words.append(f"the {lint.delegate} runs it in {lint.delegate_partitions} pieces instead of one")
        else:
            words.append(f"{_WORDS[code]}: {listed}")
    raise ConversionError(
        f"the graph of network {name} ({lint.precision}, {lint.delegate}) is not as it should be: "
        f"{'; '.join(words)}.",
        hint=_HINTS.get(
            broken[0].code, "The conversion should not have made it; please report this network."
        ),
    )


_WORDS: Mapping[LintCode, str] = {
    "not_delegated": "operators outside of them",
    "moves_data": "operators that only move data",
    "changes_type": "operators that only change numbers' type, amid the graph",
    "activation_alone": "activations that the operator before them could have taken in",
    "constant_alone": "additions or products of constants that the weights before them could have taken in",
    "other_type": "operators that compute in another type of number",
}
_SEVERAL = "Replace those operators, or set convert.require_one_partition: false and lose speed."
_HINTS: Mapping[LintCode, str] = {
    "several_pieces": _SEVERAL,
    "not_delegated": _SEVERAL,
    "moves_data": "Use TensorFlow's SAME padding (stages.nn.blocks.SameConv2d), and no flattened images.",
}


@dataclass(frozen=True)
class _Outside:
    operator: str
    tensor: str


@dataclass(frozen=True)
class _Operator:
    """One operator among the others.

    ``behind`` is what computes its first input; None where that is the graph's input or a constant. ``sole``:
    nobody else reads that input. ``at``: where it stands in the graph, if at an edge of it.
    """

    name: str
    written: str
    element_type: int
    activation: int
    behind: _Operator | None
    sole: bool
    with_constant: bool
    at: frozenset[Edge]


def _operators(model: bytes) -> list[_Operator]:
    content = unpacked(model)
    graph = content.subgraphs[0]
    names = [OPERATORS[max(code.builtinCode, code.deprecatedBuiltinCode)] for code in content.operatorCodes]
    readers = Counter(int(i) for operator in graph.operators for i in operator.inputs)
    readers.update(int(i) for i in graph.outputs)
    constants = {i for i, t in enumerate(graph.tensors) if content.buffers[t.buffer].data is not None}
    made: dict[int, _Operator] = {}
    found = []
    last = set(map(int, graph.outputs))
    last |= {
        int(operator.inputs[0])
        for operator in graph.operators
        if names[operator.opcodeIndex] == _FLOAT_END and int(operator.outputs[0]) in last
    }
    for operator in graph.operators:
        inputs = [int(index) for index in operator.inputs if index >= 0]
        output = int(operator.outputs[0])
        moving = [index for index in inputs if index not in constants]
        source = moving[0] if moving else -1
        at: set[Edge] = set()
        at |= {"constant"} if not moving else set()
        at |= {"input"} if source in graph.inputs else set()
        at |= {"output"} if output in last else set()
        one = _Operator(
            name=names[operator.opcodeIndex],
            written=bytes(graph.tensors[output].name).decode(errors="replace"),
            element_type=int(graph.tensors[output].type),
            activation=getattr(operator.builtinOptions, "fusedActivationFunction", 0),
            behind=made.get(source),
            sole=readers[source] == 1,
            with_constant=len(inputs) == 2 and len(moving) == 1,
            at=frozenset(at),
        )
        made.update(dict.fromkeys(map(int, operator.outputs), one))
        found.append(one)
    return found


def _findings(operators: list[_Operator], precision: str) -> Iterator[LintFinding]:
    for operator in operators:
        for code in _broken_rules(operator, precision):
            yield LintFinding(code=code, operator=operator.name, tensor=operator.written)


def _broken_rules(operator: _Operator, precision: str) -> Iterator[LintCode]:
    if operator.name in _MOVING:
        yield "moves_data"
    if operator.name in _CHANGING:
        if not operator.at & _CHANGES_AT[precision]:
            yield "changes_type"
    elif operator.element_type != _COMPUTED_IN[precision] and not (
        operator.name == _FLOAT_END and "output" in operator.at
    ):
        yield "other_type"
    before = operator.behind
    if before is None or not operator.sole or before.activation != schema.ActivationFunctionType.NONE:
        return
    if operator.name in _ACTIVATIONS and before.name in _FUSING:
        yield "activation_alone"
    if operator.name in ("ADD", "SUB", "MUL") and operator.with_constant and before.name in _WEIGHTED:
        yield "constant_alone"


def _pieces_on_gpu(operators: list[_Operator]) -> int:
    """Runs of operators that a GPU computes, in the file's order."""
    on_gpu = [operator.name in _ON_GPU for operator in operators]
    return sum(here and not before for before, here in zip([False, *on_gpu], on_gpu, strict=False))

"""A finished file's ends and graph, looked at before what it answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from stages.conversion.inspection import check_signature, inspect_model
from stages.conversion.lint import GraphDelegate, check_graph, lint_graph
from stages.conversion.parity import Parity
from stages.documents import ConversionCheck, EdgeCheck, ElementType, Precision
from stages.documents.conversion import LintFinding
from stages.space.search_space import NetConfig


@dataclass(frozen=True)
class SoundGraph:
    """What a file is made of, in how many pieces its delegate runs it, and the rules that it may break."""

    operator_counts: Mapping[str, int]
    delegate_partitions: int
    findings: tuple[LintFinding, ...] = ()

    @property
    def operators(self) -> int:
        """How many operators the file holds."""
        return sum(self.operator_counts.values())

    def proof(self, parity: Parity, edges: tuple[EdgeCheck, ...]) -> ConversionCheck:
        """The document's part about a file with this graph, and with answers that were compared."""
        return ConversionCheck(
            images=parity.images,
            max_abs_diff=parity.max_abs_diff,
            max_relative_diff=parity.max_relative_diff,
            top1_agreement_percent=parity.top1_agreement_percent,
            snr_db=parity.snr_db,
            edges=edges,
            operators=self.operators,
            operator_counts=dict(self.operator_counts),
            delegate_partitions=self.delegate_partitions,
            findings=self.findings,
        )


def sound_graph(
    model: bytes,
    net: NetConfig,
    *,
    name: str,
    precision: Precision = "float32",
    input_type: ElementType = "float32",
    delegate: GraphDelegate = "cpu",
    one_partition: bool = True,
) -> SoundGraph:
    """Open a network's file with LiteRT, and refuse other ends than its own and a graph that breaks a rule.

    ``delegate``: what will run it. Dynamic range falls into pieces, as its warning says: no rule is for it.
    ``name`` is the network's. Raises ConversionError.
    """
    named = name if precision == "float32" else f"{name} in {precision}"
    structure = inspect_model(model, name=f"the model of network {named}")
    check_signature(
        structure,
        name=named,
        input_shape_NHWC=(1, net.resolution, net.resolution, net.input_channels),
        classes=net.classes,
        input_type=input_type,
    )
    if precision == "dynamic_range":
        return SoundGraph(structure.operator_counts, structure.delegate_partitions)
    lint = lint_graph(model, structure, precision=precision, delegate=delegate)
    check_graph(lint, name=name, one_partition=one_partition)
    return SoundGraph(structure.operator_counts, lint.delegate_partitions, lint.findings)

"""Which networks may be the reference, and what the test images say about equal accuracy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol

from stages.documents import Origin, Role
from stages.space.weights_origin import WeightsOrigin

REFERENCES: frozenset[Role] = frozenset({"full", "baseline", "baseline_published"})
"""Roles of networks that people would have taken without a search."""

AccuracyRelation = Literal["better", "equal", "worse", "unknown"]


class Network(Protocol):
    """What decides whether a network may be the reference."""

    @property
    def name(self) -> str:
        """Unlike any other's."""
        ...

    @property
    def role(self) -> Role:
        """What it is compared as."""
        ...

    @property
    def origin(self) -> Origin:
        """Which weights its training began with."""
        ...

    @property
    def pretrained(self) -> WeightsOrigin | None:
        """The published weights that these descend from."""
        ...


def is_pretrained(network: Network) -> bool:
    """Whether its weights descend from published ones."""
    return network.origin == "pretrained" or network.pretrained is not None


def counting(networks: Sequence[Network], *, published: bool = False) -> list[str]:
    """The names of those that the found network may be compared with at equal accuracy, in order.

    They are what people would have taken. Where the found network's weights descend from published ones, only
    networks whose weights do count: the whole network that its space was cut from, and MobileNetV2s with
    pretrained weights. Against one that started from random numbers, the speed-up would be that of the
    weights. ``published``: MobileNetV2s with their own strides count, too; pretrained ones always do, since
    their weights were made for these strides.
    """
    pretrained = any(is_pretrained(network) for network in networks if network.role == "found")
    roles = REFERENCES if published else REFERENCES - {"baseline_published"}
    if pretrained:
        return [n.name for n in networks if n.role in REFERENCES and is_pretrained(n)]
    return [n.name for n in networks if n.role in roles]


def accuracy_relation(low: float, high: float, margin: float) -> AccuracyRelation:
    """The found network's accuracy beside the reference's, from the interval of found less reference.

    ``better`` and ``worse`` where the interval leaves out 0. ``equal`` where it holds 0 and the found network
    is less accurate by ``margin`` at most, ``unknown`` where it may be less accurate by more.
    """
    if low > 0:
        return "better"
    if high < 0:
        return "worse"
    return "equal" if low >= -margin else "unknown"

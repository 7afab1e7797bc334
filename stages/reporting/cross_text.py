"""The cross table in words and rows: for the terminal, the report and the page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from nasflow.base.text import plain_line
from stages.documents import CrossCell, CrossTable, HardwareTarget
from stages.reporting.notation import amount, architecture_line, milliseconds, signed
from stages.reporting.summary import aligned, wrapped
from stages.space.preferences import Shares


def times_as_long(cell: CrossCell) -> str:
    """``1.12 (1.10 to 1.14)``; ``own`` for the target's own network."""
    if cell.network == cell.target:
        return "own"
    low, high = cell.ratio_to_own_interval_95
    return f"{cell.ratio_to_own:.2f} ({low:.2f} to {high:.2f})"


def accuracy_words(cell: CrossCell) -> str:
    """``91.84 (91.3 to 92.4)``; a dash where it is not known."""
    if cell.accuracy is None:
        return "–"
    low, high = cell.accuracy.interval_95
    return f"{cell.accuracy.percent:.2f} ({low:.1f} to {high:.1f})"


def cross_sentences(table: CrossTable) -> list[tuple[str, str]]:
    """(target, sentence): what its own network is there beside every other's."""
    said = [(plain_line(target.name), _on(table, target)) for target in table.targets]
    said.append(("Measured", _how(table)))
    return said


def _on(table: CrossTable, target: HardwareTarget) -> str:
    own = table.network(target.name)
    cell = table.cell(target.name, target.name)
    parts = [
        f"{plain_line(target.device.model)}, {plain_line(target.device.runtime)}: target "
        f"{milliseconds(target.target_ms)} ms; its own network takes "
        f"{milliseconds(cell.measurement.median_ms)} ms"
        + (f", accuracy {accuracy_words(cell)} %" if table.trained else "")
        + "."
    ]
    others = [n for n in table.networks if n.target != target.name]
    same = [plain_line(n.target) for n in others if n.choices == own.choices]
    if same:
        parts.append(f"The same network was found for {' and '.join(same)}.")
    beside = [table.cell(n.target, target.name) for n in others if n.choices != own.choices]
    parts += [f"That of {plain_line(c.network)} takes {_beside(table, c)}." for c in beside]
    better = [plain_line(c.network) for c in beside if _better(table, c)]
    if better:
        parts.append(f"Better here than its own: that of {' and '.join(better)}.")
    elif beside:
        parts.append("No other is shown to be better here.")
    return " ".join(parts)


def _beside(table: CrossTable, cell: CrossCell) -> str:
    low, high = cell.ratio_to_own_interval_95
    if low <= 1 <= high:
        time = f"as long ({low:.2f} to {high:.2f} times)"
    else:
        time = f"{times_as_long(cell)} times as long"
    if cell.accuracy is not None:
        least, most = cell.accuracy.points_interval_95
        return f"{time}, accuracy {signed(cell.accuracy.points)} points ({signed(least)} to {signed(most)})"
    loss = _loss(table, cell)
    return time if table.trained else f"{time}, estimated loss {loss:+.3f}".replace("-", "−")


def _loss(table: CrossTable, cell: CrossCell) -> float:
    return table.network(cell.network).estimated_loss - table.network(cell.target).estimated_loss


def _better(table: CrossTable, cell: CrossCell) -> bool:
    """Faster and no less accurate, or more accurate and no slower; of untrained networks by estimates."""
    _, high = cell.ratio_to_own_interval_95
    if cell.accuracy is None:
        return not table.trained and high < 1 and _loss(table, cell) <= 0
    least, _ = cell.accuracy.points_interval_95
    # Both known surely: what an interval leaves open makes no network better than another.
    return (high < 1 and least >= 0) or (least > 0 and high <= 1)


def _how(table: CrossTable) -> str:
    words = (
        "A time beside another is the ratio of interleaved rounds on one device, with its 95 % interval; "
        "times of different devices stand for themselves."
    )
    if table.trained:
        return (
            f"{words} Accuracies are those of the trained networks on {table.test_images:,} test images, in "
            "the device’s precision, with Wilson’s 95 % intervals; differences are paired image by image."
        )
    return (
        f"{words} None of these networks is trained: a loss is estimated from the search, on validation "
        "images in the supernet (nasflow run --devices … --train trains them)."
    )


def cross_lines(table: CrossTable, width: int) -> list[str]:
    """The table for a terminal."""
    heads = [f"on {plain_line(target.name)}, ms" for target in table.targets]
    known = "accuracy %" if table.trained else "est. loss"
    rows = [("network of", *heads, known)]
    for network in table.networks:
        cells = [table.cell(network.target, target.name) for target in table.targets]
        own = table.cell(network.target, network.target)
        worth = accuracy_words(own) if table.trained else f"{network.estimated_loss:.3f}"
        rows.append((plain_line(network.target), *map(_in_cell, cells), worth))
    lines = [*aligned(rows), ""]
    lines += aligned([LIKES, *likes_rows(liked(table))])
    lines += ["", *(f"{plain_line(n.target)}  {architecture_line(n.net)}" for n in table.networks), ""]
    return [*lines, *(wrapped(subject, said, width) for subject, said in _subjects(table))]


def _subjects(table: CrossTable) -> Iterator[tuple[str, str]]:
    """Long names of targets stand in the sentence: the room of a subject is narrow."""
    for subject, said in cross_sentences(table):
        yield ("On", f"{subject}: {said}") if subject != "Measured" else (subject, said)


def _in_cell(cell: CrossCell) -> str:
    beside = times_as_long(cell)
    return f"{cell.measurement.median_ms:.4f} {beside if beside.endswith(')') else f'({beside})'}"


LIKES = ("network of", "kernels", "by probabilities", "expansions", "by probabilities", "layers", "MACs")


class Liked(NamedTuple):
    """A device's network, and what was learned for it; ``name``: what the network is called."""

    name: str
    network: Shares
    learned: Shares | None
    macs: int


def liked(table: CrossTable) -> list[Liked]:
    """The networks of a table."""
    return [Liked(plain_line(n.target), n.shares, n.learned, n.net.macs) for n in table.networks]


def likes_rows(networks: Sequence[Liked]) -> list[tuple[str, ...]]:
    """The cells of :data:`LIKES`: what each network is made of, and what was learned."""
    return [
        (
            one.name,
            kernel_words(one.network),
            kernel_words(one.learned) if one.learned else "–",
            expansion_words(one.network),
            expansion_words(one.learned) if one.learned else "–",
            f"{one.network.depth:.0f} of {one.network.layers}"
            + (f" ({one.learned.depth:.1f})" if one.learned else ""),
            amount(one.macs),
        )
        for one in networks
    ]


def kernel_words(shares: Shares) -> str:
    """``3×3 60 %, 5×5 40 %``."""
    return _percents({f"{kernel}×{kernel}": share for kernel, share in shares.kernels.items()})


def expansion_words(shares: Shares) -> str:
    """``e3 60 %, e6 40 %``."""
    return _percents({f"e{expansion}": share for expansion, share in shares.expansions.items()})


def _percents(named: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {100 * share:.0f}\N{NO-BREAK SPACE}%" for name, share in named.items()) or "–"

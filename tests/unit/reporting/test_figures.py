"""Figures: that every drawing shows what the documents hold."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from itertools import pairwise
from typing import cast
from xml.etree import ElementTree

import pytest
from markupsafe import Markup
from support.sample_documents import ROUNDS, SPACE, sample_documents
from support.sample_variants import searched_by_pairs

from stages.documents import SearchEpoch, SearchResult
from stages.reporting.figures.architecture import architecture_figure, indices
from stages.reporting.figures.evolution import candidate_legend, evolution_figure
from stages.reporting.figures.layers import layers_figure
from stages.reporting.figures.prediction import prediction_figure
from stages.reporting.figures.rounds import rounds_figure
from stages.reporting.figures.search import (
    entropy_figure,
    expected_latency_figure,
    multiplier_figure,
    probabilities_figure,
    supernet_accuracy_figure,
)
from stages.reporting.figures.svg import text_width
from stages.reporting.figures.tradeoff import tradeoff_figure
from stages.reporting.figures.training import accuracy_figure, loss_figure
from stages.reporting.run_documents import RunDocuments
from stages.space import SpaceConfig, load_space, shipped_spaces

RUN = RunDocuments.of(sample_documents())
PRICED = RunDocuments.of(searched_by_pairs(sample_documents()))
TRAINED = [*RUN.finetune.networks, *RUN.baseline.networks]
DRAWINGS: dict[str, Callable[[float], Markup]] = {
    "architecture": lambda w: architecture_figure(RUN.found.net, SPACE, RUN.latency, width=w),
    "layers": lambda w: layers_figure(SPACE, RUN.latency, RUN.prune.found.choices, width=w),
    "tradeoff": lambda w: tradeoff_figure(RUN.verify, width=w),
    "prediction": lambda w: prediction_figure(RUN.latency, RUN.verify.networks, width=w),
    "rounds": lambda w: rounds_figure(RUN.verify.networks, width=w),
    "loss": lambda w: loss_figure(TRAINED, width=w),
    "accuracy": lambda w: accuracy_figure(TRAINED, width=w),
    "expected latency": lambda w: expected_latency_figure(RUN.search, width=w),
    "entropy": lambda w: entropy_figure(RUN.search, width=w),
    "multiplier": lambda w: multiplier_figure(PRICED.search, width=w),
    "supernet": lambda w: supernet_accuracy_figure(RUN.search, width=w),
    "evolution": lambda w: evolution_figure(RUN.search, RUN.prune.found.choices, width=w),
    "probabilities": lambda w: probabilities_figure(RUN.search, RUN.prune.found.choices, width=w),
}


def parsed(drawing: Markup) -> ElementTree.Element:
    return ElementTree.fromstring(str(drawing))


def of_class(drawing: Markup, name: str) -> list[ElementTree.Element]:
    return [e for e in parsed(drawing).iter() if name in (e.get("class") or "").split()]


def texts(drawing: Markup) -> list[str]:
    return [e.text or "" for e in parsed(drawing).iter() if e.tag.endswith("}text")]


# --- every drawing -----------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [344.0, 466.0, 960.0])
@pytest.mark.parametrize("name", DRAWINGS)
def test_a_drawing_is_whole_and_stays_in_its_frame(name: str, width: float) -> None:
    root = parsed(DRAWINGS[name](width))
    view = [float(part) for part in (root.get("viewBox") or "").split()]
    assert view[:3] == [0, 0, width]
    # What has links is a group: nothing in an image can be reached with a keyboard.
    assert root.get("role") == (
        "group" if root.find(".//{http://www.w3.org/2000/svg}a") is not None else "img"
    )
    assert len(root.get("aria-label") or "") > 30
    for node in root.iter():
        for attribute in ("x", "x1", "x2", "cx"):
            if value := node.get(attribute):
                assert -1 <= float(value) <= width + 1, (name, node.tag, attribute, value)
        for attribute in ("y", "y1", "y2", "cy"):
            if value := node.get(attribute):
                assert -1 <= float(value) <= view[3] + 1, (name, node.tag, attribute, value)


@pytest.mark.parametrize("name", DRAWINGS)
def test_a_drawing_has_no_impossible_number_and_no_identifier(name: str) -> None:
    drawing = str(DRAWINGS[name](466.0))
    assert not re.search(r'="[^"]*\b(nan|inf)\b', drawing)
    assert " id=" not in drawing, "drawn twice in one page, identifiers would clash"


# --- what they show ----------------------------------------------------------------------------------


def test_the_architecture_has_a_row_for_every_layer_and_a_gap_for_every_skip() -> None:
    drawing = DRAWINGS["architecture"](960)
    skipped = sum(choice == 4 for choice in RUN.prune.found.choices)
    assert skipped == 3
    assert len(of_class(drawing, "skipped")) == skipped
    assert len(of_class(drawing, "block")) == len(RUN.found.net.blocks)
    assert len(of_class(drawing, "bar")) == len(RUN.found.net.blocks)
    for label in [str(layer + 1) for layer in range(len(SPACE.layers()))]:
        assert label in texts(drawing)
    assert {"32×32", "16×16", "8×8", "4×4"} <= set(texts(drawing))


def test_the_architectures_parts_add_up_to_its_prediction() -> None:
    rows = indices(RUN.found.net, SPACE, RUN.latency)
    total = sum(row.ms for row in rows) + RUN.latency.overhead_ms
    assert total == pytest.approx(RUN.prune.found.predicted_ms)


def test_a_box_links_to_its_blocks_measurement() -> None:
    links = {e.get("href") for e in parsed(DRAWINGS["architecture"](960)).iter() if e.tag.endswith("}a")}
    assert links == {f"#row-{block.key}" for block in RUN.found.net.blocks}
    assert {f"row-{row.block.key}" for row in RUN.profile.rows} >= {(link or "")[1:] for link in links}


def test_residual_blocks_have_a_short_cut() -> None:
    residual = sum(block.residual for block in RUN.found.net.blocks)
    assert len(of_class(DRAWINGS["architecture"](960), "shortcut")) == residual > 0


def test_every_network_stands_at_its_accuracy_and_latency() -> None:
    drawing = DRAWINGS["tradeoff"](960)
    assert len(of_class(drawing, "marker")) == len(RUN.verify.networks)
    assert len(of_class(drawing, "errorbar")) == 2 * len(RUN.verify.networks)
    heights = {
        (m[0].text or "").split(":")[0]: float(m.get("cy") or 0)
        for m in of_class(drawing, "baseline")
        if len(m)
    }
    assert heights["mobilenet_v2_1"] < heights["mobilenet_v2_0.35"], "up is more accurate"
    names = texts(drawing)
    for name in ("found", "random", "MobileNetV2 0.5", "MobileNetV2 1 published"):
        assert name in names


def test_a_disturbed_round_makes_no_longer_bar() -> None:
    [found, *others] = RUN.verify.networks
    rounds = (*found.measurement.round_medians_ms[:-1], 1.5 * found.measurement.median_ms)
    measured = found.measurement.model_copy(update={"round_medians_ms": rounds})
    disturbed = RUN.verify.model_copy(
        update={"networks": (found.model_copy(update={"measurement": measured}), *others)}
    )
    lengths = [
        max(
            float(bar.get("x2") or 0) - float(bar.get("x1") or 0)
            for bar in of_class(tradeoff_figure(verify, width=960), "errorbar")
            if "found" in (bar.get("class") or "").split()
        )
        for verify in (RUN.verify, disturbed)
    ]
    assert 0 < lengths[1] < 2 * lengths[0]


def test_predictions_are_shown_for_calibration_and_held_out_networks() -> None:
    drawing = DRAWINGS["prediction"](466)
    assert len(of_class(drawing, "calibration")) == len(RUN.latency.calibration)
    assert len(of_class(drawing, "held-out")) == len(RUN.latency.held_out)
    assert len(of_class(drawing, "marker")) == 2, "found and random; MobileNetV2 has no prediction"


def test_every_round_of_every_network_is_shown() -> None:
    lines = of_class(DRAWINGS["rounds"](466), "roundline")
    assert len(lines) == len(RUN.verify.networks)
    assert all(len((line.get("points") or "").split()) == ROUNDS for line in lines)


def test_every_training_curve_is_shown_with_its_kept_epoch() -> None:
    assert len(of_class(DRAWINGS["loss"](466), "trainline")) == len(TRAINED)
    assert len(of_class(DRAWINGS["accuracy"](466), "dot")) == len(TRAINED)


def test_one_epoch_is_enough_for_a_curve() -> None:
    short = [n.model_copy(update={"curve": n.curve[:1], "best_epoch": 0}) for n in TRAINED]
    for draw in (loss_figure, accuracy_figure):
        assert len(of_class(draw(short, width=466), "trainline")) == len(TRAINED)
    brief = RUN.search.model_copy(update={"history": RUN.search.history[:1]})
    assert of_class(expected_latency_figure(brief, width=466), "target")


def test_the_heat_map_outlines_what_was_taken() -> None:
    drawing = DRAWINGS["probabilities"](960)
    searched = [layer for layer in SPACE.layers() if len(layer.blocks) > 1]
    assert len(of_class(drawing, "heatframe")) == sum(len(layer.blocks) for layer in searched)
    chosen = of_class(drawing, "chosen")
    assert len(chosen) == len(searched)
    assert (chosen[0][0].text or "").startswith("layer 2, k3 e3: ")
    assert (chosen[1][0].text or "").startswith("layer 3, skip: ")


def test_every_candidates_cost_is_a_bar_and_the_taken_ones_are_outlined() -> None:
    drawing = DRAWINGS["layers"](960)
    searched = [layer for layer in SPACE.layers() if len(layer.blocks) > 1]
    bars = of_class(drawing, "bar")
    assert len(bars) == sum(block is not None for layer in searched for block in layer.blocks)
    costs = [RUN.latency.block_latency_ms(b) for layer in searched for b in layer.blocks if b is not None]
    heights = [float(bar.get("height") or 0) for bar in bars]
    assert heights == pytest.approx([max(heights) * ms / max(costs) for ms in costs], abs=0.6)
    kept = sum(
        layer.blocks[choice] is not None
        for layer, choice in zip(SPACE.layers(), RUN.prune.found.choices, strict=True)
        if len(layer.blocks) > 1
    )
    assert len(of_class(drawing, "chosen")) == kept
    numbers = [word for word in texts(drawing) if word.isdigit()]
    assert numbers.count("2") == 1, "below the groups stand the layers' numbers and nothing else"
    assert "0" in numbers
    assert "1" not in numbers


def test_a_block_that_is_computed_in_parts_is_said_to_be() -> None:
    block = next(b for b in SPACE.layers()[1].blocks if b is not None)
    latency = RUN.latency.model_copy(update={"implementations": {block.key: "split"}})
    drawing = layers_figure(SPACE, latency, RUN.prune.found.choices, width=960)
    titles = [bar[0].text or "" for bar in of_class(drawing, "bar")]
    assert any("computed in four parts" in title for title in titles)


def test_warm_up_is_marked_where_there_is_one() -> None:
    assert "warm-up" in texts(DRAWINGS["entropy"](466))
    searching = tuple(e for e in RUN.search.history if e.phase == "search")
    search = cast(SearchResult, RUN.search.model_copy(update={"history": searching}))
    assert "warm-up" not in texts(entropy_figure(search, width=466))


@pytest.mark.parametrize(
    ("name", "figure_of"),
    [
        ("expected latency", lambda e: e.expected_ms),
        ("entropy", lambda e: e.entropy),
        ("multiplier", lambda e: e.multiplier or 0.0),
        ("supernet", lambda e: e.validation_accuracy_percent),
    ],
)
def test_a_curve_of_the_search_is_drawn_at_its_epochs_values(
    name: str, figure_of: Callable[[SearchEpoch], float]
) -> None:
    """Heights stand in one straight line with the values, and higher values higher on the page."""
    drawing = DRAWINGS[name](466)
    (curve,) = of_class(drawing, "trainline")
    points = [tuple(map(float, pair.split(","))) for pair in (curve.get("points") or "").split()]
    search = PRICED.search if name == "multiplier" else RUN.search
    values = [figure_of(epoch) for epoch in search.history]
    assert len(points) == len(values) > 2
    assert len(set(values)) > 2, "a flat curve shows nothing"
    low, high = values.index(min(values)), values.index(max(values))
    slope = (points[high][1] - points[low][1]) / (values[high] - values[low])
    assert slope < 0
    for (_, y), value in zip(points, values, strict=True):
        assert y == pytest.approx(points[low][1] + slope * (value - values[low]), abs=0.02)
    xs = [x for x, _ in points]
    assert [b - a for a, b in pairwise(xs)] == pytest.approx([xs[1] - xs[0]] * (len(xs) - 1), abs=0.02)
    assert f"from {values[0]:.3g} to {values[-1]:.3g}." in (parsed(drawing).get("aria-label") or "")


# --- probabilities over the epochs -----------------------------------------------------------------


SEARCHED = [index for index, layer in enumerate(SPACE.layers()) if len(layer.blocks) > 1]


def thicknesses(drawing: Markup, moment: int) -> list[float]:
    """How high each band is at a moment, in the order of their titles."""
    heights = {}
    for band in of_class(drawing, "share"):
        points = [tuple(map(float, p.split(","))) for p in (band.get("points") or "").split()]
        moments = len(points) // 2
        below, above = points[:moments], points[: -moments - 1 : -1]
        assert [x for x, _ in below] == [x for x, _ in above]
        heights[band[0].text or ""] = below[moment][1] - above[moment][1]
    return [heights[title] for title in sorted(heights)]


def test_every_layer_has_a_panel_with_a_band_for_every_candidate() -> None:
    drawing = DRAWINGS["evolution"](960)
    assert len(of_class(drawing, "ground")) == len(SEARCHED)
    bands = of_class(drawing, "share")
    assert len(bands) == sum(len(SPACE.layers()[index].blocks) for index in SEARCHED)
    assert len(of_class(drawing, "chosen")) == len(SEARCHED)
    skips = sum(None in SPACE.layers()[index].blocks for index in SEARCHED)
    assert sum("skip" in (band.get("class") or "") for band in bands) == skips


def test_all_bands_of_a_layer_start_alike_and_end_at_their_probabilities() -> None:
    panel = 104.0
    titles = sorted(
        (f"layer {index + 1}, {SPACE.layers()[index].label(i)}: ", index, i)
        for index in SEARCHED
        for i in range(len(SPACE.layers()[index].blocks))
    )
    for width in (344.0, 960.0):
        drawing = DRAWINGS["evolution"](width)
        start = [panel / len(SPACE.layers()[index].blocks) for _, index, _ in titles]
        assert thicknesses(drawing, 0) == pytest.approx(start, abs=0.02)
        end = [panel * RUN.search.history[-1].probabilities[index][i] for _, index, i in titles]
        assert thicknesses(drawing, -1) == pytest.approx(end, abs=0.02)


def test_a_long_search_is_thinned_and_keeps_its_start_and_its_end() -> None:
    history = tuple(
        RUN.search.history[min(epoch // 8, 23)].model_copy(update={"epoch": epoch}) for epoch in range(193)
    )
    drawing = evolution_figure(
        RUN.search.model_copy(update={"history": history}), RUN.prune.found.choices, width=960
    )
    counts = {len((band.get("points") or "").split()) // 2 for band in of_class(drawing, "share")}
    assert counts == {40}
    assert "193" in texts(drawing)
    assert thicknesses(drawing, -1) == pytest.approx(thicknesses(DRAWINGS["evolution"](960), -1))


@pytest.mark.parametrize("name", shipped_spaces())
@pytest.mark.parametrize("width", [344.0, 960.0])
def test_panels_of_a_shipped_space_stay_in_the_frame_and_apart(name: str, width: float) -> None:
    space = load_space(SpaceConfig(name=name))
    layers = space.layers()
    uniform = tuple((1 / len(layer.blocks),) * len(layer.blocks) for layer in layers)
    search = RUN.search.model_copy(
        update={
            "space": space,
            "log_probabilities": uniform,
            "history": (RUN.search.history[-1].model_copy(update={"probabilities": uniform}),),
        }
    )
    drawing = evolution_figure(search, [0] * len(layers), width=width)
    boxes = [
        tuple(float(ground.get(key) or 0) for key in ("x", "y", "width", "height"))
        for ground in of_class(drawing, "ground")
    ]
    assert len(boxes) == sum(len(layer.blocks) > 1 for layer in layers)
    assert all(x >= 0 and x + w <= width + 0.1 and w > 70 and h > 70 for x, y, w, h in boxes)
    for index, (x, y, w, h) in enumerate(boxes):
        for x2, y2, _, _ in boxes[index + 1 :]:
            assert x2 >= x + w or x2 < x or y2 >= y + h
    blocks = [b for layer in layers if len(layer.blocks) > 1 for b in layer.blocks if b is not None]
    assert len(of_class(drawing, "stripes")) == sum(b.kind == "fused" for b in blocks)
    assert len(of_class(drawing, "dots")) == sum(b.squeeze_excite for b in blocks)
    assert len(of_class(drawing, "level")) == sum(b.hswish for b in blocks)
    heads = [e for e in of_class(drawing, "tick") if e.get("y") in {f"{y - 6:g}" for _, y, _, _ in boxes}]
    for (_, left), (right, _) in zip(spans(heads)[::2], spans(heads)[1::2], strict=True):
        assert left <= right


def spans(labels: list[ElementTree.Element]) -> list[tuple[float, float]]:
    """From where to where texts reach, as far as their anchor and length say."""
    found = []
    for label in labels:
        at, wide = float(label.get("x") or 0), text_width(label.text or "", 11.5)
        anchor = next(c for c in (label.get("class") or "").split() if c in ("start", "middle", "end"))
        shift = {"start": 0.0, "middle": wide / 2, "end": wide}[anchor]
        found.append((at - shift, at - shift + wide))
    return found


@pytest.mark.parametrize("name", shipped_spaces())
@pytest.mark.parametrize("width", [344.0, 960.0])
def test_the_words_above_the_probabilities_of_a_shipped_space_stay_apart(name: str, width: float) -> None:
    space = load_space(SpaceConfig(name=name))
    uniform = tuple((1 / len(layer.blocks),) * len(layer.blocks) for layer in space.layers())
    search = RUN.search.model_copy(update={"space": space, "log_probabilities": uniform})
    drawing = probabilities_figure(search, [0] * len(uniform), width=width)
    first = min(float(e.get("y") or 0) for e in of_class(drawing, "heatground"))
    heads = [e for e in of_class(drawing, "tick") if float(e.get("y") or 0) < first]
    said = {words for e in heads for words in (e.text or "").split()}
    assert said == {
        w
        for layer in space.layers()
        for i in range(len(layer.blocks))
        if len(layer.blocks) > 1
        for w in layer.label(i).split()
    }
    rows: dict[str, list[ElementTree.Element]] = {}
    for head in heads:
        rows.setdefault(head.get("y") or "", []).append(head)
    assert min(float(y) for y in rows) > 10
    for row in rows.values():
        assert all(a[1] <= b[0] for a, b in pairwise(sorted(spans(row))))


@pytest.mark.parametrize("name", shipped_spaces())
def test_no_two_candidates_of_a_shipped_space_look_alike(name: str) -> None:
    legend = candidate_legend(load_space(SpaceConfig(name=name)))
    looks = [str(swatch) for swatch, _ in legend]
    assert len(set(looks)) == len(looks) >= 5
    assert legend[-1][1] == "skip"


def test_what_is_spoken_of_the_evolution_names_every_layer() -> None:
    said = parsed(DRAWINGS["evolution"](344)).get("aria-label") or ""
    assert "over 24 epochs, from all alike" in said
    assert all(f"layer {index + 1} " in said for index in SEARCHED)


def test_probabilities_of_the_sample_sum_to_one() -> None:
    for row in RUN.search.log_probabilities:
        assert sum(map(math.exp, row)) == pytest.approx(1)

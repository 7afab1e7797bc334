"""What figures are made of: elements, ticks, scales, labels and tones."""

from __future__ import annotations

from itertools import pairwise
from xml.etree import ElementTree

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from markupsafe import Markup

from stages.reporting.figures.axes import Scale, fitted, log_ticks, nice_ticks, tick_label
from stages.reporting.figures.heat import heat_tone
from stages.reporting.figures.labels import beside_points, spread
from stages.reporting.figures.svg import element, figure, text, text_width


def test_foreign_text_cannot_leave_its_element() -> None:
    nasty = '</text><script>alert("x")</script>\x1b[31m'
    root = ElementTree.fromstring(figure(10, 10, nasty, [text(1, 2, nasty, class_='"><b>')]))
    assert [e.tag for e in root.iter()] == [
        "{http://www.w3.org/2000/svg}svg",
        "{http://www.w3.org/2000/svg}text",
    ]
    assert root[0].text == '</text><script>alert("x")</script>'


def test_attributes_are_spelt_as_svg_wants_them() -> None:
    assert element("line", x1=1.0, y1=-0.001, stroke_width=2, class_="a b") == Markup(
        '<line x1="1" y1="0" stroke-width="2" class="a b"></line>'
    )


@example(low=131071.0, width=2.00001, count=10)
@given(
    st.floats(-1e6, 1e6, allow_nan=False),
    st.floats(1e-3, 1e6, allow_nan=False),
    st.integers(2, 10),
)
def test_ticks_are_few_and_round_and_within(low: float, width: float, count: int) -> None:
    ticks = nice_ticks(low, low + width, count)
    assert len(ticks) <= count + 1
    assert all(low - 1e-6 * width <= tick <= low + width * (1 + 1e-6) for tick in ticks)
    # Compared by their spread: rounding would tear apart two equal steps that lie at its edge.
    steps = [(b - a) / width for a, b in pairwise(ticks)]
    assert not steps or max(steps) - min(steps) <= 1e-6


@given(st.floats(1e-3, 10), st.floats(1.05, 1e4), st.integers(3, 9))
def test_log_ticks_are_never_missing(low: float, factor: float, count: int) -> None:
    ticks = log_ticks(low, low * factor, count)
    assert ticks == sorted(set(ticks))
    assert all(low * 0.999 <= tick <= low * factor * 1.001 for tick in ticks)
    assert len(ticks) >= 1


def test_a_tick_is_spelt_short() -> None:
    assert [tick_label(t) for t in (0.1, -5.0, 1000.0, 0.30000000000000004)] == ["0.1", "−5", "1000", "0.3"]


@pytest.mark.parametrize("log", [False, True])
def test_a_scale_maps_its_ends_to_the_frame(log: bool) -> None:
    scale = Scale(0.1, 10.0, 50, 450, log=log)
    assert (scale(0.1), scale(10.0)) == pytest.approx((50, 450))
    assert scale(1.0) == pytest.approx(250 if log else 50 + 400 * 0.9 / 9.9)


def test_a_single_value_still_has_a_scale() -> None:
    for value in (0.0, 3.0):
        scale = fitted([value], 0, 100)
        assert scale.low < value < scale.high
    assert fitted([2.0], 0, 100, log=True).high > 2


@given(st.lists(st.floats(0, 300), min_size=1, max_size=12))
def test_spread_labels_keep_their_distance_and_order(wanted: list[float]) -> None:
    placed = spread(wanted, 0, 300, 13)
    order = sorted(range(len(wanted)), key=lambda i: wanted[i])
    heights = [placed[i] for i in order]
    assert all(b - a >= 13 - 1e-9 for a, b in pairwise(heights))
    assert heights[-1] <= 300 + 1e-9


def test_labels_of_near_points_do_not_cover_each_other() -> None:
    points, names = [(100.0, 100.0), (108.0, 104.0), (100.0, 110.0)], ["first", "second", "third"]
    placed = beside_points(points, names, [], (0, 0, 300, 300))
    boxes = []
    for label, name in zip(placed, names, strict=True):
        width = text_width(name)
        left = {"start": label.x, "middle": label.x - width / 2, "end": label.x - width}[label.anchor]
        boxes.append((left, label.y - 10, left + width, label.y + 3))
    for i, a in enumerate(boxes):
        for b in boxes[i + 1 :]:
            apart = a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1]
            assert apart, (a, b)


def test_no_cell_has_a_middle_tone_on_which_no_text_can_be_read() -> None:
    opacities = [heat_tone(share / 100)[0] for share in range(101)]
    assert opacities == sorted(opacities)
    assert (opacities[0], opacities[-1]) == (0, 1)
    assert not [opacity for opacity in opacities if 0.46 < opacity < 0.82]
    assert (heat_tone(0.5)[1], heat_tone(0.51)[1]) == ("strong", "dark")

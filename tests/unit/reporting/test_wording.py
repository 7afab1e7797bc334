"""How figures are spelt, and that nothing is claimed where an interval holds the contrary."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.sample_documents import sample_documents

from android_bench.device import DeviceInfo
from nasflow.base.text import plain_line
from stages.documents import AgainstFound, AgainstRandom
from stages.reporting.notation import (
    amount,
    architecture_line,
    display_name,
    milliseconds,
    signed,
)
from stages.reporting.result import ResultDocument
from stages.reporting.run_result import build_result
from stages.reporting.text import headline, sentences, verdict_sentence
from stages.space import SpaceConfig, load_space
from stages.space.block_spec import BlockSpec
from stages.space.search_space import Candidate, SearchSpace, StageSpec, StemSpec


@pytest.fixture(scope="module")
def result() -> ResultDocument:
    return build_result(sample_documents())


def changed(result: ResultDocument, **verification: object) -> ResultDocument:
    return result.model_copy(update={"verification": result.verification.model_copy(update=verification)})


def with_reference_at(result: ResultDocument, points: float) -> ResultDocument:
    networks = tuple(
        n.model_copy(
            update={
                "against_found": AgainstFound(
                    accuracy_points=points,
                    accuracy_points_interval_95=(points - 0.4, points + 0.4),
                    latency_ratio=1.5,
                    latency_ratio_interval_95=(1.4, 1.6),
                )
            }
        )
        if n.name == result.verification.reference
        else n
        for n in result.verification.networks
    )
    return changed(result, networks=networks)


# --- spelling ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.00512, "0.00512"),
        (0.0467, "0.0467"),
        (0.4664, "0.466"),
        (1.494, "1.49"),
        (12.34, "12.3"),
        (140.2, "140"),
    ],
)
def test_latencies_have_three_significant_digits(value: float, text: str) -> None:
    assert milliseconds(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (999, "999"),
        (337_970, "338 k"),
        (2_236_682, "2.24 M"),
        (11_616_256, "11.6 M"),
        (3e9, "3 G"),
        (2.215e17, "2.2·10¹⁷"),
    ],
)
def test_large_numbers_have_a_unit(value: float, text: str) -> None:
    assert amount(value) == text


@pytest.mark.parametrize(
    ("value", "text"), [(0.144, "+0.14"), (-0.32, "−0.32"), (-0.001, "0.00"), (0.0, "0.00")]
)
def test_differences_have_a_sign(value: float, text: str) -> None:
    assert signed(value) == text


@pytest.mark.parametrize(
    ("name", "long", "short"),
    [
        ("mobilenet_v2_0.5_published", "MobileNetV2 0.5 published", "MNv2 0.5 published"),
        ("lite0_full", "full EfficientNet-Lite0", "full Lite0"),
        ("efficientnet_lite0", "EfficientNet-Lite0", "Lite0"),
        ("random_2", "random 2", "random 2"),
    ],
)
def test_a_network_is_called_by_a_name_that_people_know(name: str, long: str, short: str) -> None:
    assert display_name(name) == long
    assert display_name(name, short=True) == short


def test_an_architecture_fits_a_line() -> None:
    space = SearchSpace(
        name="tiny",
        resolution=32,
        classes=10,
        stem=StemSpec(width=16),
        stages=(
            StageSpec(width=16, layers=1, fixed=Candidate(kernel=3, expansion=1)),
            StageSpec(width=24, layers=2, stride=2),
            StageSpec(width=24, layers=2, stride=2),
            StageSpec(width=40, layers=1),
        ),
        head_width=128,
        candidates=(Candidate(kernel=3, expansion=6), Candidate(kernel=5, expansion=3)),
    )
    net = space.network([0, 0, 1, 1, 2, 0])
    assert (
        architecture_line(net) == "stem16/2 | k3e1 16 | k3e6 k5e3 24/2 | k5e3 24/2 | k3e6 40 | head128 | 10"
    )


@pytest.mark.parametrize(
    ("nasty", "plain"),
    [
        ("Pixel \x1b[31mred\x1b[0m", "Pixel red"),
        ("\x1b]0;title\x07Phone", "Phone"),
        ("\x1b]8;;http://example.org\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("a\x9b31mb", "a31mb"),
        ("evil\u202ephone", "evilphone"),
        ("two\nlines\there", "two lines here"),
        ("Gerät 東京", "Gerät 東京"),
    ],
)
def test_foreign_text_cannot_steer_a_terminal(nasty: str, plain: str) -> None:
    assert plain_line(nasty) == plain


@given(st.text())
def test_no_control_character_survives(text: str) -> None:
    kept = plain_line(text)
    assert kept.isprintable()
    assert plain_line(kept) == " ".join(kept.split())


# --- claims ------------------------------------------------------------------------------------------


def test_a_faster_network_is_said_to_be_faster(result: ResultDocument) -> None:
    assert headline(result).startswith("The found network is 1.57 times as fast as MobileNetV2 0.5")
    assert headline(result).endswith("at an accuracy that does not differ significantly.")


def test_an_interval_that_holds_1_claims_nothing(result: ResultDocument) -> None:
    unsure = changed(
        result, equal_accuracy_speedup=1.02, equal_accuracy_speedup_interval_95=(0.97, 1.08), ratio=1 / 1.02
    )
    assert headline(unsure).startswith("No difference in speed can be shown")
    assert "so none is claimed" in dict(sentences(unsure))["Speed-up"]


def test_a_slower_network_is_said_to_be_slower(result: ResultDocument) -> None:
    slower = changed(
        result, equal_accuracy_speedup=0.8, equal_accuracy_speedup_interval_95=(0.78, 0.82), ratio=1.25
    )
    assert "is slower than MobileNetV2 0.5: it takes 1.25 times as long" in headline(slower)


@pytest.mark.parametrize(
    ("points", "words"),
    [(-0.9, "and is 0.90 points more accurate."), (0.9, "but is 0.90 points less accurate.")],
)
def test_a_significant_difference_in_accuracy_is_named(
    result: ResultDocument, points: float, words: str
) -> None:
    assert headline(with_reference_at(result, points)).endswith(words)


def beside_random(
    count: int,
    points: float,
    *,
    predicted: tuple[float, float] = (0.99, 1.02),
    measured: float = 1.01,
) -> AgainstRandom:
    return AgainstRandom(
        networks=count,
        accuracy_points=points,
        accuracy_points_interval_95=(points - 0.4, points + 0.4),
        predicted_ratio=sum(predicted) / 2,
        predicted_ratio_range=predicted,
        latency_ratio=measured,
        latency_ratio_interval_95=(measured - 0.004, measured + 0.004),
    )


@pytest.mark.parametrize(
    ("count", "points", "words"),
    [
        (1, 0.9, "is 0.90 points more accurate than a random network of equal predicted latency (95 % "),
        (1, -0.1, "accuracy does not differ significantly from that of a random network"),
        (1, -0.9, "is 0.90 points less accurate than a random network"),
        (5, 0.9, "is 0.90 points more accurate than the mean of 5 random networks of equal predicted"),
        (5, 0.1, "does not differ significantly from the mean of 5 random networks of equal predicted"),
        (5, -0.9, "is 0.90 points less accurate than the mean of 5 random networks"),
    ],
)
def test_the_gain_over_chance_is_claimed_only_where_shown(
    result: ResultDocument, count: int, points: float, words: str
) -> None:
    said = dict(sentences(changed(result, against_random=beside_random(count, points))))["Random"]
    assert words in said
    assert f"95 % interval {signed(points - 0.4)} to {signed(points + 0.4)}" in said
    assert ("the spread between random networks included" in said) == (count > 1)


@pytest.mark.parametrize(
    ("count", "words"),
    [
        (
            1,
            "Its latency over the found one's: 1.005 predicted, 1.010 measured.",
        ),
        (
            5,
            "Their mean latency over the found one's: 1.005 predicted (0.990 to 1.020), 1.010 measured.",
        ),
    ],
)
def test_how_equal_the_latencies_are_stands_beside_the_comparison(
    result: ResultDocument, count: int, words: str
) -> None:
    said = dict(sentences(changed(result, against_random=beside_random(count, 0.9))))["Random"]
    assert said.endswith(words)


@pytest.mark.parametrize("points", [0.9, 0.1, -0.9])
@pytest.mark.parametrize(
    ("against", "why"),
    [
        (
            {"predicted": (1.62, 1.62), "measured": 1.6},
            "too few networks of the space take as long as the found one, within 3 %; the random network "
            "should take 1.620 times as long, and took 1.600 times as long",
        ),
        (
            {"predicted": (0.86, 0.86), "measured": 0.99},
            "too few networks of the space take as long as the found one, within 3 %; the random network "
            "should take 0.860 times as long, and took 0.990 times as long",
        ),
        (
            {"predicted": (1.01, 1.01), "measured": 1.0301},
            "the random network should take as long as the found one, within 3 % (predicted: 1.010 times), "
            "but took 1.030 times as long on the device",
        ),
        (
            {"count": 5, "predicted": (0.98, 1.2), "measured": 1.0},
            "too few networks of the space take as long as the found one, within 3 %; the random networks "
            "should take 0.980 to 1.200 times as long, and took 1.000 times as long in the mean",
        ),
        (
            {"count": 5, "predicted": (0.98, 1.02), "measured": 0.96},
            "the random networks should take as long as the found one, within 3 % (predicted: 1.000 times), "
            "but took 0.960 times as long in the mean on the device",
        ),
    ],
)
def test_nothing_is_concluded_where_the_latencies_are_not_equal(
    result: ResultDocument, points: float, against: dict[str, Any], why: str
) -> None:
    beside = beside_random(**{"count": 1, "points": points, **against})
    said = dict(sentences(changed(result, against_random=beside)))["Random"]
    assert said.startswith(f"No conclusion about search against random: {why}. ")
    assert f"{signed(points)} points (95 % interval {signed(points - 0.4)} to {signed(points + 0.4)}" in said
    for claim in ("more accurate", "less accurate", "chance did better", "differ", "equal predicted latency"):
        assert claim not in said


@pytest.mark.parametrize("ratio", [0.97, 1.0, 1.03])
def test_up_to_three_percent_count_as_equal(result: ResultDocument, ratio: float) -> None:
    beside = beside_random(1, 0.9, predicted=(ratio, ratio), measured=ratio)
    assert "more accurate" in dict(sentences(changed(result, against_random=beside)))["Random"]


def test_without_random_networks_nothing_is_said_of_them(result: ResultDocument) -> None:
    assert "Random" not in dict(sentences(changed(result, against_random=None)))


def test_several_random_networks_are_named_together(result: ResultDocument) -> None:
    networks = result.verification.networks
    random = next(n for n in networks if n.role == "random")
    more = tuple(random.model_copy(update={"name": f"random_{number}"}) for number in (2, 3))
    said = dict(sentences(changed(result, networks=(*networks, *more))))["Weights"]
    assert said.startswith("Those of found and the random networks were inherited")


@pytest.mark.parametrize(
    ("verdict", "max_ratio", "words"),
    [
        ("pass", 0.7, "Pass. The latency ratio is 0.636 (95 % interval 0.626 to 0.646), wholly below"),
        ("fail", 0.6, "wholly above verify.max_ratio 0.6"),
        ("inconclusive", 0.635, "not wholly on one side of"),
    ],
)
def test_a_verdict_names_what_it_rests_on(
    result: ResultDocument, verdict: str, max_ratio: float, words: str
) -> None:
    assert words in verdict_sentence(changed(result, verdict=verdict, max_ratio=max_ratio))


def test_a_head_start_is_said(result: ResultDocument) -> None:
    assert dict(sentences(result))["Weights"].startswith("Those of found and random were inherited")
    fresh = tuple(n.model_copy(update={"origin": "fresh"}) for n in result.verification.networks)
    assert "Weights" not in dict(sentences(changed(result, networks=fresh)))


def test_a_virtual_phone_is_called_one() -> None:
    phone = DeviceInfo(kind="android", model="P", soc="s", os_build="b", runtime="r", virtual=True)
    said = dict(sentences(build_result(sample_documents(device=phone))))
    assert "A simulated phone" in said["Device"]


def test_a_block_of_another_width_starts_a_group() -> None:
    block = BlockSpec(kind="stem", kernel=3, in_channels=3, out_channels=8, resolution=8)
    last = BlockSpec(kind="classifier", in_channels=8, out_channels=2, resolution=8)
    from stages.space.search_space import NetConfig

    assert architecture_line(NetConfig(resolution=8, classes=2, blocks=(block, last))) == "stem8 | 2"


def test_squeeze_excite_and_hswish_stand_in_the_line_of_an_architecture() -> None:
    net = load_space(SpaceConfig(name="mobile_v3")).network(
        [0, 0, 2, 4, *[10] * 2, 8, 10, 10, 10, 0, 10, 9, 10, 10]
    )
    assert architecture_line(net) == (
        "stem16/2 | k3e1 16 | k3e3 k5e3+se 24/2 | k3e3+hs 40/2 | k5e3+se+hs 80/2 | k3e3 112 | "
        "k5e6+se+hs 160/2 | head960 | 1000"
    )


def test_a_speed_up_over_a_more_accurate_network_is_not_called_one_at_equal_accuracy(
    result: ResultDocument,
) -> None:
    assert "at equal accuracy" in dict(sentences(with_reference_at(result, 0.1)))["Speed-up"]
    assert "at better accuracy" in dict(sentences(with_reference_at(result, -0.9)))["Speed-up"]
    behind = dict(sentences(with_reference_at(result, 0.9)))["Speed-up"]
    assert "at 0.90 points less" in behind
    assert "equal accuracy" not in behind


def test_a_foreign_table_is_named_wherever_the_result_is_told(result: ResultDocument) -> None:
    assert "Foreign" not in dict(sentences(result))
    foreign = result.latency_model.model_copy(update={"foreign": ("OS build: A in the table, B here",)})
    said = dict(sentences(result.model_copy(update={"latency_model": foreign})))["Foreign"]
    assert said == "The latency table was not measured on this device: OS build: A in the table, B here."


def test_a_baseline_is_called_beaten_only_where_it_is_in_both(result: ResultDocument) -> None:
    assert "MobileNetV2 0.5 (takes 1.50 times as long, 0.90 points less accurate)" in dict(
        sentences(with_reference_at(result, -0.9))
    ).get("Beaten", "")
    assert "MobileNetV2 0.5" not in dict(sentences(with_reference_at(result, 0.1))).get("Beaten", "")

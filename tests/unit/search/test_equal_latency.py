"""Random networks of one latency: from the band itself, every different network of it equally likely."""

from __future__ import annotations

import random
from collections import Counter
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from nasflow.base.errors import UsageError
from stages.space import SpaceConfig, equal_latency, load_space, shipped_spaces
from stages.space.equal_latency import Band, random_networks_near
from stages.space.network_words import Networks, Word
from stages.space.search_space import SearchSpace

Keys = list[list[str | None]]
Costs = list[list[float]]
Path = tuple[int, ...]

RUN: Keys = [["k3", "k5", None]] * 5
RUN_MS: Costs = [[0.10, 0.13, 0.0]] * 5
"""A run of equal layers: 243 paths to 63 networks."""


def word_of(keys: Keys, path: Path) -> Word:
    return Networks.of(keys).word(path)


def taken_ms(costs: Costs, path: Path) -> float:
    return sum(row[choice] for row, choice in zip(costs, path, strict=True))


def all_paths(keys: Keys) -> list[Path]:
    return list(product(*(range(len(row)) for row in keys)))


def networks_between(keys: Keys, costs: Costs, low_ms: float, high_ms: float) -> set[Word]:
    return {
        word_of(keys, path)
        for path in all_paths(keys)
        if low_ms - 1e-9 <= taken_ms(costs, path) <= high_ms + 1e-9
    }


def space_costs(space: SearchSpace) -> Costs:
    """An invented device: multiply-accumulates, and a little for every block."""
    return [
        [0.0 if block is None else 0.001 + block.macs / 1e8 for block in layer.blocks]
        for layer in space.layers()
    ]


@pytest.fixture
def never_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a space too large to look at each network of the band."""
    monkeypatch.setattr(equal_latency, "ENUMERATED", 0)


# --- uniform -----------------------------------------------------------------------------------------------


def uniform_p(draws: Counter[Word], networks: set[Word]) -> float:
    assert set(draws) <= networks
    return float(chisquare([draws[word] for word in sorted(networks)]).pvalue)


DRAWS = 4000


def drawn_from(band: Band, count: int) -> Counter[Word]:
    chance = random.Random("uniform")
    return Counter(band.draw(1, chance, other_than=set())[0] for _ in range(count))


def test_every_different_network_of_the_band_is_equally_likely() -> None:
    networks = networks_between(RUN, RUN_MS, 0.3, 0.5)
    assert len(networks) == 24
    block_ms = {"k3": 0.10, "k5": 0.13}
    assert uniform_p(drawn_from(Band(Networks.of(RUN), block_ms, 0.3, 0.5), DRAWS), networks) > 0.001


def test_so_it_is_where_networks_are_counted_and_not_listed(never_listed: None) -> None:
    networks = networks_between(RUN, RUN_MS, 0.3, 0.5)
    band = Band(Networks.of(RUN), {"k3": 0.10, "k5": 0.13}, 0.3, 0.5)
    chance = random.Random("counted")
    draws = Counter(word for _ in range(DRAWS // 3) for word in band.draw(3, chance, other_than=set()))
    assert uniform_p(draws, networks) > 0.001


def test_control_the_test_of_uniformity_sees_paths_that_are_drawn_in_place_of_networks() -> None:
    networks = networks_between(RUN, RUN_MS, 0.3, 0.5)
    paths = [path for path in all_paths(RUN) if word_of(RUN, path) in networks]
    chance = random.Random("control")
    draws = Counter(word_of(RUN, chance.choice(paths)) for _ in range(DRAWS))
    assert uniform_p(draws, networks) < 1e-6


@given(
    rows=st.lists(
        st.lists(st.sampled_from(["a", "b", "c", "d", None]), min_size=1, max_size=4, unique=True).filter(
            lambda row: row != [None]
        ),
        min_size=1,
        max_size=6,
    ),
    ms=st.lists(st.floats(0.001, 1.0), min_size=4, max_size=4),
    index=st.floats(0, 1),
    width=st.floats(0.001, 0.5),
)
@settings(max_examples=150)
def test_a_band_that_is_listed_holds_just_its_networks(
    rows: Keys, ms: list[float], index: float, width: float
) -> None:
    block_ms = dict(zip("abcd", ms, strict=True))
    costs = [[0.0 if key is None else block_ms[key] for key in row] for row in rows]
    low_ms = index * sum(map(max, costs))
    high_ms = low_ms + width
    band = Band(Networks.of(rows), block_ms, low_ms, high_ms)
    listed = band.draw(1, random.Random(0), other_than=set())
    wanted = {
        word
        for word in {word_of(rows, path) for path in all_paths(rows)}
        if low_ms <= band.cost_ms(word) <= high_ms
    }
    assert len(listed) == len(set(listed))
    edge = [word for word in listed if word not in wanted]
    assert wanted <= set(listed)
    assert all(min(abs(band.cost_ms(w) - e) for e in (low_ms, high_ms)) < 1e-8 for w in edge)


# --- what is drawn -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(shipped_spaces()))
@pytest.mark.parametrize("times", [1.001, 1.05, 1.1, 1.3, 1.5, 2.0, 3.0])
def test_every_draw_lies_in_the_band_and_no_two_are_one_network(name: str, times: float) -> None:
    """At the fast end of a space uniform draws were up to twice as slow as what they stood beside."""
    space = load_space(SpaceConfig(name=name))
    keys, costs = space.keys(), space_costs(space)
    fastest = [min(range(len(row)), key=row.__getitem__) for row in costs]
    fixed_ms = 0.02
    wanted_ms = times * (taken_ms(costs, tuple(fastest)) + fixed_ms)
    paths = random_networks_near(
        keys, costs, wanted_ms, fixed_ms=fixed_ms, count=5, seed=3, other_than=fastest
    )
    words = [Networks.of(keys).word(path) for path in paths]
    assert len(set(words)) == 5 and Networks.of(keys).word(fastest) not in words
    held = Band(
        Networks.of(keys),
        {k: ms for row, of in zip(keys, costs, strict=True) for k, ms in zip(row, of, strict=True) if k},
        0.97 * wanted_ms - fixed_ms,
        1.03 * wanted_ms - fixed_ms,
    ).draw(5, random.Random(0), other_than={Networks.of(keys).word(fastest)})
    inside = [p for p in paths if 0.97 - 1e-6 <= (taken_ms(costs, p) + fixed_ms) / wanted_ms <= 1.03 + 1e-6]
    assert len(inside) == min(5, len(held)), "others join only where the band holds no more"
    assert paths[: len(inside)] == inside


def test_draws_repeat_with_their_seed_and_differ_between_seeds() -> None:
    space = load_space(SpaceConfig(name="proxyless_mobile"))
    keys, costs = space.keys(), space_costs(space)
    wanted_ms = 2.0 * sum(map(min, costs))
    draws = [random_networks_near(keys, costs, wanted_ms, count=3, seed=seed) for seed in (1, 1, 2)]
    assert draws[0] == draws[1] != draws[2]


@pytest.mark.parametrize("listed", [True, False])
def test_more_networks_begin_with_the_same_ones(listed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not listed:
        monkeypatch.setattr(equal_latency, "ENUMERATED", 0)
    few, more, many = (
        random_networks_near(RUN, RUN_MS, 0.35, count=count, seed=4, other_than=(0, 0, 0, 2, 2))
        for count in (0, 2, 9)
    )
    assert few == [] and more == many[:2] and len(many) == 9


def test_paths_to_the_found_network_are_all_left_out() -> None:
    """Two skips of five equal layers: ten paths, one network."""
    found = (0, 0, 0, 2, 2)
    networks = networks_between(RUN, RUN_MS, 0.97 * 0.3, 1.03 * 0.3)
    assert networks == {("k3", "k3", "k3")}
    drawn = random_networks_near(RUN, RUN_MS, 0.3, count=1, seed=0, other_than=found)
    assert word_of(RUN, drawn[0]) != ("k3",) * 3


def test_where_the_band_is_empty_the_nearest_other_networks_are_drawn() -> None:
    drawn = random_networks_near(RUN, RUN_MS, 0.3, count=2, seed=0, other_than=(2, 2, 0, 0, 0))
    # The next take 0.26 (two k5) and 0.33 (two k3 and a k5, in three orders).
    assert sorted({round(taken_ms(RUN_MS, path), 9) for path in drawn}) in ([0.33], [0.26, 0.33])
    assert abs(taken_ms(RUN_MS, drawn[0]) - 0.3) == pytest.approx(0.03)


def test_more_networks_than_the_space_holds_are_a_mistake() -> None:
    keys: Keys = [["a"], ["b", "c"]]
    costs = [[0.1], [0.2, 0.9]]
    assert random_networks_near(keys, costs, 0.3, count=1, seed=0, other_than=(0, 0)) == [(0, 1)]
    with pytest.raises(UsageError, match=r"holds 1 other networks .* prune\.random_networks asks for 2"):
        random_networks_near(keys, costs, 0.3, count=2, seed=0, other_than=(0, 0))
    with pytest.raises(UsageError, match="holds no other networks"):
        random_networks_near([["a"], ["b"]], [[0.1], [0.2]], 0.3, count=1, seed=0, other_than=(0, 0))


def test_a_space_of_thirty_layers_with_seven_candidates_takes_a_bounded_count(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    chance = random.Random(0)
    keys: Keys = [[f"{index}/{n}" for n in range(7)] for index in range(30)]
    costs = [[chance.uniform(0.05, 1.0) for _ in row] for row in keys]
    middle_ms = sum(map(sum, costs)) / 7
    networks = Networks.of(keys)
    assert sum(map(len, networks.steps)) == 7 * 30
    counted: list[int] = []
    before = equal_latency._Numbered.of

    def counting(band: Band, fineness: int) -> equal_latency._Numbered:
        numbered = before(band, fineness)
        counted.append(sum(map(len, numbered.ways)))
        return numbered

    monkeypatch.setattr(equal_latency._Numbered, "of", counting)
    for share in (0.5, 1.0):
        paths = random_networks_near(keys, costs, share * middle_ms, count=5, seed=1)
        assert all(abs(taken_ms(costs, path) / (share * middle_ms) - 1) <= 0.0301 for path in paths)
    assert len(counted) <= 4 and sum(counted) < 1_000_000, "a second of work, and not a minute"


# --- paths and networks ------------------------------------------------------------------------------------


@given(
    rows=st.lists(
        st.lists(st.sampled_from(["a", "b", None]), min_size=1, max_size=3, unique=True).filter(
            lambda row: row != [None]
        ),
        min_size=1,
        max_size=6,
    )
)
@settings(max_examples=150)
def test_a_network_and_its_path_lead_to_one_another(rows: Keys) -> None:
    networks = Networks.of(rows)
    words = {networks.word(path) for path in all_paths(rows)}
    assert networks.count() == len(words)
    for word in words:
        path = networks.path(word)
        assert networks.word(path) == word
        assert all(0 <= choice < len(row) for choice, row in zip(path, rows, strict=True))


def test_a_layer_without_a_skip_behind_one_that_is_alike_is_always_taken() -> None:
    keys: Keys = [["a", None], ["a"]]
    networks = Networks.of(keys)
    assert networks.count() == 2
    assert networks.path(("a",)) == (1, 0)
    assert networks.path(("a", "a")) == (0, 0)

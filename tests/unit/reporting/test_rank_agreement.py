"""The supernet's ranks against the finished ones: scipy's figures, exact chances, and no claim from few."""

from __future__ import annotations

import math
import random
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import kendalltau
from support.sample_documents import sample_documents

from stages.documents import PrunedNetworks, Verification
from stages.reporting.rank_agreement import SIGNIFICANT, RankAgreement, RankedNetwork, kendall, rank_agreement
from stages.reporting.run_documents import RunDocuments
from stages.reporting.text import agreement_sentence

BEFORE = [70.1, 71.4, 72.0, 74.9, 76.3, 78.8, 80.2]


def agreement(supernet: list[float], finished: list[float]) -> RankAgreement:
    networks = tuple(
        RankedNetwork(name=f"n{i}", role="front", supernet_accuracy_percent=a, accuracy_percent=b)
        for i, (a, b) in enumerate(zip(supernet, finished, strict=True))
    )
    tau_b, p_value = kendall(supernet, finished)
    return RankAgreement(networks=networks, tau_b=tau_b, p_value=p_value)


# --- the figures -----------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [4, 5, 7])
def test_the_chance_of_full_agreement_is_exact(count: int) -> None:
    for second in (BEFORE[:count], [-value for value in BEFORE[:count]]):
        tau_b, p_value = kendall(BEFORE[:count], second)
        assert tau_b == pytest.approx(1 if second[0] > 0 else -1)
        assert p_value == pytest.approx(2 / math.factorial(count))


@given(st.permutations(list(range(6))))
def test_without_ties_it_is_scipys_exact_test(order: list[int]) -> None:
    expected = kendalltau(range(6), order, method="exact")
    tau_b, p_value = kendall(list(range(6)), [float(value) for value in order])
    assert tau_b == pytest.approx(expected.statistic)
    assert p_value == pytest.approx(expected.pvalue)


def test_ties_are_counted_as_they_are() -> None:
    first, second = [1.0, 2.0, 2.0, 3.0, 4.0], [1.0, 2.0, 3.0, 3.0, 5.0]
    tau_b, p_value = kendall(first, second)
    assert tau_b == pytest.approx(kendalltau(first, second).statistic)
    taus = [kendalltau(first, order).statistic for order in permutations(second)]
    assert p_value == pytest.approx(sum(abs(tau) >= abs(tau_b or 0) - 1e-9 for tau in taus) / len(taus))


def test_with_many_networks_it_is_scipys() -> None:
    generator = random.Random(5)
    first = [generator.gauss() for _ in range(12)]
    second = [value + generator.gauss() for value in first]
    tau_b, p_value = kendall(first, second)
    expected = kendalltau(first, second)
    assert (tau_b, p_value) == (pytest.approx(expected.statistic), pytest.approx(expected.pvalue))


@pytest.mark.parametrize("count", [2, 3, 5])
def test_equal_accuracies_have_no_order(count: int) -> None:
    for first, second in ((BEFORE[:count], [88.0] * count), ([70.0] * count, BEFORE[:count])):
        assert kendall(first, second) == (None, None)
        said = agreement_sentence(agreement(first, second))
        assert ("no ranking" if count == 5 else "too few to tell") in said


def test_below_four_networks_there_is_no_p_value() -> None:
    assert kendall(BEFORE[:3], BEFORE[:3]) == (pytest.approx(1), None)
    assert kendall(BEFORE[:2], BEFORE[:2]) == (pytest.approx(1), None)


# --- negative control ------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [5, 7, 12])
def test_permuted_accuracies_have_no_correlation_on_average_and_alarm_as_rarely_as_they_may(
    count: int,
) -> None:
    """A true relation is found; with the finished accuracies dealt out anew it is gone."""
    generator = random.Random(count)
    supernet = [70 + index + generator.uniform(-0.3, 0.3) for index in range(count)]
    finished = [88 + 0.4 * index + generator.uniform(-0.1, 0.1) for index in range(count)]
    tau_b, p_value = kendall(supernet, finished)
    assert tau_b == pytest.approx(1)
    assert p_value is not None
    assert p_value < SIGNIFICANT
    trials = 300
    outcomes = [kendall(supernet, generator.sample(finished, count)) for _ in range(trials)]
    taus = [tau for tau, _ in outcomes if tau is not None]
    spread = math.sqrt(2 * (2 * count + 5) / (9 * count * (count - 1)))  # of tau if all orders are alike
    assert abs(sum(taus) / trials) < 4 * spread / math.sqrt(trials)
    alarms = sum(p is not None and p < SIGNIFICANT for _, p in outcomes)
    assert alarms <= trials * SIGNIFICANT + 3 * math.sqrt(trials * SIGNIFICANT)
    assert sum(p is not None and p > 0.3 for _, p in outcomes) > trials / 2


# --- the words -------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_fewer_than_five_networks_say_nothing_about_the_supernet(count: int) -> None:
    said = agreement_sentence(agreement(BEFORE[:count], BEFORE[:count]))
    assert said.startswith(f"{count} trained network{'s are' if count > 1 else ' is'} too few to tell")
    assert "prune.random_networks" in said
    assert "tau" not in said


def test_more_networks_claim_what_their_order_shows() -> None:
    assert "agree significantly" in agreement_sentence(agreement(BEFORE, BEFORE))
    reverse = agreement_sentence(agreement(BEFORE, BEFORE[::-1]))
    assert "−1.00" in reverse
    assert "disagree significantly" in reverse
    shuffled = [BEFORE[index] for index in (3, 0, 5, 2, 6, 1, 4)]
    assert agreement_sentence(agreement(BEFORE, shuffled)).endswith("not significant.")


# --- from the documents ----------------------------------------------------------------------------


def test_found_random_and_front_are_compared_and_baselines_are_not() -> None:
    documents = sample_documents()
    prune, verify = documents["prune"], documents["verify"]
    assert isinstance(prune, PrunedNetworks)
    assert isinstance(verify, Verification)
    extra = prune.randoms[0].model_copy(
        update={"name": "front_1", "role": "front", "supernet_accuracy_percent": 80.0}
    )
    tested = verify.networks[1].model_copy(
        update={"name": "front_1", "role": "front", "accuracy_percent": 89.0}
    )
    documents["prune"] = prune.model_copy(update={"front": (extra,)})
    documents["verify"] = verify.model_copy(update={"networks": (*verify.networks, tested)})
    found = rank_agreement(RunDocuments.of(documents))
    assert [(n.name, n.supernet_accuracy_percent, n.accuracy_percent) for n in found.networks] == [
        ("found", 87.9, verify.networks[0].accuracy_percent),
        ("random", 86.4, verify.networks[1].accuracy_percent),
        ("front_1", 80.0, 89.0),
    ]
    assert found.tau_b == pytest.approx(1)

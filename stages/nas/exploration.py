"""Spend noisy evaluations where good networks are likely: near the targets, and where little is known.

Each round estimates what every candidate is worth (:mod:`stages.nas.path_values`), and draws the networks of
the next round by Gibbs sampling from a softmax of that estimate, with a multiplier on latency at which the
target is met. Before a network is drawn, the layers' parts are drawn from their posterior
(Thompson sampling), so that a candidate that had bad luck is seen again. Where many evaluations may be spent
there are further rounds. By then good networks stand far apart, and which of them is best is a matter of
pairs: these are drawn from their posterior, too, and the temperature declines.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from stages.nas.path_values import (
    LIKELIHOOD_NETWORKS,
    PathValues,
    Posterior,
    Variances,
    likely_variances,
    one_hot,
    starts_of,
)

if TYPE_CHECKING:
    import numpy as np

    from stages.nas.path_values import Array, Integers

ROUNDS, MOST_ROUNDS, FURTHER_ROUND = 9, 30, 300  # with so many evaluations a further one is worth its time
FEWEST_AT_RANDOM, SHARE_AT_RANDOM = 200, 1 / 20
DRAWS_A_ROUND = 3  # joint draws of all parts, in a further round
_CALMEST = 0.2  # of the shaking and the temperature, in the last of the further rounds
_TEMPERATURE = 0.1  # of the spread of a uniformly drawn network's estimated value
_SWEEPS, _BISECTIONS = 6, 24


@dataclass(frozen=True)
class Explored:
    """All evaluated paths (N, L) in order, what was observed of each (N,), and the estimate from them."""

    paths_NL: Integers
    observed_N: Array
    values: PathValues


def explore(
    evaluate: Callable[[Integers, Integers], Array],
    costs_ms: Sequence[Sequence[float]],
    targets_ms: Sequence[float],
    *,
    budget: int,
    seed: int,
    contexts: int = 1,
) -> Explored:
    """Evaluate ``budget`` paths, uniformly drawn ones first, then such as are good near the targets.

    ``evaluate`` takes paths (n, L) and for each the number of a context (n,), such as the batch of images
    that it is evaluated on; it returns a noisy value of each, higher is better. What a context adds to all
    values is estimated and left out of the result. ``targets_ms`` bound the sum of ``costs_ms`` over a path;
    half of the later evaluations are for the first. The same seed and answers give the same paths.
    """
    import numpy as np

    random = np.random.default_rng(seed)
    sizes = [len(row) for row in costs_ms]
    rounds = min(MOST_ROUNDS, max(ROUNDS, budget // FURTHER_ROUND))
    at_random = min(budget, max(int(budget * SHARE_AT_RANDOM), min(budget // 2, FEWEST_AT_RANDOM)))
    new_NL = random.integers(sizes, size=(at_random, len(sizes)))
    seen_NL, context_N = np.empty((0, len(sizes)), dtype=np.int64), np.empty(0, dtype=np.int64)
    observed_N, offset_C = np.empty(0), np.zeros(contexts)
    variances: Variances | None = None
    for number in range(rounds + 1):
        new_context_N = (len(seen_NL) + np.arange(len(new_NL))) % contexts
        observed_N = np.concatenate([observed_N, evaluate(new_NL, new_context_N)])
        seen_NL = np.concatenate([seen_NL, new_NL])
        context_N = np.concatenate([context_N, new_context_N])
        if number == 0:
            offset_C = _offsets(observed_N, context_N, contexts)
        if variances is None or len(seen_NL) - len(new_NL) < LIKELIHOOD_NETWORKS:
            variances = likely_variances(seen_NL, observed_N - offset_C[context_N], sizes)
        posterior = Posterior(seen_NL, sizes, variances)
        values = posterior.mean(observed_N - offset_C[context_N])
        if contexts > 1:
            # What the networks do not explain is the context's; with that known, the networks again.
            offset_C = _offsets(observed_N - values.value(seen_NL), context_N, contexts)
            values = posterior.mean(observed_N - offset_C[context_N])
        if number == rounds:
            break
        count = at_random + (budget - at_random) * (number + 1) // rounds - len(seen_NL)
        scale = _temperature_scale(number, rounds)
        if number < ROUNDS:
            guesses = [(values, thompson_samples(values, seen_NL, count, random))]
        else:
            guesses = _joint_draws(posterior, values, count, scale, random)
        new = [new_NL[:0]]
        for guess, layer_NC in guesses:
            ends = np.cumsum(_shares(len(layer_NC), len(targets_ms), number))[:-1]
            new += [
                draw_near(part, guess, costs_ms, target_ms, random, temperature=scale * _TEMPERATURE)
                for part, target_ms in zip(np.split(layer_NC, ends), targets_ms, strict=True)
                if len(part)
            ]
        new_NL = np.concatenate(new)
    return Explored(seen_NL, observed_N, values)


def _offsets(rest_N: Array, context_N: Integers, contexts: int) -> Array:
    """What each context adds: mean of what is left of its evaluations; together they add nothing."""
    import numpy as np

    counts = np.bincount(context_N, minlength=contexts)
    means: Array = np.bincount(context_N, rest_N, minlength=contexts) / np.maximum(1, counts)
    means -= np.average(means, weights=counts)
    means[counts == 0] = 0.0
    return means


def _temperature_scale(number: int, rounds: int) -> float:
    """Of the shaking and the temperature in a round: 1, and in further rounds a line down to the least."""
    return 1 - (1 - _CALMEST) * max(0, number + 1 - ROUNDS) / max(1, rounds - ROUNDS)


def _joint_draws(
    posterior: Posterior, values: PathValues, count: int, scale: float, random: np.random.Generator
) -> list[tuple[PathValues, Array]]:
    """A few draws of all parts, each with a nearly equal share of ``count`` rows of layers' parts (n, C)."""
    import numpy as np

    drawn = [posterior.draw(values, random, share=scale) for _ in range(DRAWS_A_ROUND)]
    shares = map(len, np.array_split(np.arange(count), DRAWS_A_ROUND))
    return [(guess, np.tile(guess.layer_C, (share, 1))) for guess, share in zip(drawn, shares, strict=True)]


def _shares(count: int, targets: int, number: int) -> list[int]:
    """How many of a round's networks each target gets: the first half, the others in turn the rest."""
    if targets == 1:
        return [count]
    others = count // 2
    shares = [count - others] + [others // (targets - 1)] * (targets - 1)
    for extra in range(others % (targets - 1)):
        shares[1 + (number + extra) % (targets - 1)] += 1
    return shares


def thompson_samples(
    values: PathValues, paths_NL: Integers, count: int, random: np.random.Generator
) -> Array:
    """``count`` draws of the layers' parts around their estimate, (count, C).

    From their posterior, where the pairs' parts are taken for noise.
    """
    import numpy as np

    variances, layers = values.variances, len(values.sizes)
    hot_NC = one_hot(paths_NL, values.sizes)
    noise = variances.noise + variances.pair * layers * (layers - 1) / 2
    precision = np.eye(hot_NC.shape[1]) / variances.layer + hot_NC.T @ hot_NC / noise
    root = np.linalg.cholesky(np.linalg.inv(precision))
    drawn: Array = values.layer_C + random.normal(size=(count, len(root))) @ root.T
    return drawn


def draw_near(
    layer_NC: Array,
    values: PathValues,
    costs_ms: Sequence[Sequence[float]],
    target_ms: float,
    random: np.random.Generator,
    *,
    temperature: float = _TEMPERATURE,
) -> Integers:
    """One path (N, L) for each row of layers' parts, good by them and of about ``target_ms`` or less."""
    import numpy as np

    count, sizes = len(layer_NC), values.sizes
    cost_C = np.concatenate([np.asarray(row, dtype=float) for row in costs_ms])
    starts = starts_of(sizes)
    # The spread of values sets the unit: what a candidate's part is, loss or points, does not matter.
    scaled_temperature = temperature * max(
        1e-12, float(np.sqrt(np.square(_centred(values.layer_C, sizes)).sum()))
    )
    paths_NL = random.integers(sizes, size=(count, len(sizes)))
    hot_NC = one_hot(paths_NL, sizes)
    for _ in range(_SWEEPS):
        added_NC = layer_NC + hot_NC @ values.pair_CC
        multiplier_N1 = least_multipliers(added_NC, cost_C, starts, target_ms, scaled_temperature)[:, None]
        for layer in random.permutation(len(sizes)):
            own = slice(starts[layer], starts[layer] + sizes[layer])
            logits = layer_NC[:, own] + hot_NC @ values.pair_CC[:, own] - multiplier_N1 * cost_C[own]
            chosen = (logits / scaled_temperature + random.gumbel(size=logits.shape)).argmax(axis=1)
            hot_NC[:, own] = 0.0
            hot_NC[np.arange(count), starts[layer] + chosen] = 1.0
            paths_NL[:, layer] = chosen
    return paths_NL


def _centred(layer_C: Array, sizes: Sequence[int]) -> Array:
    """Each layer's parts less their mean, over the root of their number: squares sum to a path's variance."""
    import numpy as np

    parts = np.split(layer_C, starts_of(sizes)[1:])
    return np.concatenate([(part - part.mean()) / np.sqrt(len(part)) for part in parts])


def least_multipliers(
    added_NC: Array, cost_C: Array, starts: Integers, target_ms: float, scaled_temperature: float
) -> Array:
    """For each row the least multiplier, not below 0, at which a draw is expected to meet the target."""
    import numpy as np

    spread = float(np.ptp(added_NC, axis=1).max()) + scaled_temperature
    within = [float(np.ptp(costs)) for costs in np.split(cost_C, starts[1:])]
    low = np.zeros(len(added_NC))
    high = np.full(len(added_NC), 100 * spread / min((w for w in within if w > 0), default=1.0))
    for _ in range(_BISECTIONS):
        multiplier = (low + high) / 2
        scaled = (added_NC - multiplier[:, None] * cost_C) / scaled_temperature
        best = np.repeat(np.maximum.reduceat(scaled, starts, axis=1), np.diff([*starts, len(cost_C)]), axis=1)
        weight = np.exp(scaled - best)
        mass = np.add.reduceat(weight, starts, axis=1)
        expected = (np.add.reduceat(weight * cost_C, starts, axis=1) / mass).sum(axis=1)
        low, high = (
            np.where(expected > target_ms, multiplier, low),
            np.where(expected > target_ms, high, multiplier),
        )
    return high

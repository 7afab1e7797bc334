"""Every sentence about a run, the same on the terminal and in the report."""

from __future__ import annotations

from android_bench.device import describe_cores
from stages.documents import AgainstRandom, Origin, Role
from stages.reporting.accuracy_text import (
    accuracy_clause,
    cannot_tell,
    classes_sentence,
    speedup_terms,
    test_images_sentence,
)
from stages.reporting.cost import TRAINING, SearchCost, total
from stages.reporting.folds_text import folds_sentences
from stages.reporting.notation import display_name, hours, milliseconds, signed
from stages.reporting.rank_agreement import SIGNIFICANT, RankAgreement, smallest_p
from stages.reporting.result import ResultDocument
from stages.space.equal_latency import TOLERANCE
from stages.training.made_here import COMPUTERS, describe
from stages.verification.prediction import not_as_expected

_UNKNOWN = "computing time was not recorded"
_PERCENT = f"{100 * TOLERANCE:g} %"


def headline(result: ResultDocument) -> str:
    """The outcome in one sentence. Nothing is claimed where the interval holds 1."""
    verification = result.verification
    low, high = verification.equal_accuracy_speedup_interval_95
    name = display_name(verification.reference)
    if low > 1:
        return (
            f"The found network is {verification.equal_accuracy_speedup:.2f} times as fast as {name}"
            f"{accuracy_clause(result, but=False)}."
        )
    if high < 1:
        return (
            f"The found network is slower than {name}: it takes {verification.ratio:.2f} times as long"
            f"{accuracy_clause(result, but=True)}."
        )
    return (
        f"No difference in speed can be shown between the found network and {name}"
        f"{accuracy_clause(result, but=False)}."
    )


def sentences(result: ResultDocument) -> list[tuple[str, str]]:
    """What the table does not say: (subject, sentence) in order."""
    verification, search, held_out = result.verification, result.search, result.latency_model.held_out
    network = result.network
    found = next(n for n in verification.networks if n.role == "found")
    known = f"±{found.half_interval_percent:.1f} %, 95 % interval of {verification.rounds} rounds"
    said = [
        ("Found", network.architecture),
        (
            "Latency",
            f"Target {milliseconds(search.target_ms)} ms, predicted {milliseconds(search.predicted_ms)} ms "
            f"({100 * search.budget_used:.0f} % of the target), "
            f"measured {milliseconds(network.median_ms)} ms ({known}).",
        ),
        *([("Prediction", wrong)] if (wrong := not_as_expected(verification.found_latency)) else []),
        ("Reference", verification.reference_reason),
        ("Speed-up", _speedup(result)),
    ]
    if weights := _pretrained(result):
        said.append(("Pretrained", weights))
    if outside := _outside_the_verdict(result):
        said.append(("Fresh", outside))
    if shown := test_images_sentence(result):
        said.append(("Test images", shown))
    if by_class := classes_sentence(result):
        said.append(("Classes", by_class))
    if beaten := _beaten(result):
        said.append(("Beaten", beaten))
    if random := _against_random(result):
        said.append(("Random", random))
    said.append(
        (
            "Predictions",
            f"Off by {held_out.mape_percent:.1f} % on average over {held_out.networks} held-out networks; "
            f"{100 * held_out.share_within_5_percent:.0f} % of them within 5 %, "
            f"{100 * held_out.share_within_10_percent:.0f} % within 10 %, rank correlation "
            f"{held_out.spearman:.3f}; 95 % interval of a prediction "
            f"±{result.latency_model.interval_percent:.1f} %.",
        )
    )
    if search.agreement is not None and search.even_agreement is not None:
        said.append(
            (
                "Certainty",
                "A network drawn from what the search learned agrees with the most probable one in "
                f"{100 * search.agreement:.0f} % of the searched layers on average (candidates drawn evenly: "
                f"{100 * search.even_agreement:.0f} %). A longer search, or more images for it, knows more.",
            )
        )
    said.append(("Search cost", cost_sentence(search.cost)))
    said.append(("Supernet", agreement_sentence(search.rank_agreement)))
    if folds := result.cross_validation:
        said += [("Folds", sentence) for _, sentence in folds_sentences(folds)]
    if result.latency_model.foreign:
        differing = "; ".join(result.latency_model.foreign)
        said.append(("Foreign", f"The latency table was not measured on this device: {differing}."))
    if result.latency_model.adapted_from:
        model = result.latency_model
        said.append(
            (
                "Adapted",
                f"The latency model is one of {model.adapted_from}, adapted to this device by "
                f"{model.calibration_networks} networks measured here.",
            )
        )
    said += [("Files", f"No {file.precision} file: {file.reason}.") for file in result.files_left_out]
    said.append(("Verdict", verdict_sentence(result)))
    if warm := _head_start(result):
        said.append(("Weights", warm))
    if cores := _cores(result):
        said.append(("Cores", cores))
    if mixed := _trained_by_several(result):
        said.append(("Trained by", mixed))
    if result.device.virtual:
        said.append(("Device", "A simulated phone: these are this computer's latencies, not a phone's."))
    return said


def _cores(result: ResultDocument) -> str:
    """Which cores the latencies are of, and at what clock; empty where that is not known."""
    device = result.device
    where = describe_cores(device.cores, device.core_mhz, device.core_range_mhz)
    if not where:
        return ""
    mode = ""
    if device.fixed_performance is not None:
        mode = ", in" if device.fixed_performance else "; the phone does not have"
        mode += " Android's fixed-performance mode"
    return f"Latencies are of {where}{mode}."


def _beaten(result: ResultDocument) -> str:
    """References on equal terms that are significantly slower and significantly less accurate."""
    said = [
        f"{display_name(n.name)} (takes {n.against_found.latency_ratio:.2f} times as long, "
        f"{-n.against_found.accuracy_points:.2f} points less accurate)"
        for n in result.verification.networks
        if n.role in ("full", "baseline")
        and n.counts is not False
        and n.against_found is not None
        and n.against_found.latency_ratio_interval_95[0] > 1
        and n.against_found.accuracy_points_interval_95[1] < 0
    ]
    return f"Significantly, in speed and in accuracy: {', '.join(said)}." if said else ""


def _pretrained(result: ResultDocument) -> str:
    """Whose published weights the networks started from; empty where all started from random ones."""
    origins = dict.fromkeys(n.pretrained for n in result.verification.networks if n.pretrained is not None)
    said = [
        " ".join(filter(None, (o.name, o.version, f"({o.licence})" if o.licence else "(licence not known)")))
        for o in origins
    ]
    return f"Weights descend from {' and '.join(said)}." if said else ""


def _outside_the_verdict(result: ResultDocument) -> str:
    """Which MobileNetV2s are no reference, because they did not start from pretrained weights."""
    networks = result.verification.networks
    outside = [display_name(n.name) for n in networks if n.role == "baseline" and n.counts is False]
    if not outside:
        return ""
    return (
        f"{', '.join(outside)} started from random weights, the found network from pretrained ones: shown, "
        "but outside the verdict."
    )


def _speedup(result: ResultDocument) -> str:
    verification = result.verification
    low, high = verification.equal_accuracy_speedup_interval_95
    figures = (
        f"{verification.equal_accuracy_speedup:.2f} {speedup_terms(result)} (95 % interval {low:.2f} to "
        f"{high:.2f}, {verification.rounds} interleaved rounds)"
    )
    return f"{figures}." if low > 1 or high < 1 else f"{figures}: the interval holds 1, so none is claimed."


def _against_random(result: ResultDocument) -> str:
    """The search's own worth: what it gains over networks drawn by lot."""
    against = result.verification.against_random
    if against is None:
        return ""
    low, high = against.accuracy_points_interval_95
    interval = f"95 % interval {signed(low)} to {signed(high)}"
    several = against.networks > 1
    if several:
        interval += ", the spread between random networks included"
    if not against.comparable:
        return (
            f"No conclusion about search against random: {_why_not_comparable(against)}. The found "
            f"network's accuracy less that of the random network{'s (mean)' if several else ''}: "
            f"{signed(against.accuracy_points)} points ({interval})."
        )
    other, its_own = "a random network of equal predicted latency", "that of "
    if several:
        other, its_own = f"the mean of {against.networks} random networks of equal predicted latency", ""
    points = f"{abs(against.accuracy_points):.2f} points"
    if low > 0:
        said = f"The found network is {points} more accurate than {other} ({interval})."
    elif high < 0:
        said = f"The found network is {points} less accurate than {other} ({interval})."
    elif max(-low, high) > (result.verification.equal_points or 100):
        said = (
            f"Whether the found network is as accurate as {other} cannot be told with "
            f"{result.verification.test_images:,} test images ({signed(against.accuracy_points)} points, "
            f"{interval})."
        )
    else:
        said = (
            f"The found network's accuracy does not differ significantly from {its_own}{other} "
            f"({signed(against.accuracy_points)} points, {interval})."
        )
    return f"{said} {_latency_of_random(against)}"


def _latency_of_random(against: AgainstRandom) -> str:
    """How equal the latencies are that are called equal."""
    predicted, measured = f"{against.predicted_ratio:.3f} predicted", f"{against.latency_ratio:.3f} measured"
    if against.networks == 1:
        return f"Its latency over the found one's: {predicted}, {measured}."
    low, high = against.predicted_ratio_range
    return f"Their mean latency over the found one's: {predicted} ({low:.3f} to {high:.3f}), {measured}."


def _why_not_comparable(against: AgainstRandom) -> str:
    """What of the random networks' latency keeps their accuracy from being held against the found one's."""
    low, high = against.predicted_ratio_range
    several = against.networks > 1
    subject = "the random networks" if several else "the random network"
    measured = f"{against.latency_ratio:.3f} times as long{' in the mean' if several else ''}"
    if against.in_band:
        return (
            f"{subject} should take as long as the found one, within {_PERCENT} (predicted: "
            f"{against.predicted_ratio:.3f} times), but took {measured} on the device"
        )
    predicted = f"{low:.3f} to {high:.3f}" if several else f"{against.predicted_ratio:.3f}"
    return (
        f"too few networks of the space take as long as the found one, within {_PERCENT}; {subject} should "
        f"take {predicted} times as long, and took {measured}"
    )


def verdict_sentence(result: ResultDocument) -> str:
    """The verdict and what it rests on."""
    return f"{result.verification.verdict.capitalize()}. {verdict_reason(result)}"


def verdict_reason(result: ResultDocument) -> str:
    """What the verdict rests on."""
    verification = result.verification
    low, high = verification.ratio_interval_95
    figures = f"The latency ratio is {verification.ratio:.3f} (95 % interval {low:.3f} to {high:.3f})"
    if verification.disturbed:
        return (
            f"{figures} over all rounds. In too many of them the device was slowed down: nothing is decided. "
            "Measure again: nasflow run --force verify."
        )
    limit = verification.max_ratio
    if limit is None:
        return f"{figures}; set verify.max_ratio to make it a gate. {cannot_tell(result)}".rstrip()
    relation = (
        "wholly below" if high < limit else "wholly above" if low > limit else "not wholly on one side of"
    )
    reason = f"{figures}, {relation} verify.max_ratio {limit:g}."
    also = (not_as_expected(verification.found_latency), cannot_tell(result)) if high < limit else ()
    return " ".join([reason, *filter(None, also)])


def _trained_by_several(result: ResultDocument) -> str:
    """Said only where not all was trained by one torch, processor and number of threads."""
    stages: dict[str, list[str]] = {}
    deciding = set()
    for stage, makers in result.trained_by.items():
        for made_by in makers:
            deciding.add(tuple(getattr(made_by, name) for name in COMPUTERS))
            stages.setdefault(describe(made_by), []).append(stage)
    if len(deciding) < 2:
        return ""
    environments = "; ".join(
        f"{environment} ({', '.join(dict.fromkeys(names))})" for environment, names in stages.items()
    )
    return (
        f"Different training environments: {environments}. They may account for part of the differences "
        "between networks."
    )


_STARTED: dict[Origin, str] = {
    "inherited": "were inherited from the search, which had trained them",
    "pretrained": "are pretrained",
    "fresh": "started fresh",
}


def _head_start(result: ResultDocument) -> str:
    """Where weights started, only where they did not all start alike."""
    networks = result.verification.networks
    if len({network.origin for network in networks}) < 2:
        return ""
    groups: dict[Role, str] = {"front": "those found for other targets"}
    if sum(network.role == "random" for network in networks) > 1:
        groups["random"] = "the random networks"
    said = []
    for origin in ("inherited", "pretrained"):
        names = dict.fromkeys(groups.get(n.role, n.name) for n in networks if n.origin == origin)
        if names:
            *first, last = names
            listed = f"{', '.join(first)} and {last}" if first else last
            said.append(f"those of {listed} {_STARTED[origin]}")
    if any(network.origin == "fresh" for network in networks):
        said.append(f"the others {_STARTED['fresh']}")
    sentence = "; ".join(said)
    return f"{sentence[0].upper()}{sentence[1:]}. Images seen count from there."


def cost_sentence(cost: SearchCost) -> str:
    """The cost in one line: what it took to find the network, and to train it and the others."""
    training = [cost.part(stage) for stage in TRAINING]
    found = _spelt(cost.cpu_hours, cost.gpu_hours)
    trained = _spelt(total(p.cpu_hours for p in training), total(p.gpu_hours for p in training))
    device = f"{cost.device_seconds:.0f} s of the device"
    if found == trained == _UNKNOWN:
        return f"{device}; {_UNKNOWN}."
    return f"{device}, {found}; training all networks to the end: {trained}."


def _spelt(cpu_hours: float | None, gpu_hours: float | None) -> str:
    if cpu_hours is None or gpu_hours is None:
        return _UNKNOWN
    gpu = f" and {hours(gpu_hours)} GPU-hours" if gpu_hours else ""
    return f"{hours(cpu_hours)} CPU-hours{gpu}"


def agreement_sentence(agreement: RankAgreement) -> str:
    """What the ranks say, and how little of it few networks can show."""
    count, tau_b, p_value = len(agreement.networks), agreement.tau_b, agreement.p_value
    if smallest_p(count) >= SIGNIFICANT:  # even full agreement could be chance
        trained = "1 trained network is" if count == 1 else f"{count} trained networks are"
        return (
            f"{trained} too few to tell whether the supernet ranks networks as their final accuracy does; "
            "5 or more can (prune.random_networks)."
        )
    if tau_b is None or p_value is None:
        return f"All {count} trained networks have the same accuracy, in the supernet or finally: no ranking."
    figures = (
        f"Kendall's tau-b of supernet and final accuracy over {count} networks: {_tau(tau_b)}, "
        f"p = {_p(p_value)}"
    )
    if p_value < SIGNIFICANT:
        return f"{figures}: they {'agree' if tau_b > 0 else 'disagree'} significantly."
    return f"{figures}: not significant."


def _p(value: float) -> str:
    return f"{value:.2g}" if value >= 0.001 else f"{value:.0e}"


def _tau(tau_b: float) -> str:
    text = f"{tau_b:.2f}"
    return "0.00" if text == "-0.00" else text.replace("-", "−")

"""Search cost: added up from the documents, told apart from training, nothing made up."""

from __future__ import annotations

import pytest
from support.sample_documents import sample_documents

from pipeline.artifact import Document
from stages.documents import ComputeCost, TrainedNetworks
from stages.reporting.cost import FINDING, PARTS, TRAINING, CostPart, search_cost
from stages.reporting.notation import hours
from stages.reporting.run_documents import RunDocuments
from stages.reporting.text import cost_sentence


def changed(stage: str, **update: object) -> RunDocuments:
    documents: dict[str, Document] = sample_documents()
    documents[stage] = documents[stage].model_copy(update=update)
    return RunDocuments.of(documents)


RUN = RunDocuments.of(sample_documents())


def part(stage: str, run: RunDocuments = RUN) -> CostPart:
    [found] = [part for part in search_cost(run).parts if part.stage == stage]
    return found


def test_device_seconds_are_those_of_table_model_and_candidates_and_counted_once() -> None:
    cost = search_cost(RUN)
    assert cost.device_seconds == pytest.approx(RUN.latency.seconds + RUN.prune.seconds)
    assert part("profile").device_seconds == RUN.profile.seconds
    assert part("latency").device_seconds == pytest.approx(RUN.latency.seconds - RUN.profile.seconds)
    assert part("verify").device_seconds == RUN.verify.seconds


def test_cpu_hours_are_processor_time_of_search_and_pick_alone() -> None:
    cost = search_cost(RUN)
    assert RUN.search.compute_cost is not None
    assert RUN.prune.compute_cost is not None
    seconds = RUN.search.compute_cost.processor_seconds + RUN.prune.compute_cost.processor_seconds
    assert cost.cpu_hours == pytest.approx(seconds / 3600)
    assert cost.gpu_hours == 0
    for stage, trained in (("finetune", RUN.finetune), ("baseline", RUN.baseline)):
        own = sum(n.compute_cost.processor_seconds for n in trained.networks if n.compute_cost is not None)
        assert part(stage).cpu_hours == pytest.approx(own / 3600)


def test_training_more_or_proving_longer_does_not_make_the_search_dearer() -> None:
    compute_cost = ComputeCost(seconds=9e6, processor_seconds=9e6, accelerator_seconds=9e6)
    networks = tuple(n.model_copy(update={"compute_cost": compute_cost}) for n in RUN.finetune.networks)
    dear = changed("finetune", networks=networks)
    for run in (dear, changed("verify", seconds=9e6)):
        cost, usual = search_cost(run), search_cost(RUN)
        assert (cost.device_seconds, cost.cpu_hours, cost.gpu_hours) == (
            usual.device_seconds,
            usual.cpu_hours,
            usual.gpu_hours,
        )
    assert part("finetune", dear).gpu_hours == pytest.approx(2 * 9e6 / 3600)


@pytest.mark.parametrize("stage", ["search", "prune"])
def test_one_part_that_is_not_known_leaves_the_sum_unknown(stage: str) -> None:
    cost = search_cost(changed(stage, compute_cost=None))
    assert cost.cpu_hours is None
    assert cost.gpu_hours is None
    assert cost.device_seconds == search_cost(RUN).device_seconds
    assert "computing time was not recorded; training all networks" in cost_sentence(cost)


def test_one_network_whose_training_is_not_known_leaves_the_stage_unknown() -> None:
    first, *rest = RUN.baseline.networks
    run = changed("baseline", networks=(first.model_copy(update={"compute_cost": None}), *rest))
    assert part("baseline", run).cpu_hours is None
    assert search_cost(run).cpu_hours == search_cost(RUN).cpu_hours


def test_a_run_of_an_older_version_says_once_that_computing_was_not_recorded() -> None:
    documents = sample_documents()
    for stage in ("search", "prune"):
        documents[stage] = documents[stage].model_copy(update={"compute_cost": None})
    for stage in TRAINING:
        trained = documents[stage]
        assert isinstance(trained, TrainedNetworks)
        networks = tuple(n.model_copy(update={"compute_cost": None}) for n in trained.networks)
        documents[stage] = TrainedNetworks(networks=networks)
    said = cost_sentence(search_cost(RunDocuments.of(documents)))
    assert said == "66 s of the device; computing time was not recorded."


def test_a_gpu_is_named_where_there_was_one() -> None:
    compute_cost = ComputeCost(seconds=7200, processor_seconds=1800, accelerator_seconds=7200)
    said = cost_sentence(search_cost(changed("search", compute_cost=compute_cost)))
    assert said.startswith("66 s of the device, 0.516 CPU-hours and 2.000 GPU-hours; training")
    assert "GPU" not in cost_sentence(search_cost(RUN))


def test_the_cost_fits_a_line_of_the_terminal() -> None:
    assert len(cost_sentence(search_cost(RUN))) <= 140 - 13


def test_every_stage_that_costs_has_words_and_a_place() -> None:
    assert set(PARTS) == {part.stage for part in search_cost(RUN).parts} == {*FINDING, *TRAINING, "verify"}


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (None, "–"),
        (0.0, "0.000"),
        (0.0002, "<0.001"),
        (0.0273, "0.027"),
        (1.85, "1.850"),
        (31.62, "31.6"),
        (166.4, "166"),
    ],
)
def test_hours_are_spelt_alike(value: float | None, words: str) -> None:
    assert hours(value) == words

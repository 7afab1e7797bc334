"""``result.json`` says what the documents say."""

from __future__ import annotations

import json

import pytest
from support.sample_documents import sample_documents

from nasflow.base.errors import UsageError
from pipeline.artifact import document_bytes
from stages.documents import Verification
from stages.reporting.result import ResultDocument
from stages.reporting.run_result import build_result, run_facts


def test_the_result_has_the_promised_fields() -> None:
    result = json.loads(document_bytes(build_result(sample_documents())))
    promised = {
        "device": {"kind", "model", "virtual"},
        "latency_model": {"blocks", "seconds", "held_out"},
        "search": {"target_ms", "predicted_ms", "seconds", "cost", "rank_agreement"},
        "network": {"accuracy_percent", "accuracy_interval_95", "median_ms", "parameters", "macs"},
        "verification": {
            "networks",
            "reference",
            "ratio",
            "ratio_interval_95",
            "equal_accuracy_speedup",
            "verdict",
        },
    }
    assert result["schema_version"] == 6
    for section, fields in promised.items():
        assert fields <= set(result[section]), section
    held_out = {"networks", "share_within_5_percent", "share_within_10_percent", "mape_percent", "spearman"}
    assert held_out <= set(result["latency_model"]["held_out"])
    (converted,) = result["conversion"]
    assert {"precision", "max_abs_diff", "top1_agreement_percent", "operators"} <= set(converted)
    assert converted["precision"] == "float32"
    for network in result["verification"]["networks"]:
        assert {"name", "role", "accuracy_percent", "median_ms"} <= set(network)


def test_the_result_repeats_the_documents_figures() -> None:
    documents = sample_documents()
    result, verify = build_result(documents), documents["verify"]
    assert isinstance(verify, Verification)
    assert result.network.median_ms == verify.networks[0].measurement.median_ms
    assert result.network.accuracy_interval_95 == verify.networks[0].accuracy_interval_95
    assert result.verification.ratio == verify.ratio
    assert [n.name for n in result.verification.networks] == [n.name for n in verify.networks]
    assert result.latency_model.blocks == 48
    assert 0 < result.search.budget_used <= 1
    assert result.search.budget_used == pytest.approx(result.search.predicted_ms / result.search.target_ms)


def test_the_result_survives_its_own_json() -> None:
    result = build_result(sample_documents(), run_facts(seed=3, dataset="fashion_mnist"))
    assert ResultDocument.model_validate_json(document_bytes(result)) == result


def test_equal_documents_give_equal_results() -> None:
    assert document_bytes(build_result(sample_documents())) == document_bytes(
        build_result(sample_documents())
    )


def test_the_facts_name_versions_that_are_installed() -> None:
    facts = run_facts(seed=0, dataset="fashion_mnist")
    assert facts.packages["numpy"].startswith("2.")
    assert facts.python_version.startswith("3.")


def test_a_run_that_is_not_finished_has_no_result() -> None:
    documents = sample_documents()
    del documents["verify"], documents["convert"]
    with pytest.raises(UsageError, match="convert, verify") as caught:
        build_result(documents)
    assert caught.value.hint == "Finish the run first: nasflow run."

"""``nasflow compare``: what is compared, what is refused, and what is said of seeds."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.finished_run import finish
from support.report_pages import FACTS
from support.sample_documents import DEVICE, sample_documents
from support.sample_variants import of_few_photos

from android_bench.device import DeviceInfo, RuntimeOptions
from nasflow.base.errors import UsageError
from nasflow.cli.app import main
from stages.documents import ReferenceLatency, Verification
from stages.reporting.comparison import ComparedRun, compare_runs
from stages.reporting.comparison_page import render_comparison
from stages.reporting.comparison_text import HEADINGS, comparison_sentences, differing_rows, run_rows
from stages.reporting.run_result import build_result
from stages.space.block_spec import ModelOutput

FASHION = {"dataset": "fashion_mnist", "dataset_sha256": "f" * 64}
SETTINGS: dict[str, dict[str, Any]] = {
    "search": {"config": {"epochs": 8}, "seed": 0, "data": {"source": "fashion_mnist"}},
    "finetune": {"recipe": {"epochs": 2}, "seed": 0},
    "verify": {"config": {"rounds": 12}, "seed": 0},
}


def run(
    name: str,
    *,
    seed: int = 0,
    wrong: int = 100,
    images: dict[str, str] | None = None,
    device: DeviceInfo = DEVICE,
    slowdown: float = 1.0,
    anchor_slowdown: float = 1.0,
    settings: dict[str, dict[str, Any]] | None = None,
    runtime: RuntimeOptions | None = None,
    output: ModelOutput = "probabilities",
) -> ComparedRun:
    """A run whose found network errs on the first ``wrong`` of the test images."""
    documents = sample_documents(device=device, slowdown=slowdown, found_accuracy=100 - wrong / 100)
    verify = documents["verify"]
    assert isinstance(verify, Verification)
    found = next(n for n in verify.networks if n.role == "found")
    # The reference is timed as long as the found network's sample takes, at the device's speed then.
    medians = tuple(anchor_slowdown for _ in found.measurement.round_medians_ms)
    anchor = ReferenceLatency(
        name="mobilenet_v2_1",
        net=next(n for n in verify.networks if n.name == "mobilenet_v2_1").net,
        measurement=found.measurement.model_copy(update={"round_medians_ms": medians}),
    )
    verify = verify.model_copy(update={"anchor": anchor, **({"runtime": runtime} if runtime else {})})
    documents["verify"] = verify
    facts = FACTS.model_copy(update={"seed": seed})
    seeded = {stage: {**fields, "seed": seed} for stage, fields in (settings or SETTINGS).items()}
    result = build_result(documents, facts)
    files = tuple(file.model_copy(update={"output": output}) for file in result.conversion)
    return ComparedRun(
        name=name,
        result=result.model_copy(update={"conversion": files}),
        verification=verify,
        correct_N=np.arange(10_000) >= wrong,
        images=images or FASHION,
        settings=seeded,
    )


def test_accuracies_are_compared_image_by_image() -> None:
    beside = compare_runs([run("a", wrong=900), run("b", wrong=850)]).runs[1].beside_first
    assert beside is not None
    assert beside.accuracy_points == pytest.approx(0.5, abs=0.01)
    low, high = beside.accuracy_points_interval_95
    # All 50 images that differ do so in one direction: far less doubt than two accuracies apart would leave.
    assert 0.3 < low < high < 0.7


def test_a_slower_hour_of_the_device_is_taken_out_of_latencies() -> None:
    slow_hour = run("b", slowdown=1.3, anchor_slowdown=1.3)
    beside = compare_runs([run("a"), slow_hour]).runs[1].beside_first
    assert beside is not None
    assert beside.latency_ratio == pytest.approx(1.0, abs=0.01)
    slower = compare_runs([run("a"), run("b", slowdown=1.3)]).runs[1].beside_first
    assert slower is not None
    assert slower.latency_ratio == pytest.approx(1.3, abs=0.02)
    assert slower.latency_ratio_interval_95 is not None
    low, high = slower.latency_ratio_interval_95
    assert 1.2 < low < 1.3 < high < 1.4


@pytest.mark.parametrize(
    ("other", "why"),
    [
        ({"device": DEVICE.model_copy(update={"soc": "another"})}, "they are of different devices"),
        ({"runtime": RuntimeOptions(threads=4)}, "they were run in different ways"),
        ({"runtime": RuntimeOptions(precision="int8")}, "they were run in different ways"),
        ({"output": "logits"}, "its network answers with logits, the first one with probabilities"),
    ],
)
def test_latencies_of_other_devices_or_models_make_no_ratio(other: dict[str, Any], why: str) -> None:
    comparison = compare_runs([run("a"), run("b", **other)])
    assert ("Times", True) in [
        (subject, f"Latencies of b and a are not compared: {why}" in said)
        for subject, said in comparison_sentences(comparison)
    ]
    beside = comparison.runs[1].beside_first
    assert beside is not None
    assert beside.latency_ratio is None
    assert run_rows(comparison)[1][HEADINGS.index("time/first")] == "-"


def test_other_images_are_refused_and_named() -> None:
    other = run("b", images={"dataset": "animals", "dataset_sha256": "a" * 64})
    with pytest.raises(UsageError, match=r"a and b cannot be compared: .*\(fashion_mnist and animals\)"):
        compare_runs([run("a"), other])
    changed = run("b", images={**FASHION, "dataset_sha256": "a" * 64})
    with pytest.raises(UsageError, match="two states of fashion_mnist"):
        compare_runs([run("a"), changed])


def test_another_split_of_the_same_images_is_refused() -> None:
    one, two = ({**FASHION, "split_sha256": name * 64} for name in "ab")
    with pytest.raises(UsageError, match="were split differently") as caught:
        compare_runs([run("a", images=one), run("b", images=two)])
    assert "data split" in caught.value.hint
    fewer = replace(run("b"), correct_N=np.ones(9_000, np.bool_))
    with pytest.raises(UsageError, match="were split differently"):
        compare_runs([run("a"), fewer])


def test_other_classes_are_refused_and_named() -> None:
    other = run("b")
    first, *rest = other.result.verification.classes
    renamed = (first.model_copy(update={"name": "a hat"}), *rest)
    verification = other.result.verification.model_copy(update={"classes": renamed})
    other = replace(other, result=other.result.model_copy(update={"verification": verification}))
    with pytest.raises(
        UsageError, match=r"a and b cannot be compared: their classes differ \(10 and 10; T-shirt/top, a hat"
    ):
        compare_runs([run("a"), other])


def test_the_settings_that_differ_are_named_once_as_in_the_configuration() -> None:
    longer = {**SETTINGS, "search": {**SETTINGS["search"], "config": {"epochs": 20, "paths": [1]}}}
    comparison = compare_runs([run("a"), run("b", seed=3, settings=longer)])
    assert differing_rows(comparison) == [
        ("search.epochs", "8", "20"),
        ("seed", "0", "3"),
        ("search.paths", "-", "[1]"),
    ]


def test_runs_that_differ_by_their_seed_alone_show_their_spread() -> None:
    seeds = [run(f"s{seed}", seed=seed, wrong=800 + 20 * seed) for seed in range(3)]
    other = run("int8", runtime=RuntimeOptions(precision="int8"))
    comparison = compare_runs([*seeds, other])
    (group,) = comparison.seeds
    assert group.runs == ("s0", "s1", "s2")
    assert group.accuracy_percent == pytest.approx(91.8)
    assert group.accuracy_points_sd == pytest.approx(0.2)
    said = dict(comparison_sentences(comparison))
    assert said["Seeds"].startswith("s0, s1, s2 differ by their seed alone: accuracy 91.80 % on average")


def test_equal_runs_are_said_to_be_of_one_configuration() -> None:
    said = dict(comparison_sentences(compare_runs([run("a"), run("b")])))
    assert "No setting differs" in said["Settings"]
    assert "nasflow verify MODEL --against MODEL" in said["Times"]


def test_the_page_has_all_rows_and_a_drawing_for_each_device() -> None:
    phone = DeviceInfo(kind="android", model="<b>P</b>", soc="s", os_build="o", runtime="r", virtual=True)
    html = render_comparison(compare_runs([run("a"), run("b", seed=1), run("c", device=phone)]))
    above, below = html.split('<section id="architectures">')
    assert above.count('<div class="wide"><svg') == 2
    assert below.count('<div class="wide"><svg') == 3, "side by side, kernels, expansions"
    assert below.count('<p class="net">') == 3
    assert "&lt;b&gt;P&lt;/b&gt;" in html
    assert "<b>" not in html
    assert "simulated" in html


# --- the command -------------------------------------------------------------------------------------


def test_finished_runs_are_set_side_by_side(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = finish(tmp_path / "first"), finish(tmp_path / "second")
    page = tmp_path / "compare.html"
    assert main(["compare", str(first), str(second / "artifacts/latest"), "--page", str(page)]) == 0
    out = capsys.readouterr().out
    assert out.splitlines()[0].split()[:2] == ["run", "precision"]
    assert out.splitlines()[2].startswith("first ")
    assert out.splitlines()[3].startswith("second ")
    assert "No setting differs" in " ".join(out.split())
    assert "2 runs: first, second" in page.read_text(encoding="utf-8")


def test_the_json_has_every_figure(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    first, second = finish(tmp_path / "first"), finish(tmp_path / "second")
    capfd.readouterr()
    assert main(["compare", str(first), str(second), "--json"]) == 0
    document = json.loads(capfd.readouterr().out)
    assert [one["name"] for one in document["runs"]] == ["first", "second"]
    assert document["runs"][1]["beside_first"]["accuracy_points"] == 0
    assert document["page"] is None


def test_projects_of_one_name_are_called_as_they_were_typed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    finish(tmp_path / "a" / "p")
    finish(tmp_path / "b" / "p")
    monkeypatch.chdir(tmp_path)
    assert main(["compare", "a/p", "b/p"]) == 0
    assert capsys.readouterr().out.splitlines()[3].startswith("b/p ")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["p"], "one run was named"),
        (["p", "p/artifacts/latest"], "is named twice"),
        (["p", "nowhere"], "nowhere is no finished run"),
    ],
)
def test_what_is_no_comparison_is_refused(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    words: list[str],
    said: str,
) -> None:
    finish(tmp_path / "p")
    monkeypatch.chdir(tmp_path)
    assert main(["compare", *words]) == 2
    assert said in capsys.readouterr().err


def test_runs_of_other_images_are_refused_with_exit_code_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = finish(tmp_path / "first")
    second = finish(tmp_path / "second", documents=of_few_photos(sample_documents()))
    assert main(["compare", str(first), str(second)]) == 2
    assert "first and second cannot be compared" in capsys.readouterr().err

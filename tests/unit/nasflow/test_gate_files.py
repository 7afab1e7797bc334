"""What a gate leaves for a CI and for later: JUnit, Markdown, annotations, a history."""

from __future__ import annotations

import json
import threading
import xml.etree.ElementTree as ElementTree
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from android_bench.device import DEFAULT_OPTIONS, DeviceInfo
from android_bench.local.device import LocalDevice
from nasflow.assemble import build_stages
from nasflow.base.errors import DeviceLostError, IntegrityError, UsageError
from nasflow.cli.app import main
from nasflow.commands import gate_files
from nasflow.commands.gate_options import GateOptions
from nasflow.commands.history import history
from nasflow.config import PipelineConfig
from nasflow.gate import github, junit, words
from nasflow.gate.history import HistoryEntry, append_entry, read_history
from nasflow.gate.measure import SoFar
from nasflow.gate.recompute import read_result, recomputed
from nasflow.gate.unfinished import write_unfinished
from stages.documents.gate import Block, BlockTiming, GateModel, GatePlan, GateResult, OutputsCompared
from stages.verification.gate import looks_of, verdict_of, with_drops
from stages.verify import Verify

AT = datetime(2026, 1, 1, tzinfo=UTC)


def result(
    ratio: float, limit: float = 0.8, *, name: str = "ours.tflite", virtual: bool = False
) -> GateResult:
    """A gate of a quiet device."""
    times = {"anchor": 1.0, "candidate": 3.0 * ratio, "baseline": 3.0}
    noise = (0.99, 1.01, 1.0, 1.005, 0.995)
    blocks = [
        Block(
            timings=tuple(
                BlockTiming.model_validate(
                    {"model": model, "median_ms": ms * (noise[n % 5] if model == "candidate" else 1)}
                )
                for model, ms in times.items()
            ),
            seconds=0.5,
        )
        for n in range(30)
    ]
    plan = GatePlan(max_ratio=limit)
    verdict = verdict_of(plan, blocks)
    assert verdict is not None
    return GateResult(
        plan=plan,
        candidate=GateModel(name=name, sha256="a" * 64, size_bytes=1000),
        baseline=GateModel(name="theirs.tflite", sha256="b" * 64, size_bytes=2000),
        device=DeviceInfo(
            kind="android", model="Phone", soc="s", os_build="b", runtime="litert 2.3", virtual=virtual
        ),
        runtime=DEFAULT_OPTIONS,
        blocks=with_drops(plan, blocks),
        looks=looks_of(plan, blocks),
        verdict=verdict,
        seconds=15.0,
    )


def without_baseline(max_ms: float = 2.0) -> GateResult:
    """A gate of the candidate alone, which takes 1.5 ms."""
    gate = result(0.5)
    blocks = [
        block.model_copy(update={"timings": tuple(one for one in block.timings if one.model != "baseline")})
        for block in gate.blocks
    ]
    plan = GatePlan(max_ms=max_ms)
    update = {
        "plan": plan,
        "baseline": None,
        "blocks": with_drops(plan, blocks),
        "looks": looks_of(plan, blocks),
        "verdict": verdict_of(plan, blocks),
    }
    return GateResult.model_validate(gate.model_copy(update=update).model_dump())


def self_test() -> GateResult:
    """A model against itself."""
    gate, plan = result(1.0), GatePlan()
    update = {"kind": "self-test", "plan": plan, "looks": looks_of(plan, gate.blocks), "verdict": None}
    return GateResult.model_validate(gate.model_copy(update=update).model_dump())


# --- exit codes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ratio", "verdict", "exit_code", "where_allowed"),
    [(0.5, "pass", 0, 0), (1.0, "fail", 1, 1), (0.8, "inconclusive", 3, 0)],
)
def test_an_inconclusive_gate_ends_with_3_unless_it_is_allowed_and_a_failed_one_always_with_1(
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    ratio: float,
    verdict: str,
    exit_code: int,
    where_allowed: int,
) -> None:
    path = tmp_path / "gate.json"
    path.write_text(result(ratio).model_dump_json(), encoding="utf-8")
    for option, expected in (([], exit_code), (["--allow-inconclusive"], where_allowed)):
        assert main(["verify", "--recompute", str(path), "--json", *option]) == expected
        assert json.loads(capfd.readouterr().out)["verdict"] == verdict, "it is said in any case"


# --- JUnit -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("ratio", "tag"), [(0.5, None), (1.0, "failure"), (0.8, "skipped")])
def test_pass_fail_and_inconclusive_are_what_a_ci_calls_them(
    tmp_path: Path, ratio: float, tag: str | None
) -> None:
    gate = result(ratio)
    junit.write(tmp_path / "j.xml", [(junit.case_of(gate, "ours"), junit.properties(gate))])
    root = ElementTree.parse(tmp_path / "j.xml").getroot()
    (case,) = root.iter("testcase")
    assert [child.tag for child in case if child.tag != "system-out"] == ([tag] if tag else [])
    figures = {one.get("name"): one.get("value") for one in root.iter("property")}
    assert figures["verdict"] == gate.verdict
    assert figures["max_ratio"] == "0.8"
    assert float(str(figures["ratio"])) == pytest.approx(ratio, rel=0.01)


def test_a_lost_phone_is_an_error_with_its_reference(tmp_path: Path) -> None:
    case = junit.error_case(DeviceLostError("the phone is gone.", hint="Plug it in."), "ours")
    junit.write(tmp_path / "j.xml", [(case, {})])
    (error,) = ElementTree.parse(tmp_path / "j.xml").getroot().iter("error")
    assert (error.get("type"), error.get("message")) == ("device-lost", "the phone is gone. Plug it in.")


def test_a_self_test_is_inconclusive_nowhere(tmp_path: Path) -> None:
    gate = self_test()
    junit.write(tmp_path / "j.xml", [(junit.case_of(gate, "self-test"), junit.properties(gate))])
    (case,) = ElementTree.parse(tmp_path / "j.xml").getroot().iter("testcase")
    assert [child.tag for child in case] == ["system-out"]
    line = github.annotation(gate, {"GITHUB_ACTIONS": "true"})
    assert line.startswith("::notice title=nasflow verify::SELF-TEST: ")
    shown = [words.text(gate), github.markdown(gate), line, str(junit.properties(gate))]
    assert not [text for text in shown if "inconclusive" in text.lower() or "limit lies" in text]
    assert all("four times out of five" in text for text in shown[:3])
    assert recomputed(gate) == gate
    with pytest.raises(ValueError, match="self-test is no gate"):
        HistoryEntry.of(gate)


def test_a_limit_of_milliseconds_needs_no_other_model_and_no_ratio_is_shown(tmp_path: Path) -> None:
    for max_ms, verdict in ((2.0, "pass"), (1.0, "fail")):
        gate = without_baseline(max_ms)
        assert gate.verdict == verdict
        assert recomputed(gate) == gate
        assert "baseline" not in words.text(gate).lower()
        assert "| 10 |  |  | 1.5" in github.markdown(gate)
        figures = junit.properties(gate)
        assert figures.keys() >= {"candidate_ms", "max_ms"}
        assert not figures.keys() & {"ratio", "baseline_sha256"}
        append_entry(tmp_path / "h.jsonl", HistoryEntry.of(gate, AT))
    shown = history(tmp_path / "h.jsonl", tmp_path / "h.svg").text
    assert "the latency went from 1.5 to 1.5 ms in 2 gates" in shown
    with pytest.raises(ValueError, match="needs a baseline"):
        GateResult.model_validate(gate.model_dump() | {"plan": {"max_ratio": 0.5}})


@given(name=st.text(max_size=60))
def test_any_name_gives_xml_that_can_be_read(name: str) -> None:
    case = junit.case_of(result(0.5, name=f"m{name}"), name)
    assert ElementTree.fromstring(ElementTree.tostring(case._elem)).tag == "testcase"


# --- GitHub ------------------------------------------------------------------------------------------


def test_a_summary_is_added_behind_what_is_there_and_no_markup_of_a_name_works(tmp_path: Path) -> None:
    path = tmp_path / "summary.md"
    path.write_text("before\n")
    github.append_summary(path, result(0.5, name="<img src=x>|`a`"))
    text = path.read_text()
    assert text.startswith("before\n### PASS: ")
    assert r"\<img src=x\>\|\`a\`" in text
    assert "| 10 | 0.5" in text


def test_a_summary_never_grows_beyond_what_github_shows(tmp_path: Path) -> None:
    path = tmp_path / "summary.md"
    path.write_bytes(b"x" * (github.MOST_BYTES - 10))
    github.append_summary(path, result(0.5))
    assert path.stat().st_size == github.MOST_BYTES - 10
    path.write_bytes(b"x" * (github.MOST_BYTES - 200))
    github.append_summary(path, result(0.5))
    assert "left out here" in path.read_text()[-150:]


@pytest.mark.parametrize(("ratio", "level"), [(0.5, "notice"), (1.0, "error"), (0.8, "warning")])
def test_an_annotation_is_for_github_alone(ratio: float, level: str) -> None:
    assert github.annotation(result(ratio), {}) == ""
    line = github.annotation(result(ratio), {"GITHUB_ACTIONS": "true"})
    assert line.startswith(f"::{level} title=nasflow verify::")
    assert "\n" not in line


# --- in words ----------------------------------------------------------------------------------------


def test_the_sentence_names_ratio_interval_side_and_limit() -> None:
    assert words.headline(result(0.5)).startswith("PASS: 0.50")
    assert words.headline(result(0.5)).endswith("below the limit of 0.8.")
    assert "above the limit of 0.8" in words.headline(result(1.0))
    assert "around the limit of 0.8" in words.headline(result(0.8))
    assert "--max-blocks" in words.text(result(0.8))
    assert "A simulated phone" in words.text(result(0.5, virtual=True))


def test_whether_the_outputs_were_compared_is_said_in_any_case() -> None:
    gate = result(0.5)
    assert "Outputs not compared on the device." in words.details(gate)
    compared = OutputsCompared(inputs=4, given=False, largest_share=1e-5, allowed_share=1e-3)
    both = {"outputs": compared, "baseline_outputs": compared.model_copy(update={"given": True})}
    (said,) = (line for line in words.details(gate.model_copy(update=both)) if "outputs" in line)
    assert said == (
        "The candidate's outputs for 4 random inputs are those of this computer: they differ by 1e-05 of the "
        "largest value (allowed: 0.001). The baseline's outputs for 4 given inputs are those of this "
        "computer: they differ by 1e-05 of the largest value (allowed: 0.001)."
    )


def test_a_history_keeps_the_order_of_its_gates_when_the_clock_was_set_back(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    for ratio, days in ((0.5, 0), (0.7, -400)):
        append_entry(path, HistoryEntry.of(result(ratio), AT + timedelta(days=days)))
    assert "the ratio went from 0.500 to 0.700 in 2 gates: slower" in history(path, None).text


def test_the_noise_floor_names_the_smallest_difference() -> None:
    assert "shows a difference of" in words.noise_floor(result(1.0))


# --- recompute ---------------------------------------------------------------------------------------


def test_a_verdict_follows_from_the_timings_alone() -> None:
    gate = result(0.5)
    bare = gate.model_copy(update={"looks": ()})
    assert recomputed(bare) == gate
    with pytest.raises(IntegrityError, match="says fail, but its own timings give pass"):
        recomputed(gate.model_copy(update={"verdict": "fail"}))


def test_a_gate_that_an_error_ended_has_no_verdict_to_be_reached_again(tmp_path: Path) -> None:
    gate, path = result(0.5), tmp_path / "gate.json"
    so_far = SoFar(gate.device, [block.model_copy(update={"dropped": None}) for block in gate.blocks[:4]])
    lost = DeviceLostError("the phone is gone.", hint="Plug it in.")
    write_unfinished(path, lost, "ours", "theirs", gate.plan, gate.runtime, so_far)
    document = json.loads(path.read_text())
    assert (document["error"]["reference"], len(document["blocks"])) == ("device-lost", 4)
    with pytest.raises(UsageError, match="an error ended after 4 blocks: the phone is gone"):
        read_result(path)


def test_a_file_whose_accuracy_was_taken_out_is_no_result(tmp_path: Path) -> None:
    """By its latency alone, the gate would pass."""
    document = result(0.5).model_dump(mode="json")
    document["plan"]["max_accuracy_drop"] = 1.0
    (tmp_path / "gate.json").write_text(json.dumps(document))
    with pytest.raises(UsageError, match="a limit of accuracy and the accuracy belong together"):
        read_result(tmp_path / "gate.json")


def test_the_gate_heeds_seed_and_thermal_status_of_the_configuration_and_so_does_the_stage(
    tmp_path: Path,
) -> None:
    config = PipelineConfig.model_validate({"seed": 5, "android": {"max_thermal_status": 1}})
    plan = GateOptions(limits={"max_ms": 1.0}).plan(config)
    assert (plan.seed, plan.max_thermal_status) == (5, 1)
    with LocalDevice() as device:
        (verify,) = (one for one in build_stages(config, tmp_path, device) if isinstance(one, Verify))
    assert verify.max_thermal_status == 1


# --- history -----------------------------------------------------------------------------------------


def written(path: Path, *ratios: float) -> Path:
    """A history of gates, a day apart."""
    for day, ratio in enumerate(ratios):
        append_entry(path, HistoryEntry.of(result(ratio), AT + timedelta(days=day)))
    return path


def test_entries_come_back_as_they_were_added(tmp_path: Path) -> None:
    path = written(tmp_path / "h.jsonl", 0.5, 0.6)
    found = read_history(path)
    assert [entry.ratio for entry in found.entries] == pytest.approx([0.5, 0.6], rel=0.01)
    assert not found.torn
    assert read_history(tmp_path / "none.jsonl").entries == ()


def test_a_whole_last_line_counts_although_nothing_ends_it(tmp_path: Path) -> None:
    path = written(tmp_path / "h.jsonl", 0.5, 0.6)
    path.write_bytes(path.read_bytes().rstrip(b"\n"))
    assert (len(read_history(path).entries), read_history(path).torn) == (2, False)
    written(path, 0.7)
    assert [entry.ratio for entry in read_history(path).entries] == pytest.approx([0.5, 0.6, 0.7], rel=0.01)


def test_lines_of_before_the_options_were_kept_are_read(tmp_path: Path) -> None:
    path = written(tmp_path / "h.jsonl", 0.5)
    line = json.loads(path.read_text())
    del line["options"]
    path.write_text(json.dumps(line | {"version": 1}) + "\n")
    (entry,) = read_history(path).entries
    assert (entry.version, entry.options) == (1, None)


def test_gates_of_other_models_and_of_other_options_are_series_of_their_own(tmp_path: Path) -> None:
    path = tmp_path / "h.jsonl"
    gpu = DEFAULT_OPTIONS.model_copy(update={"delegate": "gpu"})
    for day, ratio in enumerate((0.5, 0.55)):
        for gate in (
            result(ratio),
            result(1.0 - ratio).model_copy(update={"runtime": gpu}),
            result(0.9, name="another.tflite"),
        ):
            append_entry(path, HistoryEntry.of(gate, AT + timedelta(days=day)))
    outcome = history(path, tmp_path / "h.svg")
    assert "ours.tflite on Phone (1 thread), against theirs.tflite: the ratio went from 0.500" in outcome.text
    assert "1.5 (1.4" in outcome.text
    slower, faster, same = [line for line in outcome.text.splitlines() if " went from " in line]
    assert ": slower," in slower
    assert "(1 thread, gpu)" in faster
    assert ": faster," in faster
    assert "no change is shown" in same
    drawing = ElementTree.parse(tmp_path / "h.svg").getroot()
    titles = [one.text for one in drawing.iter() if one.tag.endswith("text")]
    assert sum(" on Phone (1 thread" in str(title) for title in titles) == 3
    assert len([one for one in drawing.iter() if one.tag.endswith("circle")]) == 6


def test_gates_that_end_together_keep_each_others_lines(tmp_path: Path) -> None:
    path, entry = tmp_path / "history.jsonl", HistoryEntry.of(result(0.5))

    def append() -> None:
        for _ in range(20):
            append_entry(path, entry)

    threads = [threading.Thread(target=append) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(read_history(path).entries) == 120


def test_a_file_that_no_gate_has_written_is_never_deleted(tmp_path: Path) -> None:
    def options(**files: Path) -> GateOptions:
        return GateOptions(candidate=tmp_path, **{"result": tmp_path / "gate.json", **files})

    weights, notes, null = (tmp_path / name for name in ("network.tflite", "notes.xml", "null"))
    null.symlink_to("/dev/null")
    weights.write_bytes(b"\0\0\0\0TFL3")
    notes.write_text("<notes/>")
    for path in (weights, notes, null):
        for option in ("result", "junit"):
            with pytest.raises(UsageError, match=r"no gate has written it|no regular file"):
                gate_files.prepare(options(**{option: path}))
        assert path.exists()
    own = tmp_path / "gate-1-notes.json"
    own.write_text("{}")
    with pytest.raises(UsageError, match="no gate has written it"):
        gate_files.prepare(GateOptions(result=tmp_path / "gate.json", all_phones=True))
    assert own.exists()
    empty = tmp_path / "empty.xml"
    empty.touch()
    gate_files.prepare(options(junit=empty))
    gate_files.write_result(tmp_path / "gate.json", result(0.5))
    junit.write(tmp_path / "junit.xml", [(junit.case_of(result(0.5), "x"), {})])
    gate_files.prepare(options(junit=tmp_path / "junit.xml"))
    assert not (tmp_path / "gate.json").exists()
    assert not (tmp_path / "junit.xml").exists()


def test_two_files_of_a_gate_are_never_one(tmp_path: Path) -> None:
    (tmp_path / "link.json").symlink_to(tmp_path / "gate.json")
    for option in ("junit", "summary", "history"):
        for path in (tmp_path / "gate.json", tmp_path / "link.json"):
            with pytest.raises(UsageError, match=f"--result and --{option} name the same file"):
                gate_files.prepare(GateOptions(result=tmp_path / "gate.json", **{option: path}))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        ({"max_ratio": -1}, "times the baseline's latency"),
        ({"max_ms": 0}, "12.5 ms"),
        ({"max_accuracy_drop": -1}, "percentage point"),
        ({"max_blocks": 3}, "6 blocks at least"),
    ],
)
def test_a_limit_that_makes_no_sense_is_explained_by_its_own_option(
    limits: dict[str, float], words: str
) -> None:
    with pytest.raises(UsageError) as caught:
        GateOptions(candidate=Path("a"), against="b", limits=limits).plan(PipelineConfig())
    assert words in caught.value.hint


@pytest.mark.parametrize("cut", [2, 40, 200])
def test_a_torn_last_line_is_left_out_and_cut_off_by_the_next(tmp_path: Path, cut: int) -> None:
    path = written(tmp_path / "h.jsonl", 0.5, 0.6)
    path.write_bytes(path.read_bytes()[:-cut])
    assert (len(read_history(path).entries), read_history(path).torn) == (1, True)
    assert "cut off" in history(path, None).text
    written(path, 0.7)
    assert [entry.ratio for entry in read_history(path).entries] == pytest.approx([0.5, 0.7], rel=0.01)


@pytest.mark.parametrize("line", ["not json", "[]", "{}", '{"version": 1, "at": "now"}', "[" * 5000])
def test_a_line_that_is_no_entry_is_named(tmp_path: Path, line: str) -> None:
    path = written(tmp_path / "h.jsonl", 0.5)
    path.write_text(path.read_text() + line + "\n")
    with pytest.raises(UsageError, match=r"line 2 of .* is no entry"):
        read_history(path)


def test_a_history_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "h.jsonl", 0.5)
    path.write_text(json.dumps({**json.loads(path.read_text()), "version": 3}) + "\n")
    with pytest.raises(UsageError, match="newer nasflow"):
        read_history(path)


@pytest.mark.parametrize(
    ("ratios", "said"),
    [
        ((0.5, 0.55, 0.6), "slower, and their intervals do not overlap"),
        ((0.6, 0.5), "faster, and their intervals do not overlap"),
        ((0.5, 0.502), "no change is shown"),
    ],
)
def test_the_history_says_whether_the_ratio_has_changed(
    tmp_path: Path, ratios: tuple[float, ...], said: str
) -> None:
    outcome = history(written(tmp_path / "h.jsonl", *ratios), tmp_path / "h.svg")
    assert said in outcome.text
    drawing = ElementTree.parse(tmp_path / "h.svg").getroot()
    assert f"{len(ratios)} gates" in str(drawing.get("aria-label"))
    circles = [one for one in drawing.iter() if one.tag.endswith("circle")]
    assert len(circles) == len(ratios)


def test_an_empty_history_says_how_to_fill_it(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds no gates"):
        history(tmp_path / "h.jsonl", None)

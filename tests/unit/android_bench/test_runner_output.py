"""The text of both benchmark_model tools, of any age: one true latency comes out, or an error."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from android_bench.runner.output import Delegation, Summary, Timings, parse_output
from benchmarks.parser_fuzz import invented
from nasflow.base.errors import BadMeasurementError
from nasflow.base.text import plain_text

FIXTURES = Path(__file__).resolve().parents[2] / "fixtures" / "benchmark_model"

HEADINGS = (
    "Running benchmark for at least 1 iterations and at least 0.5 seconds but terminate if exceeding 9 s.",
    "Running benchmark for at least 50 iterations and at least 1 seconds but terminate if exceeding 9 s.",
)
WARMUP = "count=52 first=16758 curr=7669 min=7560 max=16758 avg=9551.69 std=2579"
RESULT = (
    "count=123 first=7741 curr=7657 min=7551 max=15616 avg=8089.02 std=1187 p5=7591 median=7768 p95=11613"
)


def output(result: str = RESULT, warmup: str = WARMUP, *more: str) -> bytes:
    lines = ["STARTING!", HEADINGS[0], warmup, "", HEADINGS[1], result, "", *more]
    return "\n".join(lines).encode()


def fixture(name: str) -> tuple[bytes, bytes]:
    return (FIXTURES / f"{name}.out").read_bytes(), (FIXTURES / f"{name}.err").read_bytes()


def test_the_classic_tool_is_read() -> None:
    got = parse_output(*fixture("mnv2_t1"))
    assert got.inference == Timings(
        count=123,
        curr_us=7657,
        first_us=7741,
        min_us=7551,
        max_us=15616,
        avg_us=8089.02,
        std_us=1187,
        p5_us=7591,
        median_us=7768,
        p95_us=11613,
    )
    assert got.warmup is not None and got.warmup.count == 52
    assert got.summary == Summary(8089.02, 19039, None)
    assert (got.unknown_flags, got.delegations) == ("", ())


def test_the_counts_of_an_operator_profile_are_no_latencies() -> None:
    got = parse_output(*fixture("dummy_prof"))
    assert (got.inference.count, got.inference.median_us, got.inference.avg_us) == (836, 1148, 1171.58)


def test_litert_tells_its_summary_on_standard_error() -> None:
    stdout, stderr = fixture("litert_dummy")
    got = parse_output(stdout, stderr)
    assert (got.inference.median_us, got.summary) == (1209, Summary(1310, 730, 765))
    assert parse_output(stdout).summary is None
    assert parse_output(stdout + stderr) == got, "a phone with shell protocol v1 merges both streams"


def test_windows_line_ends_of_a_terminal_are_read() -> None:
    stdout, stderr = fixture("mnv2_t1")
    assert parse_output(stdout.replace(b"\n", b"\r\n"), stderr) == parse_output(stdout, stderr)


@pytest.mark.parametrize(
    "summary",
    [
        "Inference timings in us: Init: 19039, First inference: 16758, Warmup (avg): 9551.69, "
        "Inference (avg): 8089.02",
        "Average inference timings in us: Warmup: 9551.69, Init: 19039, Inference: 8089.02",
        "Average inference timings in us: Warmup: 9551.69, Init: 19039, no stats: 8089.02",
    ],
)
def test_older_builds_without_info_and_median_are_read(summary: str) -> None:
    old = RESULT[: RESULT.index(" p5=")]
    got = parse_output(output(old, WARMUP, summary))
    assert (got.inference.avg_us, got.inference.median_us) == (8089.02, None)
    assert got.summary == Summary(8089.02, 19039, None)


QUANTILES = " p5=2977290 median=2977290 p95=2977290"


@pytest.mark.parametrize("quantiles", [QUANTILES, ""], ids=["newer", "older"])
def test_one_run_has_no_minimum_and_no_average(quantiles: str) -> None:
    got = parse_output(output(f"count=1 curr=2977290{quantiles}", "count=1 curr=3077290"))
    assert got.inference == Timings(1, *[2977290.0] * 5, None, *[2977290.0] * 3)


@pytest.mark.parametrize("quantiles", [QUANTILES, ""], ids=["newer", "older"])
def test_runs_that_took_equally_long_are_read(quantiles: str) -> None:
    got = parse_output(output(f"count=7 curr=2977290(all same){quantiles}"))
    assert (got.inference.count, got.inference.median_us, got.inference.min_us) == (7, 2977290, 2977290)


def test_six_significant_digits_agree_with_the_full_number() -> None:
    summary = (
        "INFO: Inference timings in us: Init: 1, First inference: 1, Warmup (avg): 1, "
        "Inference (avg): 2.97729e+06"
    )
    got = parse_output(output("count=1 curr=2977293", WARMUP, summary))
    assert got.summary is not None and got.summary.avg_us == 2977290
    long = "count=9 first=2977000 curr=2977000 min=2977000 max=2978000 avg=2.97729e+06 std=12"
    assert parse_output(output(long, WARMUP, summary)).inference.avg_us == 2977290


def test_no_warm_up_is_no_warm_up() -> None:
    assert parse_output(output(warmup="count=0")).warmup is None
    assert parse_output(output(warmup="count=0 p5=0 median=0 p95=0")).warmup is None


@pytest.mark.parametrize(
    "result",
    [
        "count=0",
        "count=1 curr=0",
        "count=123 first=0 curr=0 min=0 max=0 avg=0 std=0 p5=0 median=0 p95=0",
        "count=1 curr=-5",
        "count=1 curr=nan",
        "count=1 curr=inf",
        "count=1 curr=1e99",
        "count=1 curr=3600000001",
        "count=1",
        "count=1 curr=",
        "count= curr=5",
        "count=5 curr=5",
        "count=1 curr=5(all same)",
        "count=5 curr=5(all same)(all same)",
        "count=5 curr=5(all same) p5=5 median=6 p95=7",
        "count=1 curr=5 p5=5 median=5 p95=6",
        "count=1 curr=5 same",
        "count=0 p5=5 median=5 p95=5",
        "count=0 curr=5",
        "count=1.5 curr=5",
        "count=123 first=7741 curr=7657 min=7551",
        RESULT.replace("median=7768", "median=12000"),
        RESULT.replace("min=7551", "min=8000"),
        RESULT.replace("avg=8089.02", "avg=80890.2"),
        RESULT.replace("median=7768", "median=7768 median=7769"),
        RESULT.replace("median=7768", "median=٣"),
        RESULT.replace("p95=11613", "p95"),
        RESULT.replace(" p95=11613", ""),
        RESULT.replace("p95=11613", "p95=11613INFO: x"),
        RESULT.replace("p95=", "p96="),
    ],
)
def test_a_result_that_cannot_be_is_an_error_with_the_raw_output(result: str) -> None:
    with pytest.raises(BadMeasurementError) as caught:
        parse_output(output(result))
    assert "Running benchmark" in caught.value.raw and result.split(" ")[0] in caught.value.raw


@pytest.mark.parametrize(
    "result",
    [
        "count=1 curr=0",
        "count=1 curr=0 p5=0 median=0 p95=0",
        "count=7 curr=0(all same) p5=0 median=0 p95=0",
        "count=123 first=0 curr=0 min=0 max=0 avg=0 std=0 p5=0 median=0 p95=0",
        "count=123 first=0 curr=0 min=0 max=1 avg=0 std=0 p5=0 median=0 p95=0",
    ],
)
def test_nothing_but_zeros_is_an_error_that_says_what_to_do(result: str) -> None:
    with pytest.raises(BadMeasurementError, match="reports 0 microseconds for every run") as caught:
        parse_output(output(result))
    assert "larger model" in caught.value.hint


@pytest.mark.parametrize("lines", range(6))
def test_output_that_breaks_off_is_an_error(lines: int) -> None:
    torn = b"\n".join(output().split(b"\n")[:lines])
    with pytest.raises(BadMeasurementError):
        parse_output(torn)


def test_the_warm_up_is_never_taken_for_the_result() -> None:
    with pytest.raises(BadMeasurementError, match="1 lines of timings"):
        parse_output("\n".join([HEADINGS[0], RESULT]).encode())


def test_two_runs_in_one_output_are_not_guessed_apart() -> None:
    with pytest.raises(BadMeasurementError, match="4 lines"):
        parse_output(output() + b"\n" + output())


def test_a_summary_that_differs_is_an_error() -> None:
    for summary in (
        "Inference timings in us: Init: 1, First inference: 1, Warmup (avg): 1, Inference (avg): 8089.52",
        "INFO: [benchmark_litert_model.h:99] Inference (avg):      8.10 ms (123 runs)",
        "INFO: [benchmark_litert_model.h:99] Inference (avg):      8.09 ms (124 runs)",
    ):
        with pytest.raises(BadMeasurementError, match="is inconsistent"):
            parse_output(output(RESULT, WARMUP, summary))


def test_a_list_of_signatures_is_no_run() -> None:
    with pytest.raises(BadMeasurementError, match="0 lines of timings"):
        parse_output(*fixture("listsig"))


def test_ignored_flags_are_told() -> None:
    got = parse_output(b"WARN: Unconsumed cmdline flags: --foo --bar=3\n" + output())
    assert got.unknown_flags == "--foo --bar=3"


APPLIED = "Explicitly applied GPU delegate, and the model graph will be"
REPLACED = "VERBOSE: Replacing"


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (f"INFO: {APPLIED} completely executed by the delegate.", Delegation("GPU", "all")),
        (f"{APPLIED} partially executed by the delegate w/ 2 delegate kernels.", Delegation("GPU", "part")),
        (
            "INFO: Though GPU delegate is explicitly applied, the model graph will not be executed by it.",
            Delegation("GPU", "none"),
        ),
        (
            f"{REPLACED} 31 out of 31 node(s) with delegate (TfLiteGpuDelegateV2) node, yielding 1 partition",
            Delegation("TfLiteGpuDelegateV2", "all"),
        ),
        (f"{REPLACED} 30 out of 31 node(s) with delegate (CL) node, yielding 3 p", Delegation("CL", "part")),
        (f"{REPLACED} 0 out of 31 node(s) with delegate (X) node", Delegation("X", "none")),
    ],
)
def test_what_computed_the_graph_is_told(line: str, expected: Delegation) -> None:
    assert parse_output(output(), line.encode()).delegations == (expected,)


WORDS = st.sampled_from(
    [
        *HEADINGS,
        WARMUP,
        RESULT,
        "count=1 curr=5",
        "Inference (avg): 1.31 ms (765 runs)",
        "Inference timings in us: Init: 6, First inference: 1, Warmup (avg): 1, Inference (avg): 8089.02",
        "Unconsumed cmdline flags: ",
        *("count=", "first=", "avg=", "min=", "median=", "INFO: "),
        *("\n", "\x1b[0m", " ", "nan", "-", "e+06", "."),
    ]
)
TEXTS = st.lists(st.one_of(WORDS, st.text(max_size=8), st.integers(0, 10**12).map(str)), max_size=30).map(
    "".join
)


@settings(max_examples=1_000)
@given(TEXTS | st.binary(max_size=300).map(lambda raw: raw.decode("latin-1")), TEXTS)
def test_any_text_gives_numbers_that_stand_in_it_or_an_error(stdout: str, stderr: str) -> None:
    raw = stdout.encode("utf-8", "surrogatepass"), stderr.encode("utf-8", "surrogatepass")
    try:
        got = parse_output(*raw)
    except BadMeasurementError:
        return
    assert invented(got, "\n".join(plain_text(stream, limit=10_000) for stream in raw)) == []


@settings(max_examples=1_000)
@given(
    st.lists(st.integers(0, 9) | st.integers(0, 10**9), min_size=5, max_size=5).map(sorted),
    st.integers(2, 10**6),
    st.lists(st.sampled_from(["INFO: noise", "", "WARNING: x=3", "Timings (microseconds): count=3 curr=5"])),
)
def test_what_the_tool_prints_is_read_back(order: list[int], count: int, noise: list[str]) -> None:
    low, p5, median, p95, high = order[0], *order[1:4], order[4] + 1
    average = float(f"{(low + high) / 2:.6g}")
    line = f"count={count} first={low} curr={p95} min={low} max={high} avg={average:g} std=3"
    got = parse_output(output(f"INFO: {line} p5={p5} median={median} p95={p95}", WARMUP, *noise))
    assert got.inference.median_us == median
    assert (got.inference.min_us, got.inference.p5_us, got.inference.p95_us) == (low, p5, p95)
    assert got.inference.count == count

"""A gate as JUnit XML, which every CI shows: a failed gate is a failure, a lost device an error."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from junitparser import Error, Failure, JUnitXml, Skipped, TestCase, TestSuite

from nasflow.base.errors import NasflowError
from nasflow.base.files import write_atomic
from nasflow.base.text import plain_text
from nasflow.gate.words import details, headline
from stages.documents.gate import GateResult

SUITE = "nasflow verify"


def case_of(result: GateResult, name: str) -> TestCase:
    """The gate as a test case; inconclusive is skipped, with the reason."""
    case = TestCase(_clean(name), classname=SUITE, time=result.seconds)
    if result.verdict == "fail":
        case.result = [Failure(_clean(headline(result)), type_="gate")]
    elif result.verdict == "inconclusive":
        case.result = [Skipped(_clean(headline(result)), type_="inconclusive")]
    case.system_out = _clean("\n".join([headline(result), *details(result)]))
    return case


def error_case(error: NasflowError, name: str) -> TestCase:
    """What kept a gate from being measured."""
    case = TestCase(_clean(name), classname=SUITE)
    words = f"{error.message} {error.hint}".strip()
    case.result = [Error(_clean(words), type_=error.reference)]
    return case


def properties(result: GateResult) -> Mapping[str, str]:
    """The figures, by name."""
    found = {
        "verdict": result.verdict or result.kind,
        "candidate_sha256": result.candidate.sha256,
        "device": result.device.model,
        "runtime": result.device.runtime,
        "blocks": str(result.blocks_counted),
        "blocks_dropped": str(len(result.blocks) - result.blocks_counted),
    }
    if result.baseline is not None:
        found["baseline_sha256"] = result.baseline.sha256
    if result.plan.max_ratio is not None:
        found["max_ratio"] = repr(result.plan.max_ratio)
    if result.plan.max_ms is not None:
        found["max_ms"] = repr(result.plan.max_ms)
    if result.accuracy is not None:
        low, high = result.accuracy.drop_points_interval_95
        found |= {
            "max_accuracy_drop": repr(result.plan.max_accuracy_drop),
            "accuracy_drop": f"{result.accuracy.drop_points:.6g}",
            "accuracy_drop_low": f"{low:.6g}",
            "accuracy_drop_high": f"{high:.6g}",
            "test_images": str(result.accuracy.images),
        }
    if (look := result.last_look) is not None:
        figures = {"candidate_ms": (look.candidate_ms, *look.candidate_ms_interval)}
        if look.ratio is not None and look.ratio_interval is not None:
            figures["ratio"] = (look.ratio, *look.ratio_interval)
        for name, (value, low, high) in figures.items():
            found |= {name: f"{value:.6g}", f"{name}_low": f"{low:.6g}", f"{name}_high": f"{high:.6g}"}
    return found


def write(path: Path, cases: Sequence[tuple[TestCase, Mapping[str, str]]]) -> None:
    """One suite of these cases, each with its figures. Raises MachineError where it cannot be written."""
    suite = TestSuite(SUITE)
    for case, figures in cases:
        for key, value in figures.items():
            suite.add_property(_clean(key), _clean(value))
        suite.add_testcase(case)
    document = JUnitXml()
    document.add_testsuite(suite)
    content: bytes = document.tostring()  # type: ignore[no-untyped-call]
    write_atomic(path, content)


def _clean(text: str) -> str:
    """Without characters that XML cannot hold: a device's words may have any."""
    return plain_text(text)

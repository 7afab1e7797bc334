"""The document that every benchmark prints, and its exit code."""

from __future__ import annotations

import json
import re

import pytest

from benchmarks._report import Outcome, above, at_least, at_most, commit, main
from nasflow.base.errors import DeviceError


def test_the_document_holds_figures_bars_environment_and_commit(capsys: pytest.CaptureFixture[str]) -> None:
    outcome = Outcome({"seconds": 1.5}, [at_most("seconds", 1.5, 2.0), at_least("speedup", 2.0, 2.0)])
    assert main("sample", lambda full: outcome, ["--quick"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["benchmark"] == "sample"
    assert document["depth"] == "quick"
    assert document["figures"] == {"seconds": 1.5}
    assert document["bars"][0] == {"name": "seconds", "value": 1.5, "limit": 2.0, "holds": True}
    assert document["environment"]["device_kind"] == "local"
    assert re.fullmatch(r"([0-9a-f]{40}(-dirty)?)?", document["commit"])


@pytest.mark.parametrize(
    "bar", [at_most("seconds", 2.1, 2.0), at_least("speedup", 1.9, 2.0), above("points", 0.0, 0.0)]
)
def test_a_bar_that_does_not_hold_ends_with_one(bar, capsys: pytest.CaptureFixture[str]) -> None:  # type: ignore[no-untyped-def]
    assert main("sample", lambda full: Outcome({}, [bar]), []) == 1
    assert json.loads(capsys.readouterr().out)["bars"][0]["holds"] is False


def test_the_depth_reaches_the_benchmark(capsys: pytest.CaptureFixture[str]) -> None:
    seen = []
    for argv in ([], ["--quick"], ["--full"]):
        main("sample", lambda full: Outcome({"full": seen.append(full)}), argv)
    assert seen == [False, False, True]
    with pytest.raises(SystemExit):
        main("sample", lambda full: Outcome({}), ["--quick", "--full"])
    capsys.readouterr()


def test_an_error_has_its_own_exit_code_and_prints_no_document(capsys: pytest.CaptureFixture[str]) -> None:
    def run(full: bool) -> Outcome:
        raise DeviceError("the device went away.", hint="Plug it in.")

    assert main("sample", run, []) == 5
    told = capsys.readouterr()
    assert told.out == ""
    assert "sample: the device went away. Plug it in." in told.err


def test_the_commit_is_that_of_this_working_copy_or_unknown() -> None:
    assert re.fullmatch(r"([0-9a-f]{40}(-dirty)?)?", commit())

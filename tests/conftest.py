"""Markers and options that all tests share."""

from __future__ import annotations

import os
import signal
import sys
from collections import Counter
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings
from support.requirements import is_here

# Before NumPy is loaded: beside other programs, two threads of its OpenBLAS that wait for each other take up
# to ten times as long as one, for matrices as small as those here.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # each core has a worker of its own

_LACKS = "this computer lacks "

# The same examples in every run, however slow the computer: what fails here fails everywhere. To search for
# others: --hypothesis-profile=search.
settings.register_profile(
    "fixed", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True
)
settings.register_profile("search", settings.get_profile("fixed"), derandomize=False, max_examples=1_000)
settings.load_profile("fixed")


def pytest_configure() -> None:
    """Let tests interrupt processes: a shell that starts us in the background has all of us ignore SIGINT."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(tryfirst=True)  # before xdist, which reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep in one worker: a module's tests, all on a virtual phone, all that share the finished run."""
    for item in items:
        if item.get_closest_marker("xdist_group") is not None:
            continue
        if "finished" in getattr(item, "fixturenames", ()):
            group = "finished"
        else:
            group = "device" if item.get_closest_marker("needs") else item.nodeid.partition("::")[0]
        item.add_marker(pytest.mark.xdist_group(group))


def pytest_addoption(parser: pytest.Parser) -> None:
    """``--phone NAME`` names the phone that tests marked ``phone`` may use."""
    parser.addoption(
        "--phone",
        default=None,
        metavar="NAME",
        help="a connected Android phone, as in 'nasflow --device android:NAME'",
    )
    parser.addoption(
        "--runner",
        action="append",
        default=[],
        metavar="PATH",
        help="a benchmark_model for that phone to verify, beside the one that is downloaded; repeatable",
    )


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what needs something that this computer lacks; with NASFLOW_TESTS_STRICT=1 that is a failure."""
    for mark in item.iter_markers("needs"):
        for requirement in mark.args:
            if is_here(requirement):
                continue
            if os.environ.get("NASFLOW_TESTS_STRICT") == "1":
                pytest.fail(f"this computer lacks {requirement}", pytrace=False)
            pytest.skip(f"{_LACKS}{requirement}")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Name in the last lines what was missing, and how many tests were skipped for it."""
    reasons = [report.longrepr[2] for report in terminalreporter.getreports("skipped")]
    missing = Counter(reason.partition(_LACKS)[2] for reason in reasons if _LACKS in reason)
    for requirement, count in sorted(missing.items()):
        terminalreporter.write_line(
            f"{count} tests were skipped: this computer lacks {requirement} (CONTRIBUTING.md, Set up)."
        )


@pytest.fixture(autouse=True)
def threads_stay() -> Iterator[None]:
    """How many threads torch computes on decides the last digits of all that a later test trains."""
    before = torch.get_num_threads() if (torch := sys.modules.get("torch")) else None
    yield
    if before is not None and torch is not None:
        assert torch.get_num_threads() == before, "this test changed torch's number of threads for all others"

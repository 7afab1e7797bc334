"""What the tests on a real phone share: the phone, and the lines that they add to ``docs/verified.md``.

Run them by ``pytest -m phone --phone NAME`` (about ten minutes, the phone lying still, on its charger). At
the end they print a line for each thing that was verified here, and say what was not tried.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import NoReturn

import pytest

from android_bench.discover import choose, find_phones, open_found
from android_bench.found_phone import FoundPhone
from android_bench.phone.text import parse_getprop, parse_properties
from android_bench.transport import Completed, Transport, split_host_port
from nasflow.base.errors import NasflowError
from nasflow.base.text import plain_text

TIMEOUT_S = 60.0
FOLDER = "/data/local/tmp/nasflow-verify"
"""Everything that these tests leave on a phone lies here, and is deleted at the end."""

Record = Callable[[str, object], None]


@dataclass(frozen=True)
class Phone:
    """The phone under test. ``where`` is how ``docs/verified.md`` names it."""

    name: str
    found: FoundPhone
    transport: Transport
    where: str
    virtual: bool
    abis: tuple[str, ...]
    cores: int

    @property
    def abi(self) -> str:
        """The one that it prefers."""
        return next(iter(self.abis), "")

    def run(self, *argv: str, timeout_s: float = TIMEOUT_S) -> Completed:
        return self.transport.run(argv, timeout_s=timeout_s)

    def shell(self, script: str, *words: str, timeout_s: float = TIMEOUT_S) -> Completed:
        return self.run("sh", "-c", script, "sh", *words, timeout_s=timeout_s)


@pytest.fixture(scope="session")
def phone(request: pytest.FixtureRequest) -> Iterator[Phone]:
    name = request.config.getoption("--phone")
    if not name:
        pytest.fail(
            "this test needs a phone: pytest -m phone --phone NAME (what 'nasflow devices' lists). "
            "Without one: pytest -m 'not phone'.",
            pytrace=False,
        )
    try:
        found = choose(name, find_phones(addresses=[name] if split_host_port(name) else []))
        with closing(open_found(found)) as transport:
            yield _described(name, found, transport)
            transport.run(["rm", "-rf", FOLDER], timeout_s=TIMEOUT_S)
    except NasflowError as error:
        pytest.fail(f"{error.message} {error.hint}", pytrace=False)


def _described(name: str, found: FoundPhone, transport: Transport) -> Phone:
    text = plain_text(transport.run(["getprop"], timeout_s=TIMEOUT_S).stdout, limit=1_000_000)
    told = parse_getprop(text)
    virtual = told.get("ro.nasflow.virtual") == "true"
    build = told.get("ro.build.id", "")
    where = f"{told.get('ro.product.manufacturer', '')} {found.model}, {found.soc}, Android {found.android}"
    where = " ".join(f"{where}, {build}".split())
    listed = ["sh", "-c", "ls -d /sys/devices/system/cpu/cpu[0-9]* | wc -l"]
    counted = plain_text(transport.run(listed, timeout_s=TIMEOUT_S).stdout)
    if not (counted.isdigit() and int(counted)):
        counted = plain_text(transport.run(["nproc"], timeout_s=TIMEOUT_S).stdout) or "1"
    transport.run(["mkdir", "-p", FOLDER], timeout_s=TIMEOUT_S)
    return Phone(
        name,
        found,
        transport,
        f"the virtual phone ({where})" if virtual else where,
        virtual,
        parse_properties(text).abis,
        int(counted),
    )


class Line:
    """The line that a test adds: what it found out."""

    def __init__(self, record: Record) -> None:
        self._record = record
        self._found: list[str] = []

    def found(self, result: str) -> None:
        """Add a result, in a few words, with its figures."""
        self._found.append(" ".join(result.split()))
        self._record("result", "; ".join(self._found))

    def not_tried(self, why: str) -> NoReturn:
        """Leave it out, and say so at the end."""
        self._record("not tried", why)
        pytest.skip(why)


@pytest.fixture
def line(request: pytest.FixtureRequest, record_property: Record, phone: Phone) -> Line:
    marker = request.node.get_closest_marker("verifies")
    assert marker is not None, "a test on a phone names the line of docs/verified.md that it verifies"
    record_property("what", marker.args[0])
    record_property("where", phone.where)
    record_property("name", phone.name)
    record_property("virtual", phone.virtual)
    return Line(record_property)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """The new lines of ``docs/verified.md``."""
    verified, left = [], []
    virtual = False
    for outcome in ("passed", "failed", "skipped", "error"):
        for report in terminalreporter.stats.get(outcome, []):
            told = dict(getattr(report, "user_properties", []))
            what = told.get("what")
            if what is None or (outcome == "passed" and report.when != "call"):
                continue
            virtual = virtual or bool(told.get("virtual"))
            test = report.nodeid.rpartition("::")[2]
            if outcome == "passed":
                name = shlex.quote(str(told["name"]))
                how = f"`pytest -m phone --phone {name} -k {test}`: {told.get('result', 'as expected')}"
                verified.append("| " + " | ".join(_cell(cell) for cell in (what, told["where"], how)) + " |")
            elif outcome == "skipped":
                left.append(f"not tried: {what}: {told.get('not tried', '')}")
            else:
                left.append(f"FAILED: {what} ({test}): {told.get('result', 'see above')}")
    if not verified and not left:
        return
    terminalreporter.section("new lines for docs/verified.md")
    if virtual:
        terminalreporter.line("A VIRTUAL PHONE: these lines prove nothing of a real one, do not paste them.")
    for text in [*verified, *left]:
        terminalreporter.line(f"(virtual) {text}" if virtual else text)
    terminalreporter.line(json.dumps({"verified": len(verified), "left": len(left), "virtual": virtual}))


def _cell(text: str) -> str:
    return text.replace("|", "/").replace("\n", " ")

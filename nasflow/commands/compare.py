"""``nasflow compare``: finished runs side by side, as a table and as a page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nasflow.base.errors import UsageError
from nasflow.base.files import write_atomic
from nasflow.base.text import plain_line
from nasflow.cli.console import message_lines
from nasflow.cli.options import AsJson
from nasflow.cli.request import Action, Outcome
from nasflow.commands.first_look import Told
from nasflow.commands.ship import Run, find_run
from nasflow.commands.summary import short, width_here

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def compare(paths: Sequence[Path], page: Path | None) -> Outcome:
    """Compare what the runs found; write ``page`` where it is given.

    Raises UsageError where a run is not finished, is named twice, or was tested on other images than the
    first; IntegrityError where a file is damaged; MachineError.
    """
    from nasflow.finished_run import read_finished
    from stages.reporting.comparison import ComparedRun, compare_runs
    from stages.reporting.comparison_page import render_comparison
    from stages.reporting.comparison_text import (
        HEADINGS,
        comparison_sentences,
        differing_rows,
        liked_by_runs,
        run_rows,
    )
    from stages.reporting.cross_text import LIKES, cross_lines, likes_rows
    from stages.reporting.summary import aligned, wrapped
    from stages.space.preferences import shares_of_probabilities

    if len(paths) < 2:
        raise UsageError(
            "There is nothing to compare: one run was named.", hint="Name two or more: nasflow compare A B."
        )
    told = Told()
    runs = [find_run(path) for path in paths]
    compared = []
    for run, name in zip(runs, _names(paths, runs), strict=True):
        finished = read_finished(run.latest, told)
        verify, record = finished.documents.verify, finished.records["verify"]
        of_device = {*verify.device.identity(), "accuracy_runtime"}
        correct = finished.store.read_bytes(finished.documents.found.correct)
        compared.append(
            ComparedRun(
                name=name,
                result=finished.result,
                verification=verify,
                correct_N=_unpacked(correct, verify.test_images),
                images={key: value for key, value in record.environment.items() if key not in of_device},
                settings={stage: each.settings for stage, each in finished.records.items()},
                learned=shares_of_probabilities(
                    finished.documents.search.space, finished.documents.search.log_probabilities
                ),
            )
        )
    comparison = compare_runs(compared)
    if page is not None:
        write_atomic(page, render_comparison(comparison).encode())
    width = width_here()
    lines = [*message_lines(told.events), *aligned([HEADINGS, *run_rows(comparison)]), ""]
    if rows := differing_rows(comparison):
        lines += [*aligned([("setting", *(run.name for run in comparison.runs)), *rows]), ""]
    if comparison.cross_table is not None:
        lines += [*cross_lines(comparison.cross_table, width), ""]
    else:
        lines += [*aligned([LIKES, *likes_rows(liked_by_runs(comparison))]), ""]
    lines += [wrapped(subject, sentence, width) for subject, sentence in comparison_sentences(comparison)]
    if page is not None:
        lines += ["", f"{'Page':<9}{short(page)}"]
    document = {**comparison.model_dump(mode="json"), "page": None if page is None else str(page)}
    return Outcome(document, "\n".join(lines))


def _names(paths: Sequence[Path], runs: Sequence[Run]) -> list[str]:
    """The projects' names; where two have the same, what was typed. Raises UsageError: named twice."""
    for index, run in enumerate(runs):
        if run.latest in [other.latest for other in runs[:index]]:
            raise UsageError(
                f"{plain_line(str(paths[index]))} is named twice: {plain_line(str(run.latest))}.",
                hint="A project's latest results are those of its last run. To keep those of several seeds, "
                "give each its folder: nasflow run --seed 3 --set artifacts=artifacts-3.",
            )
    names = [run.default_name for run in runs]
    if len(set(names)) < len(names):
        return [plain_line(str(path)) for path in paths]
    return [plain_line(name) for name in names]


def _unpacked(correct: bytes, images: int) -> NDArray[np.bool_]:
    import numpy as np

    return np.unpackbits(np.frombuffer(correct, np.uint8), count=images).astype(np.bool_)


def command(
    runs: Annotated[
        list[Path],
        typer.Argument(
            metavar="RUN RUN...",
            help="Finished runs: a project's folder, its pipeline.yaml, or its artifacts/latest. "
            "The others are compared with the first.",
            show_default=False,
        ),
    ],
    page: Annotated[
        Path | None, typer.Option("--page", metavar="HTML", help="Write the comparison as a page, too.")
    ] = None,
    as_json: AsJson = False,
) -> Action:
    """Set finished runs side by side."""
    del as_json  # the outcome has both
    return lambda: compare(runs, page)

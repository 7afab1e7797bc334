"""The page that follows a run: what is in it now, and the page around that."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from nasflow.base.text import human_count, human_duration, share
from stages.reporting.html import FULL_WIDTH, HALF_WIDTH, page_templates, twice
from stages.reporting.live import LiveRun, StageView

if TYPE_CHECKING:
    from markupsafe import Markup

SILENT_SECONDS = 120.0
"""Without news for so long a run may have been killed: that is said."""
# Takes the fragment again and again. What it shows was escaped when it was made, and may run no script.
SCRIPT = """
const now = document.getElementById('now'), told = document.getElementById('told');
async function follow() {
  let pause = 2000;
  try {
    const answer = await fetch('/now', {cache: 'no-store'});
    if (!answer.ok) throw new Error(answer.status);
    const shown = document.activeElement && document.activeElement.getAttribute('aria-label');
    now.innerHTML = await answer.text();
    if (shown) now.querySelectorAll('[tabindex]').forEach((e) => {
      if (e.getAttribute('aria-label') === shown) e.focus({preventScroll: true});
    });
    document.title = now.querySelector('h1').textContent;
    told.textContent = '';
  } catch (error) {
    told.textContent = 'This page is no longer brought up to date: nasflow report --serve has ended.';
    pause = 5000;
  }
  setTimeout(follow, pause);
}
setTimeout(follow, 2000);
"""


def content_security_policy() -> str:
    """What the page may do: show itself, run its one script, and ask its own server."""
    digest = base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode()
    return (
        f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'; connect-src 'self'; "
        "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


def live_page(run: LiveRun, *, closed: bool, at: datetime, finished: bool) -> str:
    """The whole page; see :func:`live_fragment`."""
    from markupsafe import Markup

    fragment = live_fragment(run, closed=closed, at=at, finished=finished)
    # Both are ours: the fragment was escaped when it was made, the script is a constant.
    template = page_templates().get_template("live.html.j2")
    return template.render(now=Markup(fragment), script=Markup(SCRIPT))


def live_fragment(run: LiveRun, *, closed: bool, at: datetime, finished: bool) -> str:
    """What is known at time ``at``. ``closed``: the run said that it ended; ``finished``: it has a report."""
    state, words = _state(run, closed, at)
    search = list(run.distributions.values())
    return (
        page_templates()
        .get_template("live_now.html.j2")
        .render(
            title=_title(run, closed),
            state=state,
            state_words=words,
            lead=_lead(run, closed, at),
            finished=finished and closed and state == "done",
            rows=[_row(stage, at) for stage in run.stages.values()],
            curves=_curves(run),
            probabilities=_probabilities(run),
            epoch=search[-1].step + 1 if search else 0,
            messages=list(reversed(run.messages)),
        )
    )


@dataclass(frozen=True)
class _Row:
    """A line of the table of stages."""

    name: str
    state: str
    at_work: bool
    reason: str
    done: str
    share: float | None
    time: str
    left: str


def _row(stage: StageView, at: datetime) -> _Row:
    progress = stage.progress
    working = stage.state == "at work"
    done, part = "", None
    if progress is not None and working:
        done = f"{human_count(progress.done)} of {human_count(progress.total)} {progress.unit}"
        part = round(100 * share(progress.done, progress.total), 1)
    took = stage.seconds
    if working and stage.began is not None:
        took = max(0.0, (at - stage.began).total_seconds())
    left = ""
    if working and stage.left_seconds is not None:
        left = human_duration(stage.left_seconds)
    elif stage.state == "waiting" and stage.estimate_seconds:
        left = f"about {human_duration(stage.estimate_seconds)}"
    return _Row(
        name=stage.name,
        state=stage.state,
        at_work=working,
        reason=stage.reason if stage.state in ("at work", "stopped") else "",
        done=done,
        share=part,
        time="" if took is None else human_duration(took),
        left=left,
    )


def _state(run: LiveRun, closed: bool, at: datetime) -> tuple[str, str]:
    if any(stage.state == "stopped" for stage in run.stages.values()):
        return "stopped", "stopped"
    if closed:
        whole = all(stage.state in ("done", "up to date") for stage in run.stages.values())
        return ("done", "done") if run.stages and whole else ("stopped", "ended")
    if run.last_at is not None and (at - run.last_at).total_seconds() > SILENT_SECONDS:
        return "silent", f"no news for {human_duration((at - run.last_at).total_seconds())}"
    return "at-work", "at work"


def _title(run: LiveRun, closed: bool) -> str:
    stage = run.at_work
    if stage is not None and not closed:
        place = list(run.stages).index(stage.name) + 1
        return f"Stage {stage.name} is at work, {place} of {len(run.stages)}"
    if run.reading is not None and not closed:
        return f"{run.reading.unit} are read"
    return "The run has ended" if closed else "The run begins"


def _lead(run: LiveRun, closed: bool, at: datetime) -> str:
    if run.began is None:
        return "No event has come yet."
    until = run.last_at if closed and run.last_at is not None else at
    said = f"Began {run.began:%Y-%m-%d %H:%M} UTC, {human_duration((until - run.began).total_seconds())} "
    left = None if closed else run.left_seconds()
    if left is None:
        return f"{said}{'in all' if closed else 'ago'}."
    return f"{said}ago; about {human_duration(left)} left."


def _curves(run: LiveRun) -> list[Markup]:
    def drawn(title: str) -> Markup:
        from stages.reporting.figures.live import curves_figure

        return twice(lambda width: curves_figure(title, run.curves[title], width=width), HALF_WIDTH)

    return list(map(drawn, run.curves))


def _probabilities(run: LiveRun) -> Markup | None:
    from stages.reporting.figures.live import distributions_figure

    layers = list(run.distributions.values())
    if not layers:
        return None
    return twice(lambda width: distributions_figure(layers, width=width), FULL_WIDTH)

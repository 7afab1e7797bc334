"""``nasflow latency check``: does a latency model still hold?"""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from nasflow.base.errors import InconclusiveError
from nasflow.cli.request import Outcome, Selection
from nasflow.cli.screen import screen
from nasflow.commands.latency_adapt import refuse_other_precision
from nasflow.commands.measured_model import latest_model, stage_of
from nasflow.commands.project import open_project
from pipeline.stage import Context
from pipeline.store.scratch import FleetingScratch
from stages.latency_model import FitLatency
from stages.profile_ops import ProfileOps

EXIT_CODES = {"holds": 0, "fails": 1, "inconclusive": InconclusiveError.exit_code}


def check_latency(selection: Selection, source: Path | None, *, networks: int, as_json: bool) -> Outcome:
    """Measure some networks again; exit code 1 where the model no longer holds, 3 where none can tell.

    ``source``: the file of a model that was measured on another device, say; None: this device's own.
    """
    from stages.latency.check import check_model, verdict
    from stages.latency.exchange import differences, read_latency_file

    project = open_project(selection)
    with closing(project.open_device()) as device, closing(screen(as_json=as_json)) as reporter:
        pipeline = project.pipeline(reporter, device)
        stage = stage_of(pipeline, FitLatency)
        profile = stage_of(pipeline, ProfileOps)
        if source is None:
            table, model = latest_model(pipeline)
        else:
            file = read_latency_file(source, stage.space, profile.anchor(), device.info())
            table, model = file.table, file.model
            refuse_other_precision(source, table, stage.runtime)
        changed = differences(table, model, device.info(), stage.runtime, output=profile.model_output)
        context = Context("latency", "", pipeline.store, FleetingScratch(), reporter)
        with pipeline.store.lock():
            found = check_model(
                model,
                stage.space,
                device,
                stage.config,
                stage.runtime,
                context,
                networks=networks,
                seed=stage.seed,
            )
    lines = [f"{'predicted ms':>13} {'then ms':>10} {'now ms':>10} {'change':>8}"]
    lines += [
        f"{n.predicted_ms:13.4f} {n.measured_then_ms:10.4f} {n.measured_now_ms:10.4f} "
        f"{n.change_percent:+7.1f}%"
        for n in found.networks
    ]
    since = "Changed since" if source is None else "Differs"
    lines += ["", *(f"{since}: {change}." for change in changed), verdict(found)]
    if found.outcome == "fails" and source is not None:
        lines.append(f"Adapt it to this device by a few networks: nasflow latency adapt {source}")
    elif found.outcome == "fails":
        lines.append("Measure the device again: nasflow latency --force profile")
    document = {**found.model_dump(mode="json"), "changed": list(changed)}
    return Outcome(document, "\n".join(lines), EXIT_CODES[found.outcome])

"""``nasflow verify``: the stage, or with a model file the gate that a team's CI calls."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from nasflow.cli.options import (
    AsJson,
    Config,
    Device,
    DryRun,
    Force,
    From,
    Front,
    FullLength,
    Offline,
    Seed,
    Set,
    selection,
)
from nasflow.cli.request import Action, StageName
from nasflow.commands.gate import gate, recompute
from nasflow.commands.gate_options import RESULT, GateOptions, ignored_options
from nasflow.commands.run import command as run_command


def command(
    context: typer.Context,
    candidate: Annotated[
        Path | None,
        typer.Argument(
            metavar="MODEL",
            help="A .tflite file or a finished run's folder; without one, the stage runs.",
            show_default=False,
        ),
    ] = None,
    against: Annotated[
        str | None,
        typer.Option(
            "--against",
            metavar="MODEL",
            help="What it is compared with: a file, a run's folder, mobilenet_v2 or mobilenet_v2:WIDTH.",
        ),
    ] = None,
    max_ratio: Annotated[
        float | None,
        typer.Option("--max-ratio", metavar="R", help="Pass up to R times the baseline's latency."),
    ] = None,
    max_ms: Annotated[
        float | None, typer.Option("--max-ms", metavar="T", help="Pass up to a latency of T ms.")
    ] = None,
    max_blocks: Annotated[
        int | None,
        typer.Option("--max-blocks", metavar="N", help="Measure up to N blocks; 30 where not given."),
    ] = None,
    result: Annotated[
        Path, typer.Option("--result", metavar="FILE", help="Where every timing and the verdict go.")
    ] = RESULT,
    junit: Annotated[
        Path | None, typer.Option("--junit", metavar="FILE", help="Write JUnit XML for a CI.")
    ] = None,
    summary: Annotated[
        Path | None,
        typer.Option("--summary", metavar="FILE", help='Add Markdown, as to "$GITHUB_STEP_SUMMARY".'),
    ] = None,
    history: Annotated[
        Path | None,
        typer.Option("--history", metavar="FILE", help="Add a line; 'nasflow history FILE' shows them."),
    ] = None,
    allow_inconclusive: Annotated[
        bool, typer.Option("--allow-inconclusive", help="Exit with 0 where no answer is clear.")
    ] = False,
    self_test: Annotated[
        bool,
        typer.Option(
            "--self-test", help="Compare a model with itself: how small a difference a gate here can show."
        ),
    ] = False,
    inputs: Annotated[
        Path | None,
        typer.Option(
            "--inputs",
            metavar="DIR",
            help="Compare the answers to these .npy files, and not to random inputs.",
        ),
    ] = None,
    require_outputs: Annotated[
        bool,
        typer.Option("--require-outputs", help="Refuse a device whose answers cannot be compared."),
    ] = False,
    max_accuracy_drop: Annotated[
        float | None,
        typer.Option(
            "--max-accuracy-drop", metavar="D", help="Pass if the accuracy is at most D points lower."
        ),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            "--data", metavar="FOLDER", help="Images: their test part is what both models are tested on."
        ),
    ] = None,
    mean: Annotated[
        str | None,
        typer.Option(
            "--mean",
            metavar="M",
            help="With --data, for a model whose metadata do not say it: it takes (pixel - M) / S. Of pixels "
            "0 to 255; one number, or one a channel: 123.675,116.28,103.53.",
        ),
    ] = None,
    std: Annotated[str | None, typer.Option("--std", metavar="S", help="See --mean.")] = None,
    all_phones: Annotated[
        bool, typer.Option("--all", help="With --device android: on every phone attached, one by one.")
    ] = False,
    side_by_side: Annotated[
        bool, typer.Option("--side-by-side", help="With --all: on all phones at once.")
    ] = False,
    recompute_file: Annotated[
        Path | None,
        typer.Option("--recompute", metavar="FILE", help="Reach the verdict of a result file again."),
    ] = None,
    device: Device = None,
    config: Config = None,
    assignments: Set = None,
    seed: Seed = None,
    from_stage: From = None,
    force: Force = None,
    offline: Offline = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
    front: Front = False,
    full_length: FullLength = False,
) -> Action:
    """Measure all networks side by side; with a model file: is it as fast as it should be?"""
    limits = {
        "max_ratio": max_ratio,
        "max_ms": max_ms,
        "max_blocks": max_blocks,
        "max_accuracy_drop": max_accuracy_drop,
    }
    options = GateOptions(
        candidate=candidate,
        against=against,
        limits={name: limit for name, limit in limits.items() if limit is not None},
        result=result,
        junit=junit,
        summary=summary,
        history=history,
        allow_inconclusive=allow_inconclusive,
        self_test=self_test,
        inputs=inputs,
        require_outputs=require_outputs,
        data=data,
        mean=mean,
        std=std,
        all_phones=all_phones,
        side_by_side=side_by_side,
    )
    if ignored := ignored_options(_typed(context), options, recompute=recompute_file is not None):
        raise typer.BadParameter(f"{ignored}.")
    if recompute_file is not None:
        return lambda: recompute(recompute_file, options)
    if candidate is None and not self_test:
        if options != GateOptions():
            raise typer.BadParameter("these options need a model: nasflow verify MODEL.tflite --against ...")
        return run_command(
            device=device,
            config=config,
            assignments=assignments,
            seed=seed,
            from_stage=from_stage,
            until=StageName.VERIFY,
            force=force,
            offline=offline,
            dry_run=dry_run,
            as_json=as_json,
            front=front,
            full_length=full_length,
        )
    if from_stage or force or dry_run or front or full_length:
        raise typer.BadParameter("--from, --force, --dry-run, --front and --full-length belong to the stage")
    chosen = selection(config, assignments, device, seed, offline=offline)
    return lambda: gate(chosen, options, as_json=as_json)


def _typed(context: typer.Context) -> list[tuple[str, str]]:
    """What was given on the command line: the name of each parameter, and how it is written."""
    return [
        (parameter.name, parameter.opts[0] if parameter.opts[0].startswith("-") else "MODEL")
        for parameter in context.command.params
        if parameter.name is not None
        and (source := context.get_parameter_source(parameter.name)) is not None
        and source.name == "COMMANDLINE"
    ]


def stage_command(stage: StageName) -> Callable[..., Action]:
    """The command of the stage ``verify``, which is the gate's, too."""
    assert stage is StageName.VERIFY
    return command

"""``nasflow doctor``: what was found, and how to mend what is wrong."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nasflow.base.errors import ConfigError, MachineError, NasflowError, NoUsableDeviceError, UsageError
from nasflow.base.files import expand_home
from nasflow.cli.options import AsJson, Config, Device, Offline
from nasflow.cli.request import Action, Outcome, Selection, as_yaml
from nasflow.commands.project import as_it_was_typed
from nasflow.config import PipelineConfig
from nasflow.doctor.checks import Check, examine_all
from pipeline.config.loader import FILE_NAME, find_config, load_config

if TYPE_CHECKING:
    from android_bench.bundle.recording import Recorder

_MARKS = {"ok": "ok", "warning": "warn", "failed": "FAIL"}


def examine(
    config: Path | None,
    device: str | None = None,
    *,
    offline: bool = False,
    bundle: Path | None = None,
    yes: bool = False,
) -> Outcome:
    """Run all checks, and where ``device``, or else the configuration's, is a phone, the way to it.

    ``bundle`` is a file to write what the phone answered into, with the person's leave (``yes``: given). The
    exit code is 8 where something on this computer has failed, 4 where only the phone has, else 0. Raises
    UsageError where ``device`` is none, and for a bundle without a phone or without leave.
    """
    chosen = Selection(config, device=device, offline=offline)
    if device is not None:
        try:
            load_config(PipelineConfig, None, [f"device={as_yaml(device)}"])
        except ConfigError as error:
            raise as_it_was_typed(error, chosen) from error
    bundle = None if bundle is None else expand_home(str(bundle))
    recorder = _allowed_recorder(bundle, chosen, yes=yes)
    checks = list(examine_all(config, Path.cwd(), chosen.overrides))
    here = sum(check.state == "failed" for check in checks)
    of_phone = list(_phone(chosen, recorder))
    checks += of_phone
    failed = sum(check.state == "failed" for check in checks)
    warnings = sum(check.state == "warning" for check in checks)
    exit_code = MachineError.exit_code if here else NoUsableDeviceError.exit_code if failed else 0
    written = None if recorder is None else _write_bundle(bundle, recorder, chosen, of_phone)
    return Outcome(
        document={
            "healthy": not failed,
            "failed": failed,
            "warnings": warnings,
            "checks": [asdict(check) for check in checks],
            "bundle": written,
            "exit_code": exit_code,
        },
        text="\n".join([*_lines(checks), "", _verdict(failed, warnings), *_about_bundle(written)]),
        exit_code=exit_code,
    )


def _allowed_recorder(bundle: Path | None, chosen: Selection, *, yes: bool) -> Recorder | None:
    """A recorder that the person has agreed to; None where none was asked for. Raises UsageError."""
    if bundle is None:
        return None
    from android_bench.bundle.recording import Recorder
    from nasflow.doctor.bundle import ask_leave, check_target

    _, settings = _settings(chosen)
    if not settings.device.startswith("android"):
        raise UsageError(
            f"--bundle records a phone, but the device is '{settings.device}'.",
            hint="Select a phone: nasflow doctor --device android --bundle FILE.",
        )
    check_target(bundle)
    ask_leave(bundle, given=yes)
    return Recorder()


def _write_bundle(
    bundle: Path | None, recorder: Recorder, chosen: Selection, checks: list[Check]
) -> dict[str, Any] | None:
    """Write it, also where checks have failed, or no phone was reached: that is what it is for."""
    if bundle is None:
        return None
    from nasflow.doctor.bundle import write_recorded

    _, settings = _settings(chosen)
    size = write_recorded(bundle, recorder, runtime=settings.runtime, info=recorder.info, checks=checks)
    return {
        "path": str(bundle),
        "size_bytes": size,
        "exchanges": len(recorder.exchanges),
        "reached": any(exchange.exit_code is not None for exchange in recorder.exchanges),
    }


def _about_bundle(written: dict[str, Any] | None) -> list[str]:
    if written is None:
        return []
    unreached = ["", "The phone was not reached: the bundle contains the attempts and their results."]
    return [
        *([] if written["reached"] else unreached),
        "",
        f"{written['path']} contains {written['exchanges']} exchanges with the phone "
        f"({written['size_bytes'] / 1000:.0f} kB). Check its content before you send it:",
        f"  python3 -m zipfile -e {shlex.quote(written['path'])} bundle && less bundle/CONTENTS.txt",
    ]


def _settings(chosen: Selection) -> tuple[Path | None, PipelineConfig]:
    """Where the configuration is, and what it says. Raises NasflowError."""
    path = chosen.config if chosen.config is not None else find_config(Path.cwd())
    return path, load_config(PipelineConfig, path, chosen.overrides)


def _phone(chosen: Selection, recorder: Recorder | None) -> Iterator[Check]:
    """What there is to say of the phone that is meant; nothing where none is."""
    try:
        path, settings = _settings(chosen)
    except NasflowError:  # a finding already
        if (chosen.device or "").startswith("android"):
            yield Check("phone", "failed", "not checked", "Fix the configuration first.")
        return
    if settings.device.startswith("android"):
        from nasflow.doctor.phone import examine_phone

        yield from examine_phone(settings, (path or Path.cwd() / FILE_NAME).absolute().parent, recorder)


def _lines(checks: list[Check]) -> list[str]:
    fine = [check for check in checks if check.name.startswith("package ") and check.state == "ok"]
    shown = [check for check in checks if check not in fine]
    if fine:
        last = max(index for index, check in enumerate(checks) if check.name.startswith("package "))
        index = sum(check in shown for check in checks[: last + 1])
        shown.insert(index, Check("packages", "ok", f"{len(fine)} in the ranges that nasflow requires"))
    width = max(len(check.name) for check in shown)
    lines: list[str] = []
    for check in shown:
        first, *more = check.found.splitlines()
        lines.append(f"{_MARKS[check.state]:<4}  {check.name:<{width}}  {first}")
        lines += [f"{'':<4}  {'':<{width}}  {line}" for line in more]
        if check.state != "ok" and check.mend:
            lines.append(f"{'':<4}  {'':<{width}}  -> {check.mend}")
    return lines


def _verdict(failed: int, warnings: int) -> str:
    noted = f" ({warnings} warning{'s' if warnings > 1 else ''})" if warnings else ""
    if failed:
        return f"{failed} of the checks failed{noted}: apply the suggested fixes, then run again."
    return f"Everything that nasflow needs is available{noted}."


Bundle = Annotated[
    Path | None,
    typer.Option(
        "--bundle", metavar="FILE", help="Write all that the phone returns into this zip file; asks first."
    ),
]
Yes = Annotated[bool, typer.Option("--yes", help="Agree to what --bundle records; do not ask.")]


def command(
    device: Device = None,
    config: Config = None,
    offline: Offline = False,
    bundle: Bundle = None,
    yes: Yes = False,
    as_json: AsJson = False,
) -> Action:
    """Check this computer (and a phone), and suggest fixes.

    With --bundle, what the phone returns in the checks and in a measurement of about a minute is written to
    a zip file, for a bug report: commands and what they print, exit codes, times. Serial numbers, names and
    addresses are replaced; CONTENTS.txt in it lists what is inside.
    """
    if yes and bundle is None:
        raise typer.BadParameter("--yes needs --bundle")

    return lambda: examine(config, device, offline=offline, bundle=bundle, yes=yes)

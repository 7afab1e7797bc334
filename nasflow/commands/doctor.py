"""``nasflow doctor``: what was found, and how to mend what is wrong."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from nasflow.assemble import PipelineConfig
from nasflow.commands.options import Outcome, Selection, as_yaml
from nasflow.commands.project import as_it_was_typed
from nasflow.doctor import Check, examine_all
from nasflow.errors import ConfigError, EnvironmentFault, NasflowError, NoUsableDevice
from pipeline.config import FILE_NAME, find_config, load_config

_MARKS = {"ok": "ok", "warning": "warn", "failed": "FAIL"}


def examine(config: Path | None, device: str | None = None, *, offline: bool = False) -> Outcome:
    """Run all checks, and where ``device``, or else the configuration's, is a phone, the way to it.

    The exit code is 8 where something on this computer has failed, 4 where only the phone has, else 0.
    Raises UsageError where ``device`` is none.
    """
    chosen = Selection(config, device=device, offline=offline)
    if device is not None:
        try:
            load_config(PipelineConfig, None, [f"device={as_yaml(device)}"])
        except ConfigError as error:
            raise as_it_was_typed(error, chosen) from error
    checks = list(examine_all(config, Path.cwd(), chosen.overrides))
    here = sum(check.state == "failed" for check in checks)
    checks += _phone(chosen)
    failed = sum(check.state == "failed" for check in checks)
    warnings = sum(check.state == "warning" for check in checks)
    exit_code = EnvironmentFault.exit_code if here else NoUsableDevice.exit_code if failed else 0
    return Outcome(
        document={
            "healthy": not failed,
            "failed": failed,
            "warnings": warnings,
            "checks": [asdict(check) for check in checks],
            "exit_code": exit_code,
        },
        text="\n".join([*_lines(checks), "", _verdict(failed, warnings)]),
        exit_code=exit_code,
    )


def _phone(chosen: Selection) -> Iterator[Check]:
    """What there is to say of the phone that is meant; nothing where none is."""
    path = chosen.config if chosen.config is not None else find_config(Path.cwd())
    try:
        settings = load_config(PipelineConfig, path, chosen.overrides)
    except NasflowError:  # a finding already
        if (chosen.device or "").startswith("android"):
            yield Check("phone", "failed", "not looked at", "Mend the configuration first.")
        return
    if settings.device.startswith("android"):
        from nasflow.doctor_phone import examine_phone

        yield from examine_phone(settings, (path or Path.cwd() / FILE_NAME).absolute().parent)


def _lines(checks: list[Check]) -> list[str]:
    fine = [check for check in checks if check.name.startswith("package ") and check.state == "ok"]
    shown = [check for check in checks if check not in fine]
    if fine:
        last = max(place for place, check in enumerate(checks) if check.name.startswith("package "))
        place = sum(check in shown for check in checks[: last + 1])
        shown.insert(place, Check("packages", "ok", f"{len(fine)} in the ranges that nasflow asks for"))
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
    noted = f" ({warnings} worth a look)" if warnings else ""
    if failed:
        return f"{failed} of the checks failed{noted}: mend what stands behind each arrow, then run again."
    return f"Everything that nasflow needs is here{noted}."

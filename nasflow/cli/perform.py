"""From a command to an exit code: do it, tell its outcome, or turn its error into one line."""

from __future__ import annotations

import signal
from collections.abc import Callable

from nasflow.base.errors import NasflowError, RunInterruptedError
from nasflow.cli import console
from nasflow.cli.request import Action
from pipeline import signals


def perform(read: Callable[[], Action | int], command: str, *, as_json: bool) -> int:
    """Do what ``read`` returns and tell its outcome, or the error; return the exit code.

    ``command`` is what was typed: it is named where an interruption came before any work.
    """
    with console.reserved_stdout(as_json) as stdout:
        try:
            action = read()
            if isinstance(action, int):
                return action
            with signals.interruptible():
                outcome = action()
            if as_json:
                console.write_json(stdout, outcome.document)
            elif outcome.text:
                console.write(stdout, outcome.text)
        except NasflowError as error:
            return console.report_error(error, stdout, as_json=as_json)
        except KeyboardInterrupt:
            stopped = RunInterruptedError(
                "Interrupted.",
                signal_number=signal.SIGINT,
                hint=f"Nothing was lost. Continue with: {command}",
            )
            return console.report_error(stopped, stdout, as_json=as_json)
        except Exception as error:  # noqa: BLE001 - the boundary: what is left is told, with its traceback
            known = None
            if isinstance(error, OSError):
                known = console.environment_fault(error)
            elif isinstance(error, ModuleNotFoundError):
                known = console.missing_package(error)
            if known is not None:
                return console.report_error(known, stdout, as_json=as_json)
            return console.report_bug(error, stdout, as_json=as_json)
        return outcome.exit_code

"""Curves for TensorBoard: one event file a run."""

from __future__ import annotations

import re
import sys
import time
from pathlib import Path
from types import ModuleType

from nasflow.base.errors import MachineError
from pipeline.events import Event, Metric


class TensorBoardReporter:
    """Writes every metric into ``folder``. Raises MachineError where TensorBoard is not installed.

    ``tensorboard --logdir artifacts/runs`` shows all runs.
    """

    def __init__(self, folder: Path) -> None:
        # TensorBoard imports TensorFlow where that is installed, which takes seconds; this tells it not to.
        sys.modules.setdefault("tensorboard.compat.notf", ModuleType("notf"))
        try:
            from tensorboard.summary.writer.event_file_writer import (  # type: ignore[import-untyped]
                EventFileWriter,
            )
        except ImportError as error:
            raise MachineError(
                "training.tensorboard is true, but TensorBoard is not installed.",
                hint="Install it (pip install tensorboard), or set training.tensorboard to false.",
            ) from error
        self._writer = EventFileWriter(str(folder))

    def __call__(self, event: Event) -> None:
        """Keep one point of a curve."""
        if not isinstance(event, Metric):
            return
        from tensorboard.compat.proto.event_pb2 import Event as Record  # type: ignore[import-untyped]
        from tensorboard.compat.proto.summary_pb2 import Summary  # type: ignore[import-untyped]

        tag = re.sub(r"[^\w./%-]+", "_", f"{event.stage}/{event.name}")
        summary = Summary(value=[Summary.Value(tag=tag, simple_value=event.value)])
        self._writer.add_event(Record(wall_time=time.time(), step=event.step, summary=summary))

    def close(self) -> None:
        """Finish the file. May be called twice."""
        self._writer.close()

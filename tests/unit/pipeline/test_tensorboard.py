"""Curves for TensorBoard, without TensorFlow."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("tensorboard")

CODE = """
import sys
from pathlib import Path
from pipeline.events import Message, Metric
from pipeline.reporters.tensorboard import TensorBoardReporter

reporter = TensorBoardReporter(Path(sys.argv[1]))
for step, value in enumerate([10.0, 20.0]):
    reporter(Metric("finetune", "found validation accuracy %", value, step))
reporter(Message("finetune", "not a metric"))
reporter.close()
reporter.close()
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

(file,) = Path(sys.argv[1]).iterdir()
for event in EventFileLoader(str(file)).Load():
    for value in event.summary.value:
        print(event.step, value.tag, round(value.tensor.float_val[0], 3))
print("tensorflow" in sys.modules)
"""


def test_each_metric_is_a_point_of_a_curve_and_tensorflow_is_not_loaded(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", CODE, str(tmp_path)], capture_output=True, text=True, check=True
    )
    tag = "finetune/found_validation_accuracy_%"
    assert done.stdout.splitlines() == [f"0 {tag} 10.0", f"1 {tag} 20.0", "False"]

"""The child process that holds TensorFlow: ``python -P -m stages.conversion.tensorflow_worker FOLDER``.

Reads one request for each line of standard input, ``{"onnx": PATH, "depthwise": [NAME, ...], "split": [PLACE,
...]}`` (see :func:`stages.conversion.rewrite.simplify`), with ``"tflite": PATH``, where the model is to be
written, or with ``"images": PATH, "answers": PATH`` (NumPy's files), where TensorFlow's answers are. Answers
with one line, ``{}`` or ``{"error": {"kind", "message", "hint"}}``. What TensorFlow itself has to say goes to
standard error. Ends with its standard input, so that it never outlives its parent for long. A parent kills it
before: one whose input ends has lost its parent, and removes ``FOLDER``, which holds its files.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from nasflow.base.errors import ConversionError, MachineError
from nasflow.base.files import disk_faults


def main() -> None:
    """Serve requests until standard input ends."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # anything that TensorFlow prints must not look like an answer
    import stages.conversion.to_tensorflow  # noqa: F401  # takes seconds: load it before the first request

    for line in sys.stdin:
        with suppress(BrokenPipeError):  # nobody is left to read it
            print(json.dumps(answer(json.loads(line))), file=answers, flush=True)
    shutil.rmtree(sys.argv[1], ignore_errors=True)


def answer(request: dict[str, Any]) -> dict[str, Any]:
    """Convert or run one model. What the user can mend becomes an answer, anything else ends the process."""
    from stages.conversion.onnx_graph import read_graph
    from stages.conversion.rewrite import simplify
    from stages.conversion.to_tensorflow import answers, to_tflite

    try:
        graph = read_graph(Path(request["onnx"]).read_bytes())
        simple = simplify(graph, request["depthwise"], request["split"])
        if "tflite" in request:
            target, model = Path(request["tflite"]), to_tflite(simple)
            with disk_faults(target, "write"):
                target.write_bytes(model)
        else:
            target, answers_NK = Path(request["answers"]), answers(simple, np.load(request["images"]))
            with disk_faults(target, "write"):
                np.save(target, answers_NK)
    except (ConversionError, MachineError) as error:
        return {"error": {"kind": type(error).__name__, "message": error.message, "hint": error.hint}}
    return {}


if __name__ == "__main__":
    main()

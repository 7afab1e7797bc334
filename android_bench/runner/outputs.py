"""What ``benchmark_model`` answers on a phone: the classic tool writes it to a file, LiteRT's cannot.

Source: ``tensorflow/lite/tools/benchmark/benchmark_tflite_model.cc``. ``--input_layer_value_files`` gives
each input a file with the bytes of its tensor, of exactly its size (``LoadInputTensorData``), and needs
``--input_layer`` and ``--input_layer_shape``, as many as the model has inputs (``PopulateInputLayerInfo``).
Their names are only warned of where they are others than the model's, so inputs are called by their index
here: no name out of a model file reaches a command line. ``--output_filepath`` gets the memory of all output
tensors, one after the other, after the last run (``OutputSaver``).
"""

from __future__ import annotations

from collections.abc import Sequence

from android_bench.device import RuntimeOptions
from android_bench.outputs import Example
from android_bench.runner.delegates import DELEGATES
from android_bench.runner.failure import run_failed
from android_bench.runner.identity import HINT_RUNNER, RunnerTool
from android_bench.runner.output import parse_output
from android_bench.transport import Completed
from nasflow.base.errors import BadMeasurementError

MAX_SECONDS = 150.0
"""One run of a model ends long before."""

_FLAGS = frozenset({"input_layer", "input_layer_shape", "input_layer_value_files", "output_filepath"})


def writes_outputs(tool: RunnerTool, example: Example) -> bool:
    """Whether this tool can be given such inputs, and writes what the model answers to them.

    The shape of a single value has no way to be written in ``--input_layer_shape``.
    """
    return tool.flags >= _FLAGS and all(values.shape for values in example)


def outputs_command(
    tool: RunnerTool,
    options: RuntimeOptions,
    *,
    binary: str,
    model: str,
    example: Example,
    files: Sequence[str],
    output: str,
    mask: int | None = None,
) -> tuple[str, ...]:
    """The words that compute one example once; ``files`` are the paths of its inputs on the phone."""
    names = [str(index) for index in range(len(files))]
    flags = {
        "graph": model,
        "num_threads": str(options.threads),
        "warmup_runs": "1",
        "warmup_min_secs": "0",
        "num_runs": "1",
        "min_secs": "0",
        "input_layer": ",".join(names),
        "input_layer_shape": ":".join(",".join(map(str, values.shape)) for values in example),
        "input_layer_value_files": ",".join(f"{n}:{file}" for n, file in zip(names, files, strict=True)),
        "output_filepath": output,
    }
    flags |= DELEGATES[options.delegate].asked(tool.kind)
    prefix = () if mask is None else ("taskset", f"{mask:x}")
    return (*prefix, binary, *(f"--{name}={value}" for name, value in flags.items()))


def check_outputs_run(tool: RunnerTool, completed: Completed, options: RuntimeOptions, name: str) -> None:
    """Raises DeviceError where the tool failed, BadMeasurementError where it did not do what was asked."""
    if completed.exit_code != 0:
        raise run_failed(completed, name, accelerator=DELEGATES[options.delegate].accelerator)
    output = parse_output(completed.stdout, completed.stderr)
    if output.unknown_flags:
        raise BadMeasurementError(
            f"benchmark_model ignored the flags {output.unknown_flags[:200]}.", hint=HINT_RUNNER
        )
    DELEGATES[options.delegate].check(tool.kind, output.delegations)

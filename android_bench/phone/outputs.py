"""What a model answers on a phone, for given inputs: computed once each, and read back."""

from __future__ import annotations

import hashlib

from android_bench.device import RuntimeOptions
from android_bench.outputs import Example
from android_bench.phone.remote_files import RemoteFiles, remote_path
from android_bench.phone.tool import PhoneTool
from android_bench.runner.outputs import MAX_SECONDS, check_outputs_run, outputs_command
from android_bench.transport import Transport

MODEL_SUFFIX, INPUT_SUFFIX, OUTPUT_SUFFIX = ".tflite", ".in", ".out"


def answer_on_phone(
    transport: Transport,
    files: RemoteFiles,
    tool: PhoneTool,
    model: bytes,
    example: Example,
    options: RuntimeOptions,
    mask: int | None,
) -> bytes:
    """The bytes of all outputs, one after the other. Nothing of it is timed.

    May be done twice. Raises DeviceError, DeviceLostError.
    """
    path = files.put(model, suffix=MODEL_SUFFIX)
    inputs = [files.put(values.tobytes(), suffix=INPUT_SUFFIX) for values in example]
    answer = hashlib.sha256(model).hexdigest() + OUTPUT_SUFFIX
    files.remove([answer])  # an old one must not be read
    words = outputs_command(
        tool.tool,
        options,
        binary=tool.path,
        model=path,
        example=example,
        files=inputs,
        output=remote_path(answer),
        mask=mask,
    )
    done = transport.run(words, timeout_s=MAX_SECONDS)
    check_outputs_run(tool.tool, done, options, "the model")
    return files.read(answer)

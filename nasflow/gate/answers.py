"""Before anything is timed: do both models answer with numbers, and the device with the same ones?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from android_bench.device import Device, RuntimeOptions
from android_bench.local.device import LocalDevice
from android_bench.outputs import NUMBERS, Example, Outputs, WritesOutputs
from nasflow.base.errors import ConversionError, DeviceError, UsageError
from nasflow.base.text import plain_line
from nasflow.gate.inputs import given_examples, random_examples
from nasflow.gate.subjects import Subject
from stages.conversion.inspector import ModelInspector
from stages.verification.same_answers import check_finite, compare_answers

if TYPE_CHECKING:
    from stages.documents.gate import OutputsCompared

SEED = 0
NOT_COMPARED = "outputs not compared on the device"


def answers_compared(
    candidate: Subject,
    baseline: Subject,
    device: Device,
    options: RuntimeOptions,
    *,
    folder: Path | None,
    required: bool,
    tell: Callable[[str], None],
) -> OutputsCompared | None:
    """What the candidate's answers on the device differ by from this computer's; None: not compared.

    ``folder``: of a person's inputs (:func:`given_examples`), which the baseline is given, too, where it
    takes such. Raises ConversionError where a model answers with NaN or infinity, or the device differently;
    UsageError where ``required`` and the answers cannot be compared, and for inputs that do not fit.
    """
    given = None if folder is None else given_examples(folder, candidate.seen)
    examples = given or random_examples(candidate.seen, SEED)
    here = _here(candidate, examples, device.info().kind)
    if here is not None:
        check_finite(candidate.name, here.numbers(), given=given is not None)
    if baseline.content != candidate.content:
        same = candidate.takes == baseline.takes
        its = examples if same else random_examples(baseline.seen, SEED)
        known = _here(baseline, its, device.info().kind)
        if known is not None:
            check_finite(baseline.name, known.numbers(), given=given is not None and same)
    why, there = "", None
    if here is None or examples is None:
        why = f"this computer cannot compute {candidate.name}"
    elif not isinstance(device, WritesOutputs):
        why = "this device only tells times"
    else:
        there = device.output_bytes(candidate.content, examples, options)
        why = f"the phone's benchmark_model ({plain_line(device.info().runtime)}) cannot write them"
    if here is not None and there is not None:
        return compare_answers(candidate.name, here, there, options, given=given is not None)
    if required:
        raise UsageError(
            f"{NOT_COMPARED}: {why}.",
            hint="The classic benchmark_model of TensorFlow Lite writes them: name one with android.runner. "
            "Or leave --require-outputs out.",
        )
    tell(f"{NOT_COMPARED}: {why}.")
    return None


def _here(subject: Subject, examples: Sequence[Example] | None, kind: str) -> Outputs | None:
    """This computer's answers, by LiteRT's own kernels; None where it cannot compute the model.

    A model that is measured here has to run here, and has done so in a process with limits. One for a phone
    may need what only its runtime has, and is tried in such a process first.
    """
    types = {tensor.type for tensor in subject.seen.outputs}
    if examples is None or not types <= NUMBERS:
        return None
    if kind != "local":
        try:
            with ModelInspector() as inspector:
                inspector.inspect(subject.content, name=subject.name, depth="invoke")
        except ConversionError:
            return None
    with LocalDevice() as computer:
        try:
            return computer.outputs(subject.content, examples, plain=True, name=subject.name)
        except DeviceError:
            if kind == "local":
                raise
            return None

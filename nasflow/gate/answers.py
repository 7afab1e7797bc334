"""Before anything is timed: do both models answer with numbers, and the device with the same ones?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Answers:
    """What each model's answers on the device differ by from this computer's; None: not compared."""

    candidate: OutputsCompared | None
    baseline: OutputsCompared | None


def answers_compared(
    candidate: Subject,
    baseline: Subject | None,
    device: Device,
    options: RuntimeOptions,
    *,
    folder: Path | None,
    required: bool,
    tell: Callable[[str], None],
) -> Answers:
    """Both models' answers on the device, held against this computer's.

    A baseline that is computed wrongly there makes no ratio either. ``folder``: of a person's inputs
    (:func:`given_examples`), which the baseline is given, too, where it takes such. Raises ConversionError
    where a model answers with NaN or infinity, or the device differently; UsageError where ``required`` and
    the answers cannot be compared, and for inputs that do not fit.
    """
    given = None if folder is None else given_examples(folder, candidate.seen)
    comparison = _Comparison(device, options, required=required, tell=tell)
    examples = given or random_examples(candidate.seen, SEED)
    computed = [comparison.here(candidate, examples, given=given is not None)]
    if baseline is not None and baseline.content != candidate.content:
        same = candidate.takes == baseline.takes
        its = examples if same else random_examples(baseline.seen, SEED)
        computed.append(comparison.here(baseline, its, given=given is not None and same))
    # Both are known to answer with numbers before a phone is asked for anything.
    found = [comparison.there(one) for one in computed]
    return Answers(found[0], None if baseline is None else found[-1])


@dataclass(frozen=True)
class _Computed:
    """A model's answers to some examples on this computer; None: it cannot compute them."""

    subject: Subject
    examples: Sequence[Example] | None
    outputs: Outputs | None
    given: bool


@dataclass(frozen=True)
class _Comparison:
    """How answers are compared with those of a device."""

    device: Device
    options: RuntimeOptions
    required: bool
    tell: Callable[[str], None]

    def here(self, subject: Subject, examples: Sequence[Example] | None, *, given: bool) -> _Computed:
        """Raises ConversionError where an answer is NaN or infinite."""
        outputs = _here(subject, examples, self.device.info().kind)
        if outputs is not None:
            check_finite(subject.name, outputs.numbers(), given=given)
        return _Computed(subject, examples, outputs, given)

    def there(self, computed: _Computed) -> OutputsCompared | None:
        """Raises as :func:`answers_compared`."""
        subject, why, there = computed.subject, "", None
        if computed.outputs is None or computed.examples is None:
            why = f"this computer cannot compute {subject.name}"
        elif not isinstance(self.device, WritesOutputs):
            why = "this device only tells times"
        else:
            there = self.device.output_bytes(subject.content, computed.examples, self.options)
            why = f"the phone's benchmark_model ({plain_line(self.device.info().runtime)}) cannot write them"
        if computed.outputs is not None and there is not None:
            return compare_answers(subject.name, computed.outputs, there, self.options, given=computed.given)
        if self.required:
            raise UsageError(
                f"{NOT_COMPARED}: {why}.",
                hint="The classic benchmark_model of TensorFlow Lite writes them: name one with "
                "android.runner. Or leave --require-outputs out.",
            )
        self.tell(f"{NOT_COMPARED}: {why}.")
        return None


def _here(subject: Subject, examples: Sequence[Example] | None, kind: str) -> Outputs | None:
    """This computer's answers, by LiteRT's own kernels; None where it cannot compute the model.

    A model that is measured on this computer has run here in a process with limits. One for a phone may need
    what only its runtime has, and is tried in such a process first.
    """
    types = {tensor.type for tensor in subject.seen.outputs}
    if examples is None or not types <= NUMBERS:
        return None
    if kind == "android":
        try:
            with ModelInspector() as inspector:
                inspector.inspect(subject.content, name=subject.name, depth="invoke")
        except ConversionError:
            return None
    with LocalDevice() as computer:
        try:
            return computer.outputs(subject.content, examples, plain=True, name=subject.name)
        except DeviceError:
            if kind == "android":
                return None
            raise

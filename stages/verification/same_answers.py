"""Whether a model answers on a device what it answers on this computer.

The answers of this computer are those of LiteRT's own kernels, without XNNPACK: other code than a phone
runs. Two correct computations differ by rounding. Measured with random inputs over 23 models (MobileNetV2s
at 32 to 224 pixels, seven models of MediaPipe, float16 and int8 files), on x86-64, XNNPACK beside LiteRT's
own kernels: at most 6.5e-6 of the largest output of a float model, and 0.11 of an int8 one (the scale of its
activations times hundreds of layers). A device that computes something else is far beyond either.
"""

from __future__ import annotations

from collections.abc import Sequence

from android_bench.device import RuntimeOptions
from android_bench.outputs import Outputs
from nasflow.base.errors import ConversionError
from stages.documents.gate import OutputsCompared

FLOAT_SHARE, HALF_SHARE, QUANTIZED_SHARE = 1e-3, 0.05, 0.25
"""Of an output's largest value: in float32, on a GPU (whose driver may take float16), and in 8 bits."""


def check_finite(name: str, numbers: Sequence[object], *, given: bool) -> None:
    """Raises ConversionError where an output is NaN or infinite; ``numbers``: (examples, elements) each."""
    import numpy as np

    for index, values in enumerate(numbers):
        bad_N = ~np.isfinite(np.asarray(values)).all(axis=1)
        if bad_N.any():
            raise ConversionError(
                f"{name} answers with NaN or infinity for {int(bad_N.sum())} of {len(bad_N)} inputs "
                f"(output {index}, first: input {int(bad_N.argmax())}).",
                hint="Convert or train it again."
                if given
                else "The inputs were random: if the model needs others, give them: --inputs FOLDER.",
            )


def allowed_share(here: Outputs, options: RuntimeOptions) -> float:
    """By which share of an output's largest value a device may differ."""
    if here.quantized:
        return QUANTIZED_SHARE
    return FLOAT_SHARE if options.delegate == "cpu" else HALF_SHARE


def compare_answers(
    name: str, here: Outputs, there: Sequence[bytes], options: RuntimeOptions, *, given: bool
) -> OutputsCompared:
    """What the device's answers differ by from this computer's, for the same examples.

    ``given``: a person's inputs, and no random ones. Raises ConversionError for answers that differ, that are
    NaN or infinite, or of another size.
    """
    import numpy as np

    if wrong := [len(one) for one in there if len(one) != here.size_bytes]:
        raise ConversionError(
            f"{name} answers on the device with {wrong[0]} bytes, and here with {here.size_bytes}.",
            hint="The device's runtime computes another graph: update it, or convert the model again.",
        )
    expected, found = here.numbers(), here.numbers(there)
    check_finite(f"{name} on the device", found, given=given)
    allowed, largest = allowed_share(here, options), 0.0
    for index, (wanted, seen) in enumerate(zip(expected, found, strict=True)):
        scale = float(np.abs(wanted).max(initial=0.0))
        difference_N = np.abs(seen - wanted).max(axis=1, initial=0.0)
        share = float(difference_N.max()) / scale if scale > 0 else float(difference_N.any())
        if share > allowed:
            raise ConversionError(
                f"{name} answers differently on the device: output {index} differs by up to "
                f"{difference_N.max():.3g} for input {int(difference_N.argmax())}, which is {share:.3g} of "
                f"its largest value {scale:.3g} (allowed: {allowed:g}).",
                hint="The device computes something else than this computer: try runtime.delegate cpu, "
                "another runner, or convert the model again.",
            )
        largest = max(largest, share)
    return OutputsCompared(inputs=len(there), given=given, largest_share=largest, allowed_share=allowed)

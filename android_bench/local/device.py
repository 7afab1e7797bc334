"""This computer as a device: LiteRT in a process of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar

from android_bench.device import DEFAULT_OPTIONS, DeviceInfo, RuntimeOptions
from android_bench.local.host import local_info
from android_bench.local.worker_device import WorkerDevice
from android_bench.outputs import NUMBERS, Example, Outputs, OutputTensor
from nasflow.base.errors import DeviceError


class LocalDevice(WorkerDevice):
    """Runs `.tflite` models on this computer's CPU with LiteRT."""

    engine: ClassVar[str] = "LiteRT"
    program: ClassVar[tuple[str, ...]] = ("-m", "android_bench.local.litert_worker")

    def info(self) -> DeviceInfo:
        """This computer; starts nothing. Raises NoUsableDeviceError where LiteRT is not installed."""
        return local_info()

    def outputs(
        self,
        model: bytes,
        examples: Sequence[Example],
        options: RuntimeOptions = DEFAULT_OPTIONS,
        *,
        plain: bool = False,
        name: str = "the given model",
    ) -> Outputs:
        """What the model answers to each example, of which there is one at least.

        ``plain``: computed by LiteRT's own kernels, without XNNPACK. Raises DeviceError.
        """
        found = []
        further = {"plain": True} if plain else {}
        for example in examples:
            about = [{"shape": values.shape, "type": str(values.dtype)} for values in example]
            question = {"op": "outputs", "inputs": about}
            payload = b"".join(values.tobytes() for values in example)
            reply, values = self._ask(
                name, model, options, question, payload, self.timeout_seconds, **further
            )
            found.append(_outputs(reply, values))
        if {(one.tensors, one.quantized) for one in found} != {(found[0].tensors, found[0].quantized)}:
            raise DeviceError(f"{name} answers with other shapes from one input to the next.")
        return replace(found[0], values=tuple(one.values[0] for one in found))

    def output_bytes(
        self, model: bytes, examples: Sequence[Example], options: RuntimeOptions
    ) -> list[bytes] | None:
        """The outputs' bytes for each example. Raises DeviceError."""
        return list(self.outputs(model, examples, options).values)


def _outputs(reply: dict[str, Any], payload: bytes) -> Outputs:
    """One example's outputs in the worker's answer. Raises DeviceError where they do not fit together."""
    try:
        tensors = tuple(
            OutputTensor(
                tuple(map(int, one["shape"])), str(one["type"]), float(one["scale"]), int(one["zero"])
            )
            for one in reply["outputs"]
        )
        quantized = bool(reply["quantized"])
    except (KeyError, TypeError, ValueError) as error:
        raise DeviceError(f"the LiteRT process described outputs as {str(reply)[:80]}.") from error
    if not all(one.type in NUMBERS and min(one.shape, default=0) >= 0 for one in tensors):
        raise DeviceError("the LiteRT process answered with outputs that are no numbers.")
    if len(payload) != sum(one.size_bytes for one in tensors):
        raise DeviceError(
            f"the LiteRT process answered with {len(payload)} bytes for {len(tensors)} outputs."
        )
    return Outputs(tensors, quantized, (payload,))

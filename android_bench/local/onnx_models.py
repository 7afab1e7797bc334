"""What runtimes have in common that take ONNX models in the place of `.tflite` files."""

from __future__ import annotations

from abc import ABC
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from android_bench.device import DEFAULT_OPTIONS, RuntimeOptions
from android_bench.local.worker_device import WorkerDevice

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Translate = Callable[[bytes, str], bytes]
"""The ONNX model of a `.tflite` file and its name. Raises UsageError where it cannot be translated."""


class OnnxModelDevice(WorkerDevice, ABC):
    """A worker process that is given ONNX models.

    It is given `.tflite` files, as every device is, and ``translate`` makes an ONNX model of each. Images and
    maps of features cross this class as NHWC, although the runtime has them as NCHW.
    """

    def __init__(self, translate: Translate, *, timeout_seconds: float = 120.0) -> None:
        super().__init__(timeout_seconds=timeout_seconds)
        self._translate = translate

    def translated(self, model: bytes, name: str) -> bytes:
        """The ONNX model of a `.tflite` file."""
        return self._translate(model, name)

    def run_model(
        self,
        model: bytes,
        inputs_NHWC: NDArray[Any],
        options: RuntimeOptions = DEFAULT_OPTIONS,
    ) -> NDArray[np.float32]:
        """Outputs (N, ...) of a model with batch size 1, image by image. Raises DeviceError, UsageError."""
        inputs = inputs_NHWC.transpose(0, 3, 1, 2) if inputs_NHWC.ndim == 4 else inputs_NHWC
        outputs = super().run_model(model, inputs, options)
        return outputs.transpose(0, 2, 3, 1) if outputs.ndim == 4 else outputs

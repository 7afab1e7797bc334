"""This computer as a device: ONNX Runtime in a process of its own."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any, ClassVar

from android_bench.device import DEFAULT_OPTIONS, DeviceInfo, RuntimeOptions
from android_bench.local.host import this_computer
from android_bench.local.worker_device import WorkerDevice
from nasflow.base.errors import UsageError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

PACKAGE = "onnxruntime"


class OnnxRuntimeDevice(WorkerDevice):
    """Runs models on this computer's CPU with ONNX Runtime's CPU provider.

    It is given `.tflite` files, as every device is. ``translate`` makes an ONNX model of one, and raises
    UsageError where it holds what cannot be translated. Images and maps of features cross this class as NHWC,
    although the runtime has them as NCHW.
    """

    engine: ClassVar[str] = "ONNX Runtime"
    program: ClassVar[tuple[str, ...]] = ("-m", "android_bench.local.onnx_worker")

    def __init__(self, translate: Callable[[bytes, str], bytes], *, timeout_seconds: float = 120.0) -> None:
        super().__init__(timeout_seconds=timeout_seconds)
        self._translate = translate

    def info(self) -> DeviceInfo:
        """This computer; starts nothing. Raises UsageError where ONNX Runtime is not installed."""
        try:
            runtime = f"{PACKAGE} {version(PACKAGE)}"
        except PackageNotFoundError:
            raise UsageError(
                "the device onnxruntime needs the package onnxruntime, which is not installed.",
                hint="Install it: pip install 'nasflow[onnxruntime]'.",
            ) from None
        return this_computer(runtime)

    def translated(self, model: bytes, name: str) -> bytes:
        """The ONNX model of a `.tflite` file."""
        return self._translate(model, name)

    def refuse(self, options: RuntimeOptions) -> None:
        """Raises UsageError for what only phones can do, and for models that are not in float32."""
        super().refuse(options)
        if options.precision != "float32":
            raise UsageError(
                f"the device onnxruntime runs float32 models; runtime.precision is {options.precision}.",
                hint="Remove runtime.precision, or choose --device local.",
            )

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

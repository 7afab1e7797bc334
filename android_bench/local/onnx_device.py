"""This computer as a device: ONNX Runtime in a process of its own."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import ClassVar

from android_bench.device import DeviceInfo, RuntimeOptions
from android_bench.local.host import this_computer
from android_bench.local.onnx_models import OnnxModelDevice
from nasflow.base.errors import UsageError

PACKAGE = "onnxruntime"


def is_onnx(model: bytes) -> bool:
    """Whether a file is an ONNX model: it begins with its first field, the format's version.

    A `.tflite` file has its identifier behind four bytes, which may be anything.
    """
    return model[:1] == b"\x08" and model[4:8] != b"TFL3"


class OnnxRuntimeDevice(OnnxModelDevice):
    """Runs models on this computer's CPU with ONNX Runtime's CPU provider.

    It is given ONNX models, or `.tflite` files, as every device is.
    """

    engine: ClassVar[str] = "ONNX Runtime"
    program: ClassVar[tuple[str, ...]] = ("-m", "android_bench.local.onnx_worker")

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
        """The ONNX model of a `.tflite` file; an ONNX model as it is."""
        return model if is_onnx(model) else super().translated(model, name)

    def refuse(self, options: RuntimeOptions) -> None:
        """Raises UsageError for what only phones can do, and for models that are not in float32."""
        super().refuse(options)
        if options.precision != "float32":
            raise UsageError(
                f"the device onnxruntime runs float32 models; runtime.precision is {options.precision}. "
                "A network is quantized for LiteRT, after its ONNX model, which stays in float32.",
                hint="Remove runtime.precision, or choose --device local, which runs other precisions.",
            )

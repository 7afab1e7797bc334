"""This computer as a device: ONNX Runtime in a process of its own."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import ClassVar

from android_bench.device import DeviceInfo, RuntimeOptions
from android_bench.local.host import this_computer
from android_bench.local.onnx_models import OnnxModelDevice
from nasflow.base.errors import UsageError

PACKAGE = "onnxruntime"


class OnnxRuntimeDevice(OnnxModelDevice):
    """Runs models on this computer's CPU with ONNX Runtime's CPU provider."""

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

    def refuse(self, options: RuntimeOptions) -> None:
        """Raises UsageError for what only phones can do, and for models that are not in float32."""
        super().refuse(options)
        if options.precision != "float32":
            raise UsageError(
                f"the device onnxruntime runs float32 models; runtime.precision is {options.precision}.",
                hint="Remove runtime.precision, or choose --device local.",
            )

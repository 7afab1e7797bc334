"""The process in which this computer runs ONNX models: ``python -m android_bench.local.onnx_worker``.

It answers the requests of :mod:`android_bench.local.serving` with ONNX Runtime. The one option is
``threads``: so many compute inside an operator, and one operator is computed after the other. Input and
output are bound once: an invocation copies neither.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from android_bench.local.inputs import INPUT_SEED, made_up
from android_bench.local.serving import ModelError, Operation, serve_models
from android_bench.local.timing import thread_clock

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

PROVIDER = "CPUExecutionProvider"
_FATAL_ONLY = 4  # ONNX Runtime's severity: its warnings about a graph are no errors of ours


@dataclass(frozen=True)
class OnnxModel:
    """A session whose one input is bound to memory that holds the made-up numbers."""

    session: Any
    binding: Any
    memory: Any  # what is bound; the session does not keep it alive
    input_name: str
    output_names: tuple[str, ...]
    shape: tuple[int, ...]

    @property
    def invoke(self) -> Callable[[], object]:
        """The session's own call, on what is bound."""
        return partial(self.session.run_with_iobinding, self.binding)

    def run(self, inputs: NDArray[Any]) -> NDArray[np.float32]:
        """Outputs (N, ...) for inputs (N, ...), one invocation for each; what is bound stays as it is.

        Raises ModelError, and what ONNX Runtime raises.
        """
        import numpy as np

        expected = (1, *inputs.shape[1:])
        if self.shape != expected or inputs.dtype != np.float32:
            raise ModelError(f"the model takes float32 {self.shape}; the input is {inputs.dtype} {expected}")
        if len(self.output_names) != 1:
            raise ModelError(f"the model has {len(self.output_names)} outputs, and not one")
        answers = []
        for one in inputs:
            found = self.session.run(self.output_names, {self.input_name: one[np.newaxis]})
            answers.append(np.asarray(found[0], np.float32)[0])
        return np.stack(answers)


class OnnxRuntime:
    """The engine: ONNX Runtime's CPU provider."""

    operations: Mapping[str, Operation] = {}

    def refusals(self) -> tuple[type[Exception], ...]:
        """What ONNX Runtime raises: its errors have no common base but Exception."""
        from onnxruntime.capi import onnxruntime_pybind11_state as raised

        names = ("Fail", "InvalidArgument", "InvalidGraph", "InvalidProtobuf", "NotImplemented")
        own = (*names, "RuntimeException", "EPFail", "EngineError", "NoModel")
        return (RuntimeError, ValueError, *(getattr(raised, name) for name in own))

    def exhausted(self, error: Exception) -> bool:
        """ONNX Runtime has no error of its own for it: a model's memory is small beside the computer's."""
        return False

    def free(self) -> None:
        """Nothing: a model's memory goes with it."""

    def load(self, content: bytes, options: Mapping[str, Any]) -> OnnxModel:
        """A session with its input bound.

        Raises ModelError for other inputs than one of float32, and what ONNX Runtime raises.
        """
        import numpy as np
        import onnxruntime

        asked = onnxruntime.SessionOptions()
        asked.intra_op_num_threads, asked.inter_op_num_threads = options["threads"], 1
        asked.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
        asked.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        asked.log_severity_level = _FATAL_ONLY
        session = onnxruntime.InferenceSession(content, asked, providers=[PROVIDER])
        inputs = session.get_inputs()
        shape = tuple(inputs[0].shape) if len(inputs) == 1 else ()
        if len(inputs) != 1 or inputs[0].type != "tensor(float)" or not all(type(n) is int for n in shape):
            said = ", ".join(f"{one.type} {one.shape}" for one in inputs[:3])
            raise ModelError(f"the model has the inputs {said}, and not one of float32 and of a fixed shape")
        values = made_up(np.random.default_rng(INPUT_SEED), shape, np.dtype(np.float32))
        memory = onnxruntime.OrtValue.ortvalue_from_numpy(values)
        binding = session.io_binding()
        binding.bind_ortvalue_input(inputs[0].name, memory)
        names = tuple(output.name for output in session.get_outputs())
        for name in names:
            binding.bind_output(name)
        return OnnxModel(session, binding, memory, inputs[0].name, names, shape)

    def own_clock(self, options: Mapping[str, Any]) -> Callable[[], int] | None:
        """That of the thread, where there is one."""
        return thread_clock(options["threads"])


if __name__ == "__main__":
    serve_models(OnnxRuntime())

"""The process in which this computer runs `.tflite` models: ``python -m android_bench.local.litert_worker``.

It answers the requests of :mod:`android_bench.local.serving`, and one more:

==============  ====================================================  ==================================
``op``          further header fields; payload                        answer; payload
==============  ====================================================  ==================================
``outputs``     ``model``, ``options``, ``inputs`` (a ``shape`` and   ``outputs`` (``shape``, ``type``,
                a ``type`` each); their values one after the other    ``scale``, ``zero`` each),
                                                                      ``quantized``; values
==============  ====================================================  ==================================

Options are ``threads`` and ``plain``: LiteRT's own kernels then compute, and no delegate.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from android_bench.local.inputs import INPUT_SEED, made_up
from android_bench.local.serving import Answer, Header, ModelError, Operation, serve_models
from android_bench.local.timing import thread_clock

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def open_interpreter(content: bytes, threads: int, *, plain: bool = False) -> Any:
    """LiteRT's interpreter; boards that have only its former name get that. ``plain``: without delegates.

    Raises ModelError.
    """
    try:
        from ai_edge_litert.interpreter import Interpreter, OpResolverType
    except ImportError:
        from tflite_runtime.interpreter import Interpreter, OpResolverType
    kernels = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES if plain else OpResolverType.AUTO
    try:
        interpreter = Interpreter(
            model_content=content, num_threads=threads, experimental_op_resolver_type=kernels
        )
        interpreter.allocate_tensors()
    except (ValueError, RuntimeError) as error:
        raise ModelError(str(error).rstrip(".")) from error
    return interpreter


def fill_inputs(interpreter: Any) -> None:
    """Set every input to the same random numbers in every process (:func:`made_up`).

    Raises ModelError for inputs that are no numbers.
    """
    import numpy as np

    generator = np.random.default_rng(INPUT_SEED)
    for details in interpreter.get_input_details():
        kind = np.dtype(details["dtype"])
        values = made_up(generator, tuple(details["shape"]), kind)
        if values is None:
            raise ModelError(
                f"input {details['name']} has type {kind.name}; only numbers and truth values can be made up"
            )
        interpreter.set_tensor(details["index"], values)


@dataclass(frozen=True)
class LiteRtModel:
    """An interpreter that is ready."""

    interpreter: Any

    @property
    def invoke(self) -> Callable[[], object]:
        """The interpreter's own call: nothing of ours is timed with it."""
        invoke: Callable[[], object] = self.interpreter.invoke
        return invoke

    def run(self, inputs: NDArray[Any]) -> NDArray[np.float32]:
        """Outputs (N, ...) for inputs (N, ...), one invocation for each; of integers what they stand for.

        Raises ModelError, and LiteRT's ValueError and RuntimeError.
        """
        import numpy as np

        interpreter = self.interpreter
        sources, targets = interpreter.get_input_details(), interpreter.get_output_details()
        if len(sources) != 1 or len(targets) != 1:
            raise ModelError(
                f"the model has {len(sources)} inputs and {len(targets)} outputs, and not one of each"
            )
        source, target = sources[0], targets[0]
        expected = (1, *inputs.shape[1:])
        if tuple(source["shape"]) != expected or np.dtype(source["dtype"]) != inputs.dtype:
            raise ModelError(
                f"the model takes {np.dtype(source['dtype'])} {tuple(map(int, source['shape']))}; the input "
                f"is {inputs.dtype} {expected}"
            )
        kind, (scale, zero) = np.dtype(target["dtype"]), target["quantization"]
        if kind != np.float32 and (kind.itemsize != 1 or not scale > 0):
            raise ModelError(f"the model returns {kind} with the scale {scale:g}, which stands for no number")
        outputs = np.empty((len(inputs), *target["shape"][1:]), np.float32)
        for index, one in enumerate(inputs):
            interpreter.set_tensor(source["index"], one[np.newaxis])
            interpreter.invoke()
            answer = interpreter.get_tensor(target["index"])[0]
            outputs[index] = answer if kind == np.float32 else (answer.astype(np.float32) - zero) * scale
        fill_inputs(interpreter)
        return outputs


def outputs_of(model: LiteRtModel, request: Header, payload: bytes) -> Answer:
    """Every output for one set of inputs, as their bytes one after the other.

    ``quantized``: something in the model is of 8 or 16 bits. Raises ModelError, and LiteRT's ValueError and
    RuntimeError.
    """
    import numpy as np

    interpreter = model.interpreter
    sources, given = interpreter.get_input_details(), request["inputs"]
    if len(given) != len(sources):
        raise ModelError(f"the model has {len(sources)} inputs, and {len(given)} are given")
    at = 0
    for source, one in zip(sources, given, strict=True):
        kind = np.dtype(one["type"])
        count = int(np.prod(one["shape"], dtype=np.int64))
        values = np.frombuffer(payload, kind, count, at).reshape(one["shape"])
        interpreter.set_tensor(source["index"], values)
        at += values.nbytes
    interpreter.invoke()
    targets = interpreter.get_output_details()
    for target in targets:
        if np.dtype(target["dtype"]).kind not in "fbiu":
            raise ModelError(f"output {target['name']} is of another type than numbers")
    found = [(target, interpreter.get_tensor(target["index"])) for target in targets]
    about = [
        {
            "shape": values.shape,
            "type": str(values.dtype),
            "scale": float(target["quantization"][0]),
            "zero": int(target["quantization"][1]),
        }
        for target, values in found
    ]
    types = {np.dtype(tensor["dtype"]).name for tensor in interpreter.get_tensor_details()}
    fill_inputs(interpreter)
    return (
        {"outputs": about, "quantized": bool(types & {"int8", "uint8", "int16", "uint16", "int4"})},
        b"".join(values.tobytes() for _, values in found),
    )


class LiteRt:
    """The engine: LiteRT on the CPU, with the delegates that it takes by itself, or without any."""

    operations: Mapping[str, Operation] = {"outputs": outputs_of}

    def refusals(self) -> tuple[type[Exception], ...]:
        """What LiteRT raises."""
        return ValueError, RuntimeError

    def exhausted(self, error: Exception) -> bool:
        """LiteRT has no error of its own for it: a model's memory is small beside the computer's."""
        return False

    def free(self) -> None:
        """Nothing: a model's memory goes with it."""

    def load(self, content: bytes, options: Mapping[str, Any]) -> LiteRtModel:
        """An interpreter, its inputs filled. Raises ModelError."""
        interpreter = open_interpreter(content, options["threads"], plain=options.get("plain", False))
        fill_inputs(interpreter)
        return LiteRtModel(interpreter)

    def own_clock(self, options: Mapping[str, Any]) -> Callable[[], int] | None:
        """That of the thread, where there is one."""
        return thread_clock(options["threads"])


if __name__ == "__main__":
    serve_models(LiteRt())

"""The child process that opens model files: ``python -P -m stages.conversion.inspection_worker``.

Serves frames (:mod:`android_bench.local.frames`) until its input ends. A request is ``{"depth",
"cpu_seconds"}`` (see :data:`stages.conversion.inspector.Depth`) with the file as payload. The answer is
``{"model": ...}``, see :class:`stages.conversion.inspector.InspectedModel`, or ``{"error": ...}``: what is
wrong with the file, as a part of a sentence. A file that brings the process down is seen by whoever started
it.

The memory and the processor time of a file are bounded; the process leaves no large file and no core dump.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from ai_edge_litert.interpreter import Interpreter

from android_bench.local.litert_worker import fill_inputs
from android_bench.local.serving import Answer, Header, ModelError, serve
from nasflow.base.text import plain_line
from stages.conversion.constants import not_finite_in
from stages.conversion.file_check import (
    TYPES,
    UnsoundError,
    check_file,
    numbers,
    operator_names,
    sound_root,
    text,
)

if sys.platform != "win32":
    import resource

MEMORY_BYTES, MEMORY_OF_FILE = 4 * 2**30, 4
"""Address space: so much, and so often the file's size, for LiteRT keeps constants in another layout too."""
MOST_WRITTEN_BYTES = 64 * 2**20


def main() -> None:
    """Serve requests until standard input ends."""
    if sys.platform != "win32":
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_FSIZE, (MOST_WRITTEN_BYTES, MOST_WRITTEN_BYTES))
    serve(inspected)


def inspected(request: Header, content: bytes) -> Answer:
    """The answer about one file. Raises ModelError, which says what is wrong with it."""
    restrict(request["cpu_seconds"], MEMORY_BYTES + MEMORY_OF_FILE * len(content))
    try:
        return {"model": describe(content, request["depth"])}, b""
    except UnsoundError as error:
        raise ModelError(str(error)) from error
    except (ValueError, RuntimeError) as error:
        raise ModelError(f"LiteRT refuses it ({plain_line(str(error), limit=400).rstrip('.')})") from error
    except MemoryError as error:
        raise ModelError("it needs more memory than a model may") from error


def restrict(cpu_seconds: int, memory_bytes: int) -> None:
    """End this process after so much more processor time, and refuse it more memory than that.

    Windows has no such limits, and macOS none of memory; the time is watched from outside as well.
    """
    if sys.platform == "win32":
        return
    used = resource.getrusage(resource.RUSAGE_SELF)
    limits = {resource.RLIMIT_CPU: int(used.ru_utime + used.ru_stime) + 1 + cpu_seconds}
    if sys.platform == "linux":
        limits[resource.RLIMIT_AS] = memory_bytes
    for what, limit in limits.items():
        _, hard = resource.getrlimit(what)
        resource.setrlimit(what, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard))


def describe(content: bytes, depth: str) -> dict[str, Any]:
    """What a file is made of. Raises UnsoundError, ModelError, and LiteRT's ValueError and RuntimeError."""
    root = sound_root(content)
    graph = root.Subgraphs(0)
    constants = not_finite_in(root, content)
    document: dict[str, Any] = {
        "operator_counts": _counts(root),
        "inputs": _tensors(graph, graph.InputsAsNumpy()),
        "outputs": _tensors(graph, graph.OutputsAsNumpy()),
        "not_finite": [
            {"tensor": one.tensor, "layer": one.layer, "count": one.count} for one in constants[:100]
        ],
    }
    if depth == "read":
        return document
    interpreter = Interpreter(model_content=content, num_threads=1)
    interpreter.allocate_tensors()  # this is where XNNPACK takes over
    operations = interpreter._get_ops_details()  # no public call tells delegated operators apart
    document["delegate_partitions"] = sum(op["op_name"] == "DELEGATE" for op in operations)
    document["undelegated"] = undelegated(operations, numbers(graph.OutputsAsNumpy()))
    # LiteRT works out shapes anew, whatever the file says of them.
    for words, details in (
        ("inputs", interpreter.get_input_details()),
        ("outputs", interpreter.get_output_details()),
    ):
        for tensor, detail in zip(document[words], details, strict=True):
            tensor["shape"] = detail["shape"].tolist()
    if depth == "invoke":
        fill_inputs(interpreter)
        interpreter.invoke()
    return document


def operator_counts(model: bytes) -> dict[str, int]:
    """How often each operator occurs, by its name. Raises ConversionError for a damaged file."""
    return _counts(check_file(model))


def _counts(root: Any) -> dict[str, int]:
    names = operator_names(root)
    counts: Counter[str] = Counter()
    for place in range(root.SubgraphsLength()):
        graph = root.Subgraphs(place)
        counts.update(names[graph.Operators(i).OpcodeIndex()] for i in range(graph.OperatorsLength()))
    return dict(sorted(counts.items()))


def _tensors(graph: Any, indices: Any) -> list[dict[str, Any]]:
    tensors = [graph.Tensors(index) for index in numbers(indices)]
    return [
        {
            "name": text(tensor.Name()),
            "shape": numbers(tensor.ShapeAsNumpy()),
            "type": TYPES[tensor.Type()].lower(),
        }
        for tensor in tensors
    ]


def undelegated(operations: Sequence[Mapping[str, Any]], outputs: Sequence[int]) -> list[str]:
    """Names of operators that still run by themselves.

    LiteRT lists a delegate's node behind the operators that it replaces, with the same output tensors. What
    still runs is found backwards from the model's outputs, where the last producer of a tensor counts.
    """
    producer = {int(tensor): i for i, op in enumerate(operations) for tensor in op["outputs"]}
    running: set[int] = set()
    open_tensors = list(outputs)
    while open_tensors:
        place = producer.get(open_tensors.pop())
        if place is not None and place not in running:
            running.add(place)
            open_tensors.extend(int(tensor) for tensor in operations[place]["inputs"] if tensor >= 0)
    return [op["op_name"] for op in (operations[i] for i in sorted(running)) if op["op_name"] != "DELEGATE"]


if __name__ == "__main__":
    main()

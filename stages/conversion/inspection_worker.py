"""The child process that opens a model: ``python -P -m stages.conversion.inspection_worker MODEL.tflite``.

Prints one JSON document. A model that cannot be read ends the process, by exception or by signal: whoever
started it sees both.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter


def main(path: Path) -> None:
    """Tell what the model at ``path`` is made of."""
    model = path.read_bytes()
    counts = operator_counts(model)
    interpreter = Interpreter(model_content=model, num_threads=1)
    interpreter.allocate_tensors()  # this is where XNNPACK takes over
    inputs, outputs = interpreter.get_input_details(), interpreter.get_output_details()
    if len(inputs) != 1 or len(outputs) != 1:
        raise ValueError(
            f"the model has {len(inputs)} inputs and {len(outputs)} outputs, and not one of each"
        )
    operations = interpreter._get_ops_details()  # no public call tells delegated operators apart
    document = {
        "operator_counts": counts,
        "delegate_partitions": sum(op["op_name"] == "DELEGATE" for op in operations),
        "undelegated": undelegated(operations, outputs[0]["index"]),
        "input_shape": inputs[0]["shape"].tolist(),
        "input_type": inputs[0]["dtype"].__name__,
        "output_shape": outputs[0]["shape"].tolist(),
        "output_type": outputs[0]["dtype"].__name__,
    }
    sys.stdout.write(json.dumps(document))


def operator_counts(model: bytes) -> dict[str, int]:
    """How often each operator occurs, by its name in the schema (a custom one by its own)."""
    if model[4:8] != b"TFL3":
        raise ValueError(f"the file starts with {model[:8]!r}, not with a TFLite header")
    names = {code: name for name, code in vars(schema.BuiltinOperator).items() if not name.startswith("_")}
    root = schema.Model.GetRootAs(model)
    codes: list[str] = []
    for index in range(root.OperatorCodesLength()):
        code = root.OperatorCodes(index)
        # Codes above 126 do not fit the older field, which then holds 127.
        builtin = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())
        custom = code.CustomCode()
        codes.append(custom.decode() if custom is not None else names[builtin])
    counts: Counter[str] = Counter()
    for place in range(root.SubgraphsLength()):
        graph = root.Subgraphs(place)
        counts.update(codes[graph.Operators(i).OpcodeIndex()] for i in range(graph.OperatorsLength()))
    return dict(sorted(counts.items()))


def undelegated(operations: Sequence[Mapping[str, Any]], output: int) -> list[str]:
    """Names of operators that still run by themselves.

    LiteRT lists a delegate's node behind the operators that it replaces, with the same output tensors. What
    still runs is found backwards from the model's output, where the last producer of a tensor counts.
    """
    producer = {int(tensor): i for i, op in enumerate(operations) for tensor in op["outputs"]}
    running: set[int] = set()
    open_tensors = [output]
    while open_tensors:
        place = producer.get(open_tensors.pop())
        if place is not None and place not in running:
            running.add(place)
            open_tensors.extend(int(tensor) for tensor in operations[place]["inputs"] if tensor >= 0)
    return [op["op_name"] for op in (operations[i] for i in sorted(running)) if op["op_name"] != "DELEGATE"]


if __name__ == "__main__":
    main(Path(sys.argv[1]))

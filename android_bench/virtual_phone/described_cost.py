"""What a described phone takes for a model, by the model's operators: a truth for latency models to find.

It is additive: each operator costs what its multiply-accumulates and the values that it writes cost. The
rates are of the size of a phone's big core (assumed; no phone was measured for them).
"""

from __future__ import annotations

import math
from functools import cache

from ai_edge_litert import schema_py_generated as schema

MAC_PER_MS = {
    schema.BuiltinOperator.CONV_2D: 4e7,
    schema.BuiltinOperator.DEPTHWISE_CONV_2D: 9e6,
    schema.BuiltinOperator.FULLY_CONNECTED: 1e7,
}
VALUES_PER_MS = 2e7
SLOW_TAPS = 25  # a depthwise kernel with more taps falls off the fast path, as XNNPACK's does
SLOWER = 12.0


@cache
def operators_ms(model: bytes) -> tuple[float, bool]:
    """What a model's operators cost, and whether it is a whole network (convolutions and a classifier)."""
    content = schema.ModelT.InitFromPackedBuf(model)
    graph = content.subgraphs[0]
    total_ms, kinds = 0.0, set()
    for operator in graph.operators:
        kind = content.operatorCodes[operator.opcodeIndex].builtinCode
        kinds.add(kind)
        values = math.prod(graph.tensors[operator.outputs[0]].shape)
        total_ms += values / VALUES_PER_MS
        if kind in MAC_PER_MS:
            weight = graph.tensors[operator.inputs[1]].shape
            depthwise = kind == schema.BuiltinOperator.DEPTHWISE_CONV_2D
            reach = math.prod(weight[1:3] if depthwise else weight[1:])
            slower = SLOWER if depthwise and reach > SLOW_TAPS else 1.0
            total_ms += slower * values * reach / MAC_PER_MS[kind]
    whole = {schema.BuiltinOperator.CONV_2D, schema.BuiltinOperator.FULLY_CONNECTED} <= kinds
    return float(total_ms), whole

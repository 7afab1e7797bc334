"""The models that are timed in place of files that ship: the same operators, random weights.

A latency table and a latency model hold for one precision (``runtime.precision``); of models in int8, whole
networks take uint8 pixels, as they ship by default, and blocks take what lies between two operators.
"""

from __future__ import annotations

from stages.conversion.flatbuffer import Implementations, block_model, network_model
from stages.conversion.quantize import in_precision
from stages.documents.origin import Precision
from stages.space.block_spec import BlockSpec, Implementation, ModelOutput
from stages.space.search_space import NetConfig


def measured_network(
    net: NetConfig,
    precision: Precision,
    *,
    output: ModelOutput = "probabilities",
    seed: int = 0,
    implementations: Implementations | None = None,
) -> bytes:
    """A whole network, about 0.1 s in int8 for a MobileNetV2."""
    model = network_model(net, seed=seed, implementations=implementations, output=output)
    return in_precision(model, precision)


def measured_block(
    block: BlockSpec,
    implementation: Implementation = "native",
    precision: Precision = "float32",
    *,
    output: ModelOutput = "probabilities",
    copies: int = 1,
    seed: int = 0,
) -> bytes:
    """One block, or several copies of it, about 10 ms in int8."""
    model = block_model(block, implementation, copies=copies, seed=seed, output=output)
    return in_precision(model, precision, io="int8")

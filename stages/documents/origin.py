"""What networks are, whose weights they started from, and what trained them."""

from __future__ import annotations

import operator
from typing import Annotated, Literal

from pydantic import Field

from pipeline.artifact import Record
from stages.space.weights_origin import WeightsOrigin

Precision = Literal["float32", "float16", "int8", "dynamic_range"]
"""``float16``: of the weights. ``dynamic_range``: weights in int8, activations quantized as they come."""
ElementType = Literal["float32", "uint8", "int8"]
"""Of a model's input and output. ``int8`` is what lies between: for models that stand for a part."""
Role = Literal["found", "random", "front", "full", "baseline", "baseline_published"]
"""``front``: found for another target. ``full``: the whole network that a pretrained space was cut from.
``baseline``: MobileNetV2 with the space's stride plan; ``baseline_published``: with its own."""
Origin = Literal["inherited", "fresh", "pretrained"]
"""Where weights started: from those of the search's supernet, from random numbers, from published ones."""
PretrainedFrom = Annotated[
    WeightsOrigin | None,
    Field(
        exclude_if=operator.not_,
        description="what the weights descend from, inherited ones too; None: from random numbers",
    ),
]


class MadeBy(Record):
    """What trained something. Where one of the first five differs, so do the numbers that come out."""

    torch: str = Field(description="version")
    processor: str
    instructions: str = Field(description="the processor's widest instructions that torch uses, as AVX512")
    threads: int = Field(ge=1, description="that torch computes with")
    accelerator: str = Field(description="the GPU's name; empty without one")
    cores: int = Field(ge=1, description="logical cores that the process might use")
    omp_num_threads: str = Field(description="the environment's OMP_NUM_THREADS; empty where it was unset")
    precision: Literal["32", "bf16"] = Field(
        default="32",
        exclude_if=lambda precision: precision == "32",
        description="of the arithmetic; bf16: mixed with float32",
    )


MadeByAll = Annotated[
    tuple[MadeBy, ...],
    Field(
        exclude_if=operator.not_,
        description="several, in order, where an interrupted run went on elsewhere; empty: not recorded",
    ),
]


class ComputeCost(Record):
    """What computing took, interrupted runs included; the measured device has no part in it."""

    seconds: float = Field(ge=0, description="wall clock")
    processor_seconds: float = Field(ge=0, description="user and system time, all cores added up")
    accelerator_seconds: float = Field(ge=0, description="for how long a GPU was held; 0 without one")

"""How many whole networks are timed, and how."""

from __future__ import annotations

from pydantic import Field

from stages.latency.calibration import FEWEST
from stages.measurement.config import MeasuringConfig


class LatencyConfig(MeasuringConfig):
    """How many whole networks are timed, and how."""

    calibration_networks: int = Field(
        default=10, ge=FEWEST, le=1000, description="random networks that scale and overhead are fitted on"
    )
    held_out_networks: int = Field(
        default=20, ge=FEWEST, le=1000, description="other random networks that the error is measured on"
    )

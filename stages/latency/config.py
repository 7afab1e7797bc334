"""How many whole networks are timed, and how."""

from __future__ import annotations

from pydantic import Field

from stages.latency.calibration import FEWEST
from stages.measurement.config import MeasurementConfig


class LatencyConfig(MeasurementConfig):
    """How many whole networks are timed, and how."""

    calibration_networks: int = Field(
        default=10, ge=FEWEST, le=1000, description="random networks from which scale and overhead are fitted"
    )
    held_out_networks: int = Field(
        default=20,
        ge=FEWEST,
        le=1000,
        description="other random networks on which the prediction's error is measured",
    )

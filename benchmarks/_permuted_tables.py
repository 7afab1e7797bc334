"""Latency tables whose times are dealt out to the wrong blocks: a control for what needs the right one."""

from __future__ import annotations

import random
from contextlib import suppress

from nasflow.base.errors import BadMeasurementError
from stages.documents import LatencyModel, LatencyTable
from stages.latency.model import NetworkTimings, fit_model
from stages.space.search_space import SearchSpace

MOST_PERMUTATIONS = 1000  # to be tried for those that give a model


def permuted_models(
    space: SearchSpace, table: LatencyTable, latency: LatencyModel, count: int, seed: int
) -> tuple[list[LatencyModel], int]:
    """``count`` models of permuted tables, and how many more permutations gave none.

    Each is fitted to the whole networks as they were measured. None comes of it where slower blocks then
    seem to make faster networks, or where some networks would take no time.
    """
    models: list[LatencyModel] = []
    for number in range(MOST_PERMUTATIONS):
        with suppress(BadMeasurementError):
            models.append(permuted_model(space, table, latency, f"{seed}/permuted/{number}"))
        if len(models) == count:
            return models, number + 1 - count
    raise BadMeasurementError(
        f"of {MOST_PERMUTATIONS} permuted tables {len(models)} gave a latency model, not {count}.",
        hint="Look at the space: are there blocks enough to tell a right table from a wrong one?",
    )


def permuted_model(space: SearchSpace, table: LatencyTable, latency: LatencyModel, seed: str) -> LatencyModel:
    """The model of a table whose times belong to other blocks.

    Raises BadMeasurementError where no line fits.
    """
    order = list(range(len(table.rows)))
    random.Random(seed).shuffle(order)
    rows = tuple(
        row.model_copy(
            update={"measurement": table.rows[other].measurement, "copies": table.rows[other].copies}
        )
        for row, other in zip(table.rows, order, strict=True)
    )
    return fit_model(
        space,
        table.model_copy(update={"rows": rows}),
        [(point.choices, point.measurement) for point in latency.calibration],
        [(point.choices, point.measurement) for point in latency.held_out],
        NetworkTimings(latency.device, latency.runtime, latency.reference, latency.timings, 0.0),
    )

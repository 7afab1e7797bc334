"""The stages that measure, on a GPU's device with PyTorch's CPU in the GPU's place."""

from __future__ import annotations

import shutil
from contextlib import closing
from pathlib import Path

import pytest
from integration.conftest import TINY

from android_bench.local.cuda_device import CudaDevice
from nasflow import api
from nasflow.cli.request import Selection
from nasflow.commands.project import open_project
from stages.conversion.onnx_file import onnx_of
from stages.documents import LatencyModel, LatencyTable
from stages.latency.exchange import differences

SETTINGS = ("data.path=null", "runtime.batch=4", "runtime.precision=float16")


def translated(model: bytes, name: str) -> bytes:
    return onnx_of(model, name, half=True)


@pytest.mark.parametrize("target", ["cpu", pytest.param("cuda:0", marks=pytest.mark.gpu)])
def test_batches_in_half_precision_have_a_latency_model_of_their_own(tmp_path: Path, target: str) -> None:
    shutil.copytree(TINY, tmp_path / "project")
    config = tmp_path / "project" / "pipeline.yaml"
    with closing(CudaDevice(translated, target=target, warmup_ms=1.0)) as device:
        assert api.run(config, SETTINGS, device=device, until="latency") is None
        pipeline = open_project(Selection(config, SETTINGS)).pipeline(lambda _event: None, device)
        stages = {stage.name: stage for stage in pipeline.status()}
        table = pipeline.store.document(stages["profile"].record, LatencyTable)  # type: ignore[arg-type]
        model = pipeline.store.document(stages["latency"].record, LatencyModel)  # type: ignore[arg-type]
        other = open_project(Selection(config, (*SETTINGS, "runtime.batch=2")))
        others = {stage.name: stage for stage in other.pipeline(lambda _event: None, device).status()}
        here = device.info()
    assert stages["latency"].fresh
    assert not others["profile"].fresh, "another batch is another table"
    assert (table.runtime.batch, table.runtime.precision, table.precision) == (4, "float16", "float16")
    assert all(row.measurement.median_ms > 0 for row in table.rows)
    assert model.held_out_error.mape_percent > 0
    assert differences(table, model, here, table.runtime) == ()
    assert differences(table, model, here, table.runtime.model_copy(update={"batch": 1})) == (
        "batch: 4 in the table, 1 here",
    )

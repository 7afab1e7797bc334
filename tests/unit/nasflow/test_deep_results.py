"""Networks of 1 to 200 layers through whatever names or shows one when all is done."""

from __future__ import annotations

import html
import json
import re
import tempfile
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.memory_context import memory_context
from support.sample_documents import sample_documents
from support.scripted_device import ScriptedDevice
from support.toy_pipeline import ToyPipeline

from android_bench.device import BenchmarkRequest, RuntimeOptions
from nasflow.cli.request import RunOptions, Selection
from nasflow.commands.project import open_project
from nasflow.commands.run import run_pipeline
from nasflow.publish import FILES
from pipeline.artifact import Document
from pipeline.store.scratch import FolderScratch
from stages.convert import Plan
from stages.documents import LatencyModel, PrunedNetworks, TrainedNetworks, Verification
from stages.measurement.paired import PairedRounds
from stages.reporting.figures.prediction import prediction_figure
from stages.reporting.figures.tradeoff import tradeoff_figure
from stages.reporting.run_result import build_result
from stages.reporting.summary import summary_text
from stages.space.search_space import Candidate, NetConfig, SearchSpace, StageSpec, StemSpec

WIDEST = 140  # columns of the table
LONGEST_NAME = 100  # bytes of a file's name; file systems allow 255
CANDIDATES = tuple(Candidate(kernel=kernel, expansion=1) for kernel in (3, 5))


@cache
def deep_documents(layers: int) -> dict[str, Document]:
    """A finished run whose space has so many searched layers, in stages of 100 at most."""
    runs = [min(100, layers - first) for first in range(0, layers, 100)]
    space = SearchSpace(
        name="deep",
        resolution=32,
        classes=10,
        stem=StemSpec(width=8, stride=2),
        stages=tuple(StageSpec(width=8, layers=count) for count in runs),
        head_width=16,
        candidates=CANDIDATES,
    )
    return sample_documents(space=space)


def labels(markup: str) -> list[str]:
    return [html.unescape(text) for text in re.findall(r"<text[^>]*>([^<]*)</text>", markup)]


@given(layers=st.integers(1, 200))
@settings(max_examples=5)
def test_the_terminals_table_and_the_figures_have_room_for_any_depth(layers: int) -> None:
    documents = deep_documents(layers)
    verify, latency = documents["verify"], documents["latency"]
    assert isinstance(verify, Verification) and isinstance(latency, LatencyModel)
    for width in (80, WIDEST):
        lines = summary_text(build_result(documents), width=width).splitlines()
        assert max(map(len, lines)) <= WIDEST
    for markup in (
        tradeoff_figure(verify, width=600),
        prediction_figure(latency, verify.networks, width=600),
    ):
        assert labels(markup) and max(map(len, labels(markup))) <= 60


@given(layers=st.integers(1, 200))
@settings(max_examples=5)
def test_convert_and_verify_keep_networks_of_any_depth_under_short_names(layers: int) -> None:
    documents = deep_documents(layers)
    finetune, latency = documents["finetune"], documents["latency"]
    assert isinstance(finetune, TrainedNetworks) and isinstance(latency, LatencyModel)
    with tempfile.TemporaryDirectory() as folder:
        scratch = FolderScratch(Path(folder), "convert", lambda _text: None)
        for network in finetune.networks:
            plan = Plan(network, {block.key: "split" for block in network.net.blocks})
            scratch.save(f"{plan.key}.tflite", b"model")
            assert scratch.load(f"{plan.key}.tflite") == b"model"
        names = [network.name for network in finetune.networks]
        requests = {n: BenchmarkRequest(name=n, model=b"", options=RuntimeOptions()) for n in names}
        context = memory_context("verify", scratch=scratch)  # type: ignore[arg-type]
        rounds = PairedRounds(context.scratch, ScriptedDevice(dict.fromkeys(names, 1.0)), requests, 0)
        rounds.measure()
        assert [rounds.combined(name).rounds for name in names] == [1] * len(names)
        assert max(len(path.name) for path in Path(folder).rglob("*")) <= LONGEST_NAME


@pytest.mark.parametrize("layers", [1, 200])
def test_a_whole_run_publishes_a_network_of_any_depth(layers: int, tmp_path: Path) -> None:
    (tmp_path / "pipeline.yaml").write_text("seed: 5\n", encoding="utf-8")
    documents = deep_documents(layers)
    pruned = documents["prune"]
    assert isinstance(pruned, PrunedNetworks)
    project = open_project(Selection(tmp_path / "pipeline.yaml"), ToyPipeline(documents=documents))
    outcome = run_pipeline(RunOptions(), project)
    latest = project.latest
    assert {path.name for path in latest.iterdir()} == {*FILES, "manifest.json"}
    net = NetConfig.model_validate_json((latest / "network.json").read_bytes())
    assert net == pruned.found.net
    assert json.loads((latest / "result.json").read_bytes())["schema_version"]
    report = (latest / "report.html").read_text(encoding="utf-8")
    assert max(map(len, labels(report))) <= 60
    spelled = [separator.join(map(str, pruned.found.choices)) for separator in ("-", "_", ", ", ",", " ")]
    if layers > 2:
        assert not any(name in text for name in spelled for text in (report, outcome.text))
    assert max(len(path.name) for path in (tmp_path / "artifacts").rglob("*")) <= LONGEST_NAME

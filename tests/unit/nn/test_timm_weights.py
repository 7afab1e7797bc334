"""Weights by their name in timm: what is asked of it, and what becomes of its answer."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from nasflow.assemble import resolve_baseline
from nasflow.base.errors import MachineError, UsageError
from stages.baseline import BaselineConfig
from stages.nn.network import Network
from stages.nn.pretrained import mobilenet
from stages.nn.timm_weights import mapping_file
from stages.nn.weight_names import prefixes
from stages.nn.weights_source import mobilenet_identity, origin_of
from stages.space.mobilenet_v2 import mobilenet_v2

NET = mobilenet_v2(resolution=64, classes=1000, width=0.35)
CONFIG: dict[str, Any] = {
    "input_size": (3, 224, 224),
    "mean": (0.485, 0.456, 0.406),
    "std": (0.229, 0.224, 0.225),
    "license": "apache-2.0",
    "hf_hub_id": "timm/mobilenetv2_035.test",
}
"""Fields of ``pretrained_cfg`` (timm's models/_pretrained.py), as they are for its MobileNetV2s."""


class Model(nn.Module):
    """A MobileNetV2 under timm's names, and what else is read of a model."""

    def __init__(self, eps: float = 1e-5, **changed: Any) -> None:
        super().__init__()
        self.pretrained_cfg = {**CONFIG, **changed}
        torch.manual_seed(1)
        self.network = Network(NET)
        for module in self.network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eps = eps

    def state_dict(self, **_: Any) -> dict[str, Any]:  # type: ignore[override]
        names = prefixes("timm", [1, 2, 3, 4, 3, 3, 1], NET)
        return {
            f"{names[ours.rpartition('.')[0]]}.{ours.rpartition('.')[2]}": tensor
            for ours, tensor in self.network.state_dict().items()
        }


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[tuple[str, bool]]:
    """timm in a package's place, and what it was asked for."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    calls: list[tuple[str, bool]] = []

    def create_model(name: str, *, pretrained: bool) -> Model:
        calls.append((name, pretrained))
        if name == "unknown":
            raise RuntimeError("Unknown model (unknown)")
        return Model(eps=1e-3, input_size=(1, 32, 32)) if name == "grey" else Model()

    monkeypatch.setitem(sys.modules, "timm", SimpleNamespace(create_model=create_model))
    return calls


def test_a_model_is_fetched_once_and_is_then_as_a_mapping_file(asked: list[tuple[str, bool]]) -> None:
    identity = mobilenet_identity("timm:mobilenetv2_035")
    path = mapping_file("timm:mobilenetv2_035")
    assert asked == [("mobilenetv2_035", True)]
    assert mobilenet_identity(str(path)) == identity
    origin = origin_of(str(path))
    assert (origin.licence, origin.url) == ("apache-2.0", "timm/mobilenetv2_035.test")
    text = path.read_text()
    assert "bn_epsilon: 1.0e-05" in text and "- 0.485" in text and "- 0.229" in text
    loaded, wanted = mobilenet(path, mobilenet_v2(resolution=96, classes=7, width=0.35)), Network(NET)
    wanted.load_state_dict(Model().network.state_dict())
    name = "blocks.2.layers.0.0.weight"
    assert torch.equal(loaded.state_dict()[name], wanted.state_dict()[name])


def test_a_model_that_timm_does_not_know_is_an_error_with_what_to_try(asked: list[tuple[str, bool]]) -> None:
    with pytest.raises(MachineError, match="timm cannot give the pretrained model unknown") as caught:
        mapping_file("timm:unknown")
    assert caught.value.raw == "Unknown model (unknown)"
    with pytest.raises(UsageError, match="no network of ours"):
        mapping_file("timm:grey")
    with pytest.raises(UsageError, match="no name of a model"):
        mapping_file("timm:../../etc")
    assert [name for name, _ in asked] == ["unknown", "grey"]


def test_without_timm_it_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(MachineError, match="timm is not installed") as caught:
        mapping_file("timm:mobilenetv2_100")
    assert "pip install timm" in caught.value.hint


def test_offline_nothing_is_fetched(asked: list[tuple[str, bool]], tmp_path: Path) -> None:
    config = BaselineConfig(pretrained="timm:mobilenetv2_035")
    with pytest.raises(MachineError, match="nothing may be downloaded"):
        resolve_baseline(config, tmp_path, offline=True)
    assert resolve_baseline(config, tmp_path) == config
    assert asked == []
    mapping_file("timm:mobilenetv2_035")
    assert resolve_baseline(config, tmp_path, offline=True) == config

"""Pretrained weights by their name in timm (``timm:mobilenetv2_100``), fetched once and kept in the cache.

What is kept is a mapping file (:class:`stages.nn.weights_source.WeightsMap`) with its weights beside it, as a
person would write it: from there on, both are alike. Scale of the pixels and epsilon of the normalisation are
the model's own, as timm's ``pretrained_cfg`` and layers tell.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from nasflow.base.errors import MachineError, UsageError
from nasflow.base.files import cache_folder, write_atomic

PREFIX = "timm:"
_NAME = re.compile(r"[A-Za-z0-9][\w.]*", re.ASCII)
_MAP, _WEIGHTS = "map.yaml", "weights.safetensors"


def is_timm(pretrained: str) -> bool:
    """Whether weights are named as timm's."""
    return pretrained.startswith(PREFIX)


def mapping_file(pretrained: str) -> Path:
    """The mapping file that is meant: the one that is named, or that of timm's model, which is fetched.

    Raises UsageError where timm does not know it, MachineError where timm is missing or cannot fetch it.
    """
    if not is_timm(pretrained):
        return Path(pretrained)
    kept = _kept(pretrained)
    if not kept.is_file():
        _fetch(pretrained.removeprefix(PREFIX), kept)
    return kept


def check_fetched(pretrained: str) -> None:
    """For those who may not download. Raises MachineError where timm's model would have to be fetched."""
    if is_timm(pretrained) and not _kept(pretrained).is_file():
        raise MachineError(
            f"The pretrained weights {pretrained} are not on this computer, and nothing may be downloaded "
            "(offline).",
            hint="Run once without offline, or name a file of your own.",
        )


def _kept(pretrained: str) -> Path:
    name = pretrained.removeprefix(PREFIX)
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"{name!r} is no name of a model of timm.", hint="As an example: timm:mobilenetv2_100"
        )
    return cache_folder() / "pretrained" / f"timm-{name}" / _MAP


def _fetch(name: str, kept: Path) -> None:
    try:
        import timm
    except ImportError as error:
        raise MachineError(
            f"timm is not installed, and the pretrained weights timm:{name} are fetched by it.",
            hint="Install it: pip install timm. Or name a mapping file of your own (docs/your-images.md).",
        ) from error
    import yaml
    from safetensors.torch import save
    from torch import nn

    try:
        model = timm.create_model(name, pretrained=True)
    except Exception as error:  # timm's, its downloader's, and those of several libraries for the network
        raise MachineError(
            f"timm cannot give the pretrained model {name}: {type(error).__name__}.",
            hint=f"Try it: python -c \"import timm; timm.create_model('{name}', pretrained=True)\"",
            raw=str(error),
        ) from error
    told: dict[str, Any] = dict(model.pretrained_cfg)
    epsilons = {module.eps for module in model.modules() if isinstance(module, nn.BatchNorm2d)}
    if len(epsilons) != 1 or tuple(told.get("input_size", ()))[:1] != (3,):
        raise UsageError(
            f"timm:{name} takes input {told.get('input_size')} and normalises with epsilon "
            f"{sorted(epsilons)}: no network of ours is like it.",
            hint="A MobileNetV2 is needed: timm:mobilenetv2_100",
        )
    mapping = {
        "weights": _WEIGHTS,
        "names": "timm",
        "mean": [float(value) for value in told["mean"]],
        "std": [float(value) for value in told["std"]],
        "bn_epsilon": float(epsilons.pop()),
        "licence": str(told.get("license") or ""),
        "url": str(told.get("hf_hub_id") or told.get("url") or ""),
    }
    state = {tensor_name: tensor.contiguous() for tensor_name, tensor in model.state_dict().items()}
    write_atomic(kept.with_name(_WEIGHTS), save(state))
    write_atomic(kept, yaml.safe_dump(mapping).encode())  # last: it says that the weights are whole

"""Training state as bytes: tensors as safetensors, numbers as its JSON metadata. No pickle."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor
from torch.optim import Optimizer

from nasflow.base.errors import IntegrityError, UsageError
from pipeline.artifact import flat
from pipeline.stage import Context

VERSION = 4
"""Of what checkpoints hold; raised where a loop could no longer go on from an older one."""
_MOST_DIFFERENCES = 3


def pack(tensors: Mapping[str, Tensor], numbers: Mapping[str, Any]) -> bytes:
    """Tensors and JSON-able numbers in one safetensors file."""
    copies = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    return save(copies, metadata={"numbers": json.dumps(numbers)})


def unpack(payload: bytes) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """What :func:`pack` packed. Raises IntegrityError where the bytes are something else."""
    try:
        header_size = int.from_bytes(payload[:8], "little")
        header = json.loads(payload[8 : 8 + header_size])
        numbers = json.loads(header["__metadata__"]["numbers"])
        return load(payload), numbers
    except (SafetensorError, ValueError, KeyError) as error:
        raise IntegrityError(
            f"a checkpoint of {len(payload)} bytes cannot be read: {error}.",
            hint="Run again with --force and the stage's name.",
        ) from error


def check_origin(found: Mapping[str, Any] | None, wanted: Mapping[str, Any], context: Context) -> None:
    """Refuse a checkpoint that something else made: another space or network, another version of the code.

    Both are what a loop says of itself, as JSON has it. Raises UsageError that names what differs.
    """
    there, here = flat(found or {}), flat(json.loads(json.dumps(wanted)))
    names = [name for name in {**here, **there} if there.get(name, "nothing") != here.get(name, "nothing")]
    if not names:
        return
    differences = [
        f"{name} is {there.get(name, 'nothing')!s:.40} there and {here.get(name, 'nothing')!s:.40} here"
        for name in names[:_MOST_DIFFERENCES]
    ]
    more = f"; and {len(names) - len(differences)} more" if len(names) > len(differences) else ""
    raise UsageError(
        f"{context.stage}: the checkpoint of its unfinished work was made for something else: "
        f"{'; '.join(differences)}{more}.",
        hint=f"Go back to the settings and the version that made it, or delete the folder "
        f"scratch/{context.stage}-{context.fingerprint[:16]} in the artifacts folder to start again.",
    )


def under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors named ``prefix.*``, without the prefix."""
    start = f"{prefix}."
    return {name.removeprefix(start): t for name, t in tensors.items() if name.startswith(start)}


def pack_optimizer(optimizer: Optimizer, prefix: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """An optimizer's state as named tensors and numbers; learning rates are left to the schedule."""
    tensors: dict[str, Tensor] = {}
    numbers: dict[str, Any] = {}
    for index, state in optimizer.state_dict()["state"].items():
        for name, value in state.items():
            key = f"{prefix}.{index}.{name}"
            if isinstance(value, Tensor):
                tensors[key] = value
            else:
                numbers[key] = value
    return tensors, numbers


def unpack_optimizer(
    optimizer: Optimizer, prefix: str, tensors: Mapping[str, Tensor], numbers: Mapping[str, Any]
) -> None:
    """Put back what :func:`pack_optimizer` took out, in the memory order of the parameters."""
    state: dict[int, dict[str, Any]] = {}
    for key, value in {**tensors, **numbers}.items():
        if key.startswith(f"{prefix}."):
            index, name = key.removeprefix(f"{prefix}.").split(".", 1)
            state.setdefault(int(index), {})[name] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    for parameter, values in optimizer.state.items():
        for name, value in values.items():
            if isinstance(value, Tensor) and value.shape == parameter.shape:
                values[name] = torch.empty_like(parameter).copy_(value)

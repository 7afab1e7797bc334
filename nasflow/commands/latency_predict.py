"""``nasflow latency predict``: how long a network takes by the latency model, layer by layer."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from nasflow.base.errors import UsageError
from nasflow.base.files import disk_faults
from nasflow.base.text import plain_line
from nasflow.cli.console import message_lines
from nasflow.cli.request import Outcome, Selection
from nasflow.commands.first_look import Told
from nasflow.commands.measured_model import measured_model
from nasflow.commands.project import open_project
from stages.space.search_space import NetConfig


def predict_latency(selection: Selection, network: Path) -> Outcome:
    """A network's latency, layer by layer, with its interval. Raises UsageError."""
    project = open_project(selection)
    told = Told()
    _, model = measured_model(project.pipeline(told))
    net = read_network(network)
    latencies = [model.block_latency_ms(block) for block in net.blocks]
    prediction = model.predict(net)
    device = plain_line(model.device.model)
    ways = [model.implementations.get(block.key, "native") for block in net.blocks]
    document = {
        **prediction.model_dump(),
        "interval_percent": model.interval_percent,
        "overhead_ms": model.overhead_ms,
        "device": model.device.model,
        "runtime": model.runtime.model_dump(),
        "foreign": list(model.foreign),
        "blocks": [
            {
                "block": block.key,
                "name": block.short_name,
                "layer": net.layers[index] if net.layers else None,
                "implementation": way,
                "ms": ms,
                "share": ms / prediction.ms,
            }
            for index, (block, way, ms) in enumerate(zip(net.blocks, ways, latencies, strict=True))
        ],
    }
    width = max(len(block.key) for block in net.blocks)
    names = max(14, *(len(block.short_name) for block in net.blocks))
    lines = [
        f"{block.key:<{width}}  {block.short_name:<{names}} {ms:9.4f} ms  {100 * ms / prediction.ms:5.1f} %"
        + (f"  ({way})" if way != "native" else "")
        for block, way, ms in zip(net.blocks, ways, latencies, strict=True)
    ]
    lines += [
        f"{'every invocation':<{width}}  {'':<{names}} {model.overhead_ms:9.4f} ms",
        "",
        f"{prediction.ms:.4g} ms on {device}, {model.runtime.describe(model.device.kind)}; 95 % interval "
        f"{prediction.low_ms:.4g} to {prediction.high_ms:.4g} ms.",
    ]
    if model.foreign:
        lines.append(f"Predicted with a foreign table: {'; '.join(model.foreign)}.")
    return Outcome(document, "\n".join([*message_lines(told.events), *lines]))


def read_network(path: Path) -> NetConfig:
    """A network's architecture from a JSON file. Raises UsageError, MachineError."""
    with disk_faults(path, "read"):
        data = path.read_bytes()
    try:
        return NetConfig.model_validate_json(data)
    except ValidationError as error:
        first = error.errors()[0]
        location = ".".join(map(str, first["loc"])) or "the file"
        raise UsageError(
            f"{path} is not a network: {location}: {first['msg'].removeprefix('Value error, ')}.",
            hint="Use a file such as artifacts/latest/network.json (NetConfig in artifacts/README.md).",
            raw=str(error),
        ) from error

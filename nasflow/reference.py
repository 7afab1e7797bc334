"""What is rendered from the configuration's keys: ``pipeline.yaml``, and its reference in the docs.

``python -m nasflow.reference`` writes both into the folder of the project; ``nasflow init`` writes the first.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from nasflow.config import PipelineConfig
from pipeline.config.render import as_markdown, as_yaml
from pipeline.config.yaml_text import Key
from stages.measurement.config import MeasurementConfig

PIPELINE_YAML = "pipeline.yaml"
CONFIGURATION_MD = "docs/configuration.md"

QUICK_START = PipelineConfig.model_validate(
    {
        "target": {"ratio": 0.11},
        "search": {"epochs": 3},
        "training": {"epochs": 2, "start": "fresh", "budget_minutes": 10},
        "baseline": {"widths": [0.35, 0.5], "published_widths": [0.35]},
    }
)
"""The settings of a first run: the whole chain, as short as its result is still of use."""

_YAML_HEAD = """\
# nasflow: what to search, for which device, and how thoroughly.
#
#   nasflow run              run what is not up to date, then write artifacts/latest/report.html
#   nasflow run --dry-run    list what would be run, why, and about how long it takes
#   nasflow run --set search.epochs=10     change one key for one run
#   nasflow status           list which stages are up to date; change a key here and see which are not
#
# Every key has a default (docs/configuration.md): it is used if a line is deleted or starts with '#'. When a
# key changes, exactly the stages that depend on it are run again. Paths are relative to this file.

"""
_MARKDOWN_HEAD = """\
# Configuration reference

All keys of `pipeline.yaml`, with their defaults. The file that `nasflow init` writes holds the values of a
short first run; some of them differ from the defaults. `nasflow run --set KEY=VALUE` sets a key for one run.
A key that is mistyped or out of range is an error that names its line.

"""
_MARKDOWN_MOVED = """\

## Old names

Files of version 0.1 are accepted, with a notice for each old key. Version 0.3 will reject them.

| Old key | New key |
|---|---|
"""


_SEVERAL = {
    "data.name": "`data.source`, if it is `fashion_mnist`",
    "data.validation_images": "`data.architecture_images` and `data.choice_images`, one half each",
    "search.targets": "`target.ms` or `target.ratio`, and `target.further`",
}


def pipeline_yaml(config: PipelineConfig = QUICK_START, remarks: Sequence[str] = ()) -> str:
    """The ``pipeline.yaml`` that a project starts with; ``remarks`` stand in its head, a line each."""
    said = "".join(f"# {remark}".rstrip() + "\n" for remark in remarks)
    return _YAML_HEAD + (f"{said}\n" if said else "") + as_yaml(config, _stands_in_measurement)


def configuration_md() -> str:
    """All keys, as a page of the docs."""
    moved = "\n".join(f"| `{old}` | {_new_name(old, new)} |" for old, new in PipelineConfig.MOVED.items())
    return f"{_MARKDOWN_HEAD}{as_markdown(PipelineConfig, _stands_in_measurement)}{_MARKDOWN_MOVED}{moved}\n"


def _new_name(old: str, new: object) -> str:
    if new is None:
        return "none: it has no effect"
    return f"`{new}`" if isinstance(new, str) else _SEVERAL[old]


def _stands_in_measurement(key: Key) -> bool:
    """Whether a key of a stage has its default from the section ``measurement``."""
    section, *names = key
    shared = MeasurementConfig.model_fields.keys() - ({"rounds"} if section == "precheck" else set())
    return section in {"profile", "latency", "prune", "precheck"} and bool(names) and names[0] in shared


def main() -> None:
    """Write both files."""
    root = Path(__file__).parents[1]
    (root / PIPELINE_YAML).write_text(pipeline_yaml(), encoding="utf-8")
    (root / CONFIGURATION_MD).write_text(configuration_md(), encoding="utf-8")


if __name__ == "__main__":
    main()

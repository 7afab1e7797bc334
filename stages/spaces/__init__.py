"""Search spaces as package data: a YAML file each, and the way to load one (also the user's own)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError

from nasflow.errors import ConfigError, UsageError
from pipeline.artifact import Record
from stages.search_space import SearchSpace

FOLDER = Path(__file__).parent


class SpaceConfig(Record):
    """Which family of networks to search."""

    name: str = Field("fashion", description="a shipped space, or the path of a YAML file of your own")
    width_multiplier: float | None = Field(
        None, gt=0, le=8, description="scale all widths; unset: the space's"
    )
    resolution: int | None = Field(None, ge=8, le=1024, description="pixels; unset: the space's own")


def shipped_spaces() -> tuple[str, ...]:
    """Names of the spaces in the package."""
    return tuple(sorted(path.stem for path in FOLDER.glob("*.yaml")))


def load_space(config: SpaceConfig, base_dir: Path = Path()) -> SearchSpace:
    """The space that a configuration names; a path is relative to ``base_dir``. Raises UsageError."""
    import yaml

    is_path = config.name.endswith((".yaml", ".yml"))
    path = base_dir / config.name if is_path else FOLDER / f"{config.name}.yaml"
    if not path.is_file() or (not is_path and config.name not in shipped_spaces()):
        raise UsageError(
            f"space.name: there is no search space {config.name!r}.",
            hint=f"Shipped are {', '.join(shipped_spaces())}; a file of your own ends in .yaml.",
        )
    try:
        raw: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
        overrides = config.model_dump(exclude={"name"}, exclude_none=True)
        return SearchSpace.model_validate({**raw, **overrides} if isinstance(raw, dict) else raw)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is not YAML: {error}.", hint="Mend the file.") from error
    except OSError as error:
        raise UsageError(
            f"{path} cannot be read: {error.strerror}.", hint="Check its permissions."
        ) from error
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise ConfigError(
            f"{path}: {key or 'space'}: {first['msg']}, seen {first['input']!r:.80}.",
            source=str(path),
            key=key,
            value=first["input"],
            hint=f"See {FOLDER / 'fashion.yaml'} for an example.",
        ) from error

"""Search spaces as package data: a YAML file each, and the way to load one (also the user's own)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from nasflow.base.errors import ConfigError, UsageError
from pipeline.artifact import Record
from pipeline.config.loader import load_config
from stages.space.search_space import SearchSpace

FOLDER = Path(__file__).parent


class SpaceConfig(Record):
    """Which family of networks to search."""

    name: str = Field(
        "fashion",
        description="the family of networks: fashion, lite0, mobile_v3 or proxyless_mobile, or a YAML file "
        "of your own",
    )
    width_multiplier: float | None = Field(
        None,
        gt=0,
        le=8,
        examples=[1.0],
        description="make every network of the family wider or narrower; unset: as the space says",
    )
    resolution: Annotated[int, Field(ge=8, le=1024)] | Literal["auto"] | None = Field(
        None,
        examples=["auto"],
        description="pixels of the input image, in both directions; auto: as much as the images and the "
        "space have; unset: as the space says",
    )
    pretrained: str = Field(
        "auto",
        min_length=1,
        description="the weights from which networks start: auto (as the space says; of the shipped ones "
        "lite0 has some), none (random weights), or a YAML file that says which tensors of a weights file of "
        "your own are which",
    )


def shipped_spaces() -> tuple[str, ...]:
    """Names of the spaces in the package."""
    return tuple(sorted(path.stem for path in FOLDER.glob("*.yaml")))


def load_space(config: SpaceConfig, base_dir: Path = Path()) -> SearchSpace:
    """The space that a configuration names; a path is relative to ``base_dir``. Raises UsageError."""
    is_path = config.name.endswith((".yaml", ".yml"))
    path = base_dir / config.name if is_path else FOLDER / f"{config.name}.yaml"
    if not path.is_file() or (not is_path and config.name not in shipped_spaces()):
        raise UsageError(
            f"space.name: there is no search space {config.name!r}.",
            hint=f"Shipped are {', '.join(shipped_spaces())}; a file of your own ends in .yaml.",
        )
    try:
        space = load_config(SearchSpace, path)
    except ConfigError as error:
        example = f"See {FOLDER / 'fashion.yaml'} for an example."
        raise ConfigError(
            error.message,
            source=error.source,
            key=error.key,
            value=error.value,
            hint=f"{error.hint} {example}".strip(),
        ) from error
    changes = config.model_dump(exclude={"name", "pretrained"}, exclude_none=True)
    changed = _changed(space, {key: value for key, value in changes.items() if value != "auto"})
    return changed.model_copy(update={"pretrained": _weights(config, space, base_dir)})


def _weights(config: SpaceConfig, space: SearchSpace, base_dir: Path) -> str | None:
    if config.pretrained == "auto":
        return space.pretrained
    if config.pretrained == "none":
        return None
    if not config.pretrained.endswith((".yaml", ".yml")):
        raise UsageError(
            f"space.pretrained: {config.pretrained!r} is neither auto, none nor a YAML file.",
            hint="A YAML file names a weights file of your own, and which of its tensors are which.",
        )
    return str(base_dir / config.pretrained)


def space_for(
    config: SpaceConfig, base_dir: Path, *, classes: int, channels: int | None, natural_resolution: int
) -> SearchSpace:
    """The space for images of so many classes and channels, whose shorter side is ``natural_resolution``.

    ``channels``: None where images are read with as many as the space has. ``resolution: auto`` is the
    largest that the space can have without asking for more than its own, or more than the images show.
    Raises UsageError.
    """
    space = load_space(config, base_dir)
    changes: dict[str, Any] = {"classes": classes}
    if channels is not None:
        changes["input_channels"] = channels
    if config.resolution == "auto":
        most = min(space.resolution, natural_resolution)
        changes["resolution"] = max(space.total_stride, most // space.total_stride * space.total_stride)
    return _changed(space, changes)


def _changed(space: SearchSpace, changes: Mapping[str, Any]) -> SearchSpace:
    """The space with keys of the configuration's section in place of its own. Raises ConfigError."""
    try:
        return SearchSpace.model_validate({**space.model_dump(), **changes})
    except ValidationError as error:
        key, value = next(iter(changes.items()))
        reason = str(error.errors()[0]["msg"]).removeprefix("Value error, ")
        raise ConfigError(
            f"space {space.name} cannot take space.{key} = {value:g}: {reason}.",
            source=f"space.{key}",
            key=f"space.{key}",
            value=value,
            hint="Choose another value, or unset it (null) for the space's own.",
        ) from error

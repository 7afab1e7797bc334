"""No number of the configuration may be NaN or infinite, wherever it stands."""

from __future__ import annotations

from collections.abc import Iterator
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

import pytest
from pydantic import BaseModel

from nasflow.base.errors import ConfigError
from nasflow.config import PipelineConfig
from pipeline.config.loader import load_config


def numeric_keys(model: type[BaseModel], above: str = "") -> Iterator[tuple[str, bool]]:
    """Dotted names of all keys that hold numbers, and whether they hold a list of them."""
    for name, field in model.model_fields.items():
        key = f"{above}{name}"
        inner = set(_types(field.annotation))
        for kind in inner:
            # What stands in a list has no dotted name.
            if isinstance(kind, type) and issubclass(kind, BaseModel) and key != "target.further":
                yield from numeric_keys(kind, f"{key}.")
        if inner & {int, float}:
            yield key, get_origin(field.annotation) is tuple


def _types(annotation: Any) -> Iterator[Any]:
    if get_origin(annotation) in (Union, UnionType, tuple, Annotated):
        for part in get_args(annotation):
            yield from _types(part)
    else:
        yield annotation


KEYS = sorted(numeric_keys(PipelineConfig))


def test_the_keys_are_found_at_every_depth() -> None:
    assert {("seed", False), ("target.ratio", False), ("target.ms", False)} <= set(KEYS)
    assert ("baseline.widths", True) in KEYS
    assert len(KEYS) > 60


@pytest.mark.parametrize("value", [".nan", ".inf", "-.inf"])
def test_no_key_takes_nan_or_infinity(value: str) -> None:
    for key, is_list in KEYS:
        with pytest.raises(ConfigError) as caught:
            load_config(PipelineConfig, None, [f"{key}={f'[{value}]' if is_list else value}"])
        assert caught.value.exit_code == 2
        assert caught.value.key.startswith(key)
        assert key in caught.value.message


@pytest.mark.parametrize("value", [".nan", ".inf", "0", "-1", "{ratio: .nan}", "{ratio: -1}"])
def test_no_target_of_a_list_may_be_no_positive_number(value: str) -> None:
    with pytest.raises(ConfigError, match=r"target\.further"):
        load_config(PipelineConfig, None, [f"target.further=[0.1, {value}]"])


@pytest.mark.parametrize("key", ["target.ms", "target.ratio"])
@pytest.mark.parametrize("value", ["0", "-1", "-0.0", ".nan", ".inf", "soon", "true", "[1]"])
def test_a_target_that_is_no_positive_number_is_refused(key: str, value: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(PipelineConfig, None, [f"{key}={value}"])
    assert caught.value.exit_code == 2
    assert caught.value.key == key

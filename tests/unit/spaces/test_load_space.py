"""Search spaces from files: the shipped ones, one's own, and every way a file can be wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from nasflow.base.errors import ConfigError, UsageError
from stages.space import FOLDER, SpaceConfig, load_space, shipped_spaces
from stages.space.search_space import SearchSpace

OWN: dict[str, Any] = {
    "name": "own",
    "resolution": 32,
    "classes": 4,
    "stem": {"width": 8},
    "stages": [{"width": 8, "layers": 2}, {"width": 16, "layers": 1, "stride": 2}],
    "head_width": 32,
    "candidates": [{"kernel": 3, "expansion": 2}, {"kernel": 5, "expansion": 2}],
}


def own_space(folder: Path, **changes: Any) -> SearchSpace:
    (folder / "own.yaml").write_text(yaml.safe_dump(OWN | changes))
    return load_space(SpaceConfig(name="own.yaml"), folder)


@pytest.mark.parametrize("name", shipped_spaces())
def test_shipped_spaces_load_from_anywhere(name: str, tmp_path: Path) -> None:
    space = load_space(SpaceConfig(name=name), tmp_path)
    assert space.name == name
    assert space.size > 1000
    assert SearchSpace.model_validate_json(space.model_dump_json()) == space


def test_the_quick_starts_space_and_the_papers_are_shipped() -> None:
    assert {"fashion", "lite0", "mobile_v3", "proxyless_mobile"} <= set(shipped_spaces())
    assert SpaceConfig().name == "fashion"


def test_a_file_of_ones_own_is_relative_to_the_configuration(tmp_path: Path) -> None:
    space = own_space(tmp_path)
    assert (space.name, space.size) == ("own", 3 * 3 * 2)
    assert load_space(SpaceConfig(name=str(tmp_path / "own.yaml")), Path("/")) == space


def test_one_candidate_is_allowed(tmp_path: Path) -> None:
    space = own_space(tmp_path, candidates=[{"kernel": 3, "expansion": 2}])
    assert space.size == 2 * 2
    assert own_space(tmp_path, candidates=[{"kernel": 3, "expansion": 2}], skip=False).size == 1


def test_candidates_that_differ_in_squeeze_excite_or_activation_alone_are_several(tmp_path: Path) -> None:
    size = {"kernel": 3, "expansion": 2}
    space = own_space(
        tmp_path,
        candidates=[
            size,
            size | {"squeeze_excite": True},
            size | {"activation": "hswish"},
            size | {"squeeze_excite": True, "activation": "hswish"},
            size | {"kind": "fused", "activation": "hswish"},
        ],
    )
    assert space.size == 6 * 6 * 5
    assert len(space.distinct_blocks()) == 3 + 2 * 5
    assert [candidate.label for candidate in space.candidates] == [
        *("k3 e2", "k3 e2 SE", "k3 e2 HS", "k3 e2 SE HS", "fused k3 e2 HS")
    ]
    assert [space.layers()[0].label(i) for i in range(5)] == [c.label for c in space.candidates]
    with pytest.raises(ConfigError, match="listed twice"):
        own_space(tmp_path, candidates=[size, size | {"activation": "relu6", "squeeze_excite": False}])


def test_a_stage_may_have_candidates_of_its_own(tmp_path: Path) -> None:
    single = [{"kernel": 7, "expansion": 4}]
    stages = [{"width": 8, "layers": 2, "candidates": single}, {"width": 16, "layers": 1, "stride": 2}]
    space = own_space(tmp_path, stages=stages)
    first, second, third = space.layers()
    assert [first.label(i) for i in range(len(first.blocks))] == ["k7 e4", "skip"]
    assert first.blocks == second.blocks
    assert [third.label(i) for i in range(len(third.blocks))] == ["k3 e2", "k5 e2"]
    assert SearchSpace.model_validate_json(space.model_dump_json()) == space
    assert "candidates" not in own_space(tmp_path).model_dump()["stages"][0]


def test_the_largest_path_takes_the_block_of_most_parameters_and_never_skips(tmp_path: Path) -> None:
    space = own_space(tmp_path)
    assert space.largest_path() == (1, 1, 1)
    equal = [{"kernel": 3, "expansion": 2}, {"kernel": 3, "expansion": 2, "activation": "hswish"}]
    assert own_space(tmp_path, candidates=equal).largest_path() == (0, 0, 0)


def test_a_space_names_its_weights_and_the_configuration_may_name_others(tmp_path: Path) -> None:
    assert load_space(SpaceConfig(name="lite0")).pretrained == "efficientnet_lite0"
    assert load_space(SpaceConfig(name="lite0", pretrained="none")).pretrained is None
    assert load_space(SpaceConfig(name="fashion")).pretrained is None
    assert own_space(tmp_path, pretrained="efficientnet_lite0").pretrained == "efficientnet_lite0"
    own = SpaceConfig(name="lite0", pretrained="my-weights.yaml", resolution=96)
    space = load_space(own, tmp_path)
    assert (space.pretrained, space.resolution) == (str(tmp_path / "my-weights.yaml"), 96)
    with pytest.raises(UsageError, match=r"'weights\.pth' is neither auto, none nor a YAML file"):
        load_space(SpaceConfig(name="lite0", pretrained="weights.pth"), tmp_path)


def test_a_space_without_weights_is_written_as_before(tmp_path: Path) -> None:
    """So that fingerprints and stored documents stay as they were."""
    assert "pretrained" not in own_space(tmp_path).model_dump()
    assert "pretrained" not in load_space(SpaceConfig(name="lite0", pretrained="none")).model_dump()


def test_width_and_resolution_may_be_overridden(tmp_path: Path) -> None:
    own_space(tmp_path)
    space = load_space(SpaceConfig(name="own.yaml", width_multiplier=2.0, resolution=64), tmp_path)
    assert space.resolution == 64
    assert [layer.blocks[0].out_channels for layer in space.layers() if layer.blocks[0]] == [16, 16, 32]
    assert space.fixed_blocks()[1].out_channels == 64
    narrow = load_space(SpaceConfig(name="own.yaml", width_multiplier=0.1), tmp_path)
    assert {block.out_channels for block in narrow.distinct_blocks() if block.kind != "classifier"} == {8}


@pytest.mark.parametrize(
    "name", ["fashoin", "", "../spaces/fashion", "fashion.yml", "missing.yaml", "folder.yaml"]
)
def test_a_space_that_is_not_there_is_told_with_those_that_are(name: str, tmp_path: Path) -> None:
    (tmp_path / "folder.yaml").mkdir()
    with pytest.raises(UsageError, match="there is no search space") as caught:
        load_space(SpaceConfig(name=name), tmp_path)
    assert repr(name) in caught.value.message
    assert "fashion, lite0, mobile_v3, proxyless_mobile" in caught.value.hint


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"name: [", "line 2: this is not YAML"),
        (b"a: b: c", "line 1: this is not YAML"),
        (b"\xff\xfe\x00", "line 1: byte 0xff is not UTF-8"),
        (b"!!python/object:os.system {}", "line 1: the tag tag:yaml.org,2002:python"),
        (b"name: own\nresolution: 32\nname: other\n", "line 3: name: the key appears twice"),
    ],
)
def test_what_is_no_yaml_is_told(content: bytes, reason: str, tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_bytes(content)
    with pytest.raises(ConfigError, match=reason) as caught:
        load_space(SpaceConfig(name="own.yaml"), tmp_path)
    assert str(tmp_path / "own.yaml") in caught.value.message


@pytest.mark.parametrize(
    ("changes", "key", "message"),
    [
        (
            {"candidates": [{"kernel": 3, "expansion": 2, "stride": 2}]},
            "candidates[0].stride",
            "line 4: candidates\\[0\\].stride = 2: there is no such key",
        ),
        ({"candidates": [{"kernel": 4, "expansion": 2}]}, "candidates[0].kernel", "odd"),
        (
            {"candidates": [{"kind": "shuffle", "kernel": 3, "expansion": 2}]},
            "candidates[0].kind",
            "'mbconv' or 'fused'",
        ),
        (
            {"candidates": [{"kind": "fused", "kernel": 3, "expansion": 2, "squeeze_excite": True}]},
            "candidates[0].squeeze_excite",
            "behind a depthwise convolution; fused has none",
        ),
        (
            {"candidates": [{"kernel": 3, "expansion": 2, "squeeze_excite": 0.25}]},
            "candidates[0].squeeze_excite",
            "= 0.25: ",
        ),
        (
            {"candidates": [{"kernel": 3, "expansion": 2, "activation": "gelu"}]},
            "candidates[0].activation",
            "= \"gelu\": it should be 'relu6' or 'hswish'",
        ),
        (
            {
                "stages": [
                    {"width": 8, "layers": 1, "fixed": {"kernel": 3, "expansion": 1, "activation": "swish"}}
                ]
            },
            "stages[0].fixed.activation",
            "= \"swish\": it should be 'relu6' or 'hswish'",
        ),
        (
            {"stages": [{"width": 8, "layers": 1, "fixed": {"kernel": 3}}]},
            "stages[0].fixed.expansion",
            "it must be set",
        ),
        ({"width_multiplier": float("nan")}, "width_multiplier", "finite"),
        ({"width_multiplier": float("inf")}, "width_multiplier", "finite"),
        ({"head_width": float("inf")}, "head_width", "finite"),
        ({"candidates": []}, "candidates", "at least 1"),
        ({"candidates": [{"kernel": 3, "expansion": 2} for _ in range(2)]}, "", "listed twice"),
        (
            {"candidates": [{"kernel": 3, "expansion": 0}]},
            "candidates[0].expansion",
            "at least 1",
        ),
        ({"stages": []}, "stages", "at least 1"),
        ({"stages": [{"width": 8, "layers": 1, "candidates": []}]}, "stages[0].candidates", "at least 1"),
        (
            {
                "stages": [
                    {"width": 8, "layers": 1, "candidates": [{"kernel": 3, "expansion": 2} for _ in range(2)]}
                ]
            },
            "stages[0].candidates",
            "listed twice",
        ),
        (
            {
                "stages": [
                    {
                        "width": 8,
                        "layers": 1,
                        "fixed": {"kernel": 3, "expansion": 1},
                        "candidates": [{"kernel": 3, "expansion": 2}],
                    }
                ]
            },
            "stages[0]",
            "exclude each other",
        ),
        ({"stages": [{"width": 8, "layers": 1, "stride": 3}]}, "stages[0].stride", "1 or 2"),
        ({"stages": [{"width": 0, "layers": 1}]}, "stages[0].width", "at least 1"),
        ({"stages": [{"width": 64_000_000, "layers": 1}]}, "stages[0].width", "at most 16384"),
        ({"head_width": 64_000_000}, "head_width", "at most 16384"),
        ({"stem": {"width": 64_000_000}}, "stem.width", "at most 16384"),
        ({"stages": [{"width": 8, "layers": 0}]}, "stages[0].layers", "at least 1"),
        (
            {"stages": [{"width": 8, "layers": 1, "stride": 2} for _ in range(5)]},
            "",
            "not a multiple of the total stride 64",
        ),
        ({"resolution": 30}, "", "not a multiple of the total stride 4"),
        ({"classes": 1}, "classes", "at least 2"),
        ({"classes": "many"}, "classes", "whole number"),
        ({"name": "Own Space"}, "name", "match the pattern"),
        ({"widht": 3}, "widht", "no such key"),
        ({"stem": None}, "stem.width", "it must be set"),
    ],
)
def test_what_does_not_fit_is_told_by_file_and_key(
    changes: dict[str, Any], key: str, message: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        own_space(tmp_path, **changes)
    assert caught.value.key == key
    assert caught.value.source.partition(", line ")[0] == str(tmp_path / "own.yaml")
    assert str(tmp_path / "own.yaml") in caught.value.message
    assert str(FOLDER / "fashion.yaml") in caught.value.hint


@pytest.mark.parametrize("content", ["", "- a\n- b\n", "just text\n"])
def test_a_file_without_keys_is_told(content: str, tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text(content)
    with pytest.raises(ConfigError):
        load_space(SpaceConfig(name="own.yaml"), tmp_path)


def test_an_override_that_does_not_fit_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="resolution 30 is not a multiple of the total stride 8"):
        load_space(SpaceConfig(resolution=30))


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"stages": [{"width": 0, "layers": 2}]}, r"stages\[0\].width = 0: it should be at least 1"),
        ({"stages": [{"width": 8, "layers": 2, "stride": 3}]}, r"stages\[0\].stride = 3: it should be"),
        ({"candidates": [{"kernel": 4, "expansion": 2}]}, r"candidates\[0\].kernel = 4: a kernel's"),
    ],
)
def test_a_wrong_item_is_the_only_problem_of_its_list(
    tmp_path: Path, changes: dict[str, Any], key: str
) -> None:
    with pytest.raises(ConfigError, match=f"line [0-9]+: {key}") as caught:
        own_space(tmp_path, **changes)
    assert "problems" not in caught.value.message


def test_a_list_that_is_too_short_is_still_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"candidates.*at least 1 items"):
        own_space(tmp_path, candidates=[])

from __future__ import annotations

import time
from pathlib import Path
from typing import Literal

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import Field, PositiveFloat, field_validator, model_validator

from nasflow.base.errors import ConfigError
from pipeline.artifact import Record
from pipeline.config.loader import find_config, load_config
from pipeline.config.yaml_text import YamlProblem, parse_scalar, parse_yaml


class StageConfig(Record):
    width: int = 8


class SearchConfig(Record):
    epochs: int = Field(30, ge=1, le=500)
    learning_rate: float = Field(0.1, gt=0)
    method: Literal["proxyless", "random"] = "proxyless"
    target_ms: float | None = None
    size: int | tuple[int, int] = 3
    code: str = Field("a", pattern="^[a-z]+$")
    limits: tuple[PositiveFloat | StageConfig, ...] = ()

    @model_validator(mode="after")
    def _fits(self) -> SearchConfig:
        if self.method == "random" and self.epochs > 100:
            raise ValueError("epochs: a random search needs at most 100")
        return self


class TrainingConfig(Record):
    epochs: int = 5
    widths: tuple[float, ...] = (1.0,)


class DataConfig(Record):
    name: str = "fashion"
    folder: str | None = None
    flip: bool = True

    @field_validator("name")
    @classmethod
    def _known(cls, value: str) -> str:
        if value == "mnist":
            raise ValueError("that data set is too easy")
        return value


class Config(Record):
    seed: int = 0
    search: SearchConfig = SearchConfig()
    finetune: TrainingConfig = TrainingConfig()
    data: DataConfig = DataConfig()
    stages: tuple[StageConfig, ...] = ()
    factors: dict[str, float] = Field(default_factory=dict)
    extra: DataConfig | None = None


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "pipeline.yaml"


def load(file: Path, text: str | bytes, *overrides: str) -> Config:
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return load_config(Config, file, overrides)


def refused(file: Path, text: str | bytes, *overrides: str) -> ConfigError:
    started = time.process_time()
    with pytest.raises(ConfigError) as caught:
        load(file, text, *overrides)
    assert time.process_time() - started < 1.0
    assert caught.value.exit_code == 2
    return caught.value


# --- what is read ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["", "# nothing\n", "---\n", "null\n", "{}", "search:\n", "\ufeffseed: 0\n"])
def test_an_empty_file_or_section_means_the_defaults(file: Path, text: str) -> None:
    assert load(file, text) == Config()


def test_without_a_file_the_overrides_alone_count() -> None:
    config = load_config(Config, None, ["search.epochs=40", "data.folder=./images"])
    assert (config.search.epochs, config.data.folder) == (40, "./images")


def test_the_last_override_wins_over_earlier_ones_and_over_the_file(file: Path) -> None:
    config = load(file, "search:\n  epochs: 10\n  code: b\n", "search.epochs=20", "search.epochs=25")
    assert (config.search.epochs, config.search.code) == (25, "b")


@pytest.mark.parametrize(
    ("override", "key", "value"),
    [
        ("data.folder=a=b", ("data", "folder"), "a=b"),
        ("data.folder=", ("data", "folder"), None),
        ("data.folder=null", ("data", "folder"), None),
        ("data.flip=off", ("data", "flip"), False),
        ("search.learning_rate=1e-3", ("search", "learning_rate"), 0.001),
        ("finetune.widths=[0.5, 1]", ("finetune", "widths"), (0.5, 1.0)),
        ("search={epochs: 7}", ("search", "epochs"), 7),
        ("factors.new=2", ("factors", "new"), 2.0),
        ("extra.name=x", ("extra", "name"), "x"),
        (" seed = 3", ("seed",), 3),
        ('data.name="12"', ("data", "name"), "12"),
    ],
)
def test_an_override_is_read_as_yaml(override: str, key: tuple[str, ...], value: object) -> None:
    found: object = load_config(Config, None, [override])
    for part in key:
        found = found[part] if isinstance(found, dict) else getattr(found, part)
    assert found == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001),
        ("010", 10),
        ("1:30", "1:30"),
        ("no", "no"),
        ("2026-01-01", "2026-01-01"),
        ("0x10", "0x10"),
        ("-5", -5),
        (".5", 0.5),
        ("5.", 5.0),
        ("True", True),
        ("~", None),
        ("1_000", "1_000"),
        ("-.inf", float("-inf")),
        ("1.2.3", "1.2.3"),
        ("+", "+"),
        (".", "."),
        ("9" * 5000, float("inf")),
    ],
)
def test_scalars_are_read_as_people_expect(text: str, value: object) -> None:
    assert parse_scalar(text) == value
    assert parse_yaml(text).value == value


# --- what is refused ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "line", "key", "reason", "hint"),
    [
        ("search:\n  epochs: many\n", 2, "search.epochs", '"many": it should be a whole number', ""),
        ("search:\n  epochs: 3.5\n", 2, "search.epochs", "3.5: it should be a whole number", ""),
        ("search:\n  epochs: true\n", 2, "search.epochs", "true: it should be a number", ""),
        ("\n\nsearch: {epochs: 0}\n", 3, "search.epochs", "0: it should be at least 1", ""),
        ("search:\n  epochs: 501\n", 2, "search.epochs", "501: it should be at most 500", ""),
        ("search:\n  learning_rate: 0\n", 2, "search.learning_rate", "0: it should be greater than 0", ""),
        ("search:\n  learning_rate: .nan\n", 2, "search.learning_rate", "it should be a finite number", ""),
        ("search:\n  target_ms: soon\n", 2, "search.target_ms", '"soon": it should be a number', ""),
        (
            "search:\n  method: proxiless\n",
            2,
            "search.method",
            "it should be 'proxyless' or 'random'",
            "Did you mean proxyless?",
        ),
        ("search:\n  size: big\n", 2, "search.size", "a whole number, or it should be a list", ""),
        ("search:\n  code: A1\n", 2, "search.code", "it should match the pattern ^[a-z]+$", ""),
        ("search: 5\n", 1, "search", "5: it should be a section", ""),
        ("search: [1]\n", 1, "search", "[1]: it should be a section", ""),
        ("search:\n  method: random\n  epochs: 200\n", 1, "search", "a random search needs at most 100", ""),
        ("data:\n  name: 12\n", 2, "data.name", "12: it should be text", 'Put it in quotes: "12".'),
        ("data:\n  name: mnist\n", 2, "data.name", '"mnist": that data set is too easy', ""),
        ("data:\n  flip: perhaps\n", 2, "data.flip", "it should be true or false", ""),
        ("data:\n  name:\n", 2, "data.name", "null: it should be text", ""),
        ("finetune:\n  widths: 1\n", 2, "finetune.widths", "1: it should be a list", ""),
        (
            "finetune:\n  widths:\n  - 1\n  - wide\n",
            4,
            "finetune.widths[1]",
            '"wide": it should be a number',
            "",
        ),
        ("factors: {a: true}\n", 1, "factors.a", "true: it should be a number", ""),
        ("seed: 1\nseed: 2\n", 2, "seed", "appears twice; the first is in line 1", "Delete"),
        (
            "search:\n  epoch: 3\n",
            2,
            "search.epoch",
            "3: there is no such key",
            "Did you mean search.epochs?",
        ),
        ("serch:\n  epochs: 3\n", 1, "serch", "there is no such key", "Did you mean search?"),
        ("data:\n  epochs: 3\n", 2, "data.epochs", "no such key", "search.epochs or finetune.epochs?"),
        (
            "search:\n  zzz: 3\n",
            2,
            "search.zzz",
            "no such key",
            "Known keys in search: epochs, learning_rate",
        ),
        ("zzz: 3\n", 1, "zzz", "no such key", "Known keys at the top level: seed, search"),
        ("stages:\n- widht: 3\n", 2, "stages[0].widht", "no such key", "Did you mean stages[0].width?"),
        ("extra:\n  nam: x\n", 2, "extra.nam", "no such key", "Did you mean extra.name?"),
        ("search:\n\tepochs: 3\n", 2, "", "the line is indented with a tab", ""),
        ("data: {name: 'x}\n", 2, "", "this is not YAML", ""),
        ("search: &a {epochs: 3}\n", 1, "search", "anchors (&) and aliases (*) are not supported", ""),
        ("seed: *a\n", 1, "seed", "anchors (&) and aliases (*) are not supported", ""),
        ("*a : 1\n", 1, "", "is not text", ""),
        ("data: !!python/object/apply:os.system [id]\n", 1, "data", "the tag tag:yaml.org,2002:python", ""),
        ("seed: !secret x\n", 1, "seed", "the tag !secret is not supported", ""),
        ("1: 2\n", 1, "", "the key 1 is not text", "Put it in quotes"),
        ("? [1]\n: 2\n", 1, "", "the key is not text", ""),
        ("a: 1\n---\nb: 2\n", 2, "", "only one document is expected", ""),
        ("- 1\n", 1, "", "the file should contain sections", ""),
        ("seed\n", 1, "", "the file should contain sections", ""),
        ("seed: 1\n\ndata: \x00\n", 3, "", "a control character", ""),
        (b"seed: 1\ndata: \xff\n", 2, "", "byte 0xff is not UTF-8", "Save the file"),
        ("seed: 1\n".encode("utf-16"), 1, "", "is not UTF-8", ""),
    ],
)
def test_a_mistake_is_told_with_file_line_key_value_and_reason(
    file: Path, text: str | bytes, line: int, key: str, reason: str, hint: str
) -> None:
    error = refused(file, text)
    assert error.message.startswith(f"{file}, line {line}: {key}")
    assert reason in error.message
    assert error.key == key
    assert error.source == f"{file}, line {line}"
    assert hint in error.hint
    assert "\n" not in str(error)


@pytest.mark.parametrize(
    ("override", "reason", "hint"),
    [
        ("search.epoch=40", "there is no such key", "Did you mean search.epochs?"),
        ("serch.epochs=40", "serch = ", "Did you mean search?"),
        ("search.epochs=many", "it should be a whole number", ""),
        ("search.epochs=true", "it should be a number", ""),
        ("seed.x=3", 'seed = {"x": 3}: it should be a whole number', ""),
        ("search.epochs=[1", "this is not YAML", ""),
        ("search.epochs=&a 3", "anchors", ""),
        ("search.epochs", "not of the form KEY=VALUE", "For example"),
        ("=3", "not of the form KEY=VALUE", ""),
        ("a..b=3", "not of the form KEY=VALUE", ""),
        ("", "not of the form KEY=VALUE", ""),
    ],
)
def test_a_mistake_in_an_override_names_the_option(file: Path, override: str, reason: str, hint: str) -> None:
    error = refused(file, "search: {epochs: 3}\n", override)
    assert error.message.startswith(f"--set {override}: ")
    assert error.source == f"--set {override}"
    assert reason in error.message
    assert hint in error.hint


def test_keys_that_do_not_go_together_are_blamed_on_the_options_that_set_them(file: Path) -> None:
    error = refused(file, "search: {epochs: 200}\n", "seed=1", "search.method=random")
    assert error.message == "--set search.method=random: search: epochs: a random search needs at most 100."
    both = refused(file, "search:\n", "search.epochs=200", "search.method=random")
    assert both.message.startswith("--set search.epochs=200, --set search.method=random: search: epochs:")
    in_file = refused(file, "seed: 1\nsearch: {epochs: 200, method: random}\n", "seed=1")
    assert in_file.message == f"{file}, line 2: search: epochs: a random search needs at most 100."


def test_a_number_out_of_range_is_not_told_that_it_might_have_been_a_section(file: Path) -> None:
    error = refused(file, "search: {limits: [3, -1]}\n")
    assert error.message == f"{file}, line 1: search.limits[1] = -1: it should be greater than 0.0."


def test_an_override_below_a_single_value_is_told(file: Path) -> None:
    error = refused(file, "seed: 3\n", "seed.x=4")
    assert error.message == "--set seed.x=4: seed is a single value and has no keys of its own."


def test_all_mistakes_are_told_at_once(file: Path) -> None:
    error = refused(file, "serch: 1\nseed: x\ndata: {flip: 7}\n", "search.epochs=0")
    first, *rest = error.message.splitlines()
    assert first == "4 problems in the configuration:"
    assert rest == [
        f"  (1) {file}, line 1: serch = 1: there is no such key. Did you mean search?",
        f'  (2) {file}, line 2: seed = "x": it should be a whole number.',
        "  (3) --set search.epochs=0: it should be at least 1.",
        f"  (4) {file}, line 3: data.flip = 7: it should be true or false.",
    ]
    assert (error.key, error.value) == ("serch", 1)


def test_very_many_mistakes_are_counted_and_a_long_value_is_cut(file: Path) -> None:
    error = refused(file, "".join(f"k{i}: {'x' * 200}\n" for i in range(3000)))
    lines = error.message.splitlines()
    assert len(lines) == 12
    assert lines[-1] == "  and 2990 more."
    assert max(map(len, lines)) < 300


@pytest.mark.parametrize("text", ["a" * 1_100_000, "[" * 900_000, "{a: " * 200_000, "- " * 400_000])
def test_monstrous_files_are_refused_at_once(file: Path, text: str) -> None:
    error = refused(file, text)
    assert "larger than 1 MB" in error.message or "nested more than 40 levels" in error.message


def test_a_chain_of_aliases_never_grows(file: Path) -> None:
    bomb = "a0: &a0 [x]\n" + "".join(f"a{i}: &a{i} [{f'*a{i - 1}, ' * 9}]\n" for i in range(1, 30))
    assert "anchors" in refused(file, bomb).message


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("missing", "there is no such file"),
        ("folder", "this is a folder"),
        ("loop", "symbolic links"),
        ("nul", "cannot be a file's name"),
    ],
)
def test_a_file_that_cannot_be_read_is_a_configuration_error(tmp_path: Path, kind: str, reason: str) -> None:
    path = tmp_path / ("a\0b" if kind == "nul" else "pipeline.yaml")
    if kind == "folder":
        path.mkdir()
    elif kind == "loop":
        path.symlink_to(path)
    with pytest.raises(ConfigError, match=reason) as caught:
        load_config(Config, path)
    assert caught.value.exit_code == 2
    assert "pipeline.yaml" in caught.value.source or kind == "nul"


def test_a_file_without_read_permission_is_a_configuration_error(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(ConfigError, match="no permission to read it"):
        load_config(Config, file)


# --- finding it --------------------------------------------------------------------------------------------


def test_the_nearest_file_upwards_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    (tmp_path / "pipeline.yaml").write_text("")
    assert find_config(inner) == tmp_path / "pipeline.yaml"
    (tmp_path / "a" / "pipeline.yaml").write_text("")
    assert find_config(inner) == tmp_path / "a" / "pipeline.yaml"
    (inner / "pipeline.yaml").mkdir()
    monkeypatch.chdir(inner)
    assert find_config(Path()) == tmp_path / "a" / "pipeline.yaml"


def test_no_file_anywhere_is_none(tmp_path: Path) -> None:
    found = find_config(tmp_path)
    assert found is None or tmp_path not in found.parents


def test_a_folder_that_may_not_be_entered_is_passed_by(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pipeline.yaml").write_text("")
    (tmp_path / "closed").mkdir()
    ask = Path.is_file

    def refuse(path: Path) -> bool:
        if path.parent.name == "closed":
            raise PermissionError(13, "Permission denied")
        return ask(path)

    monkeypatch.setattr(Path, "is_file", refuse)
    assert find_config(tmp_path / "closed") == tmp_path / "pipeline.yaml"


# --- whatever people write ------------------------------------------------------------------------------

keys = st.sampled_from(
    ["seed", "search", "serch", "epochs", "data", "name", "stages", "factors", "extra", "", "on"]
)
scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6)
trees = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=4),
    max_leaves=12,
)
fixed = settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])


def loads_or_explains(path: Path | None, *overrides: str) -> None:
    try:
        assert isinstance(load_config(Config, path, overrides), Config)
    except ConfigError as error:
        assert error.message
        assert error.source


@fixed
@given(st.binary(max_size=80) | st.text("ab:&*!{}[]-?\t\n #'\"|>%@", max_size=60).map(str.encode))
def test_any_file_is_either_read_or_explained(file: Path, data: bytes) -> None:
    file.write_bytes(data)
    loads_or_explains(file)


@fixed
@given(trees)
def test_any_tree_is_either_read_or_explained(file: Path, tree: object) -> None:
    file.write_text(yaml.safe_dump(tree, allow_unicode=True), encoding="utf-8", errors="replace")
    loads_or_explains(file)


@fixed
@given(st.text(max_size=30) | st.tuples(keys, keys, scalars).map(lambda t: f"{t[0]}.{t[1]}={t[2]}"))
def test_any_override_is_either_read_or_explained(override: str) -> None:
    loads_or_explains(None, override)


@fixed
@given(st.dictionaries(st.text("abc_", min_size=1, max_size=5), scalars.filter(lambda x: x == x), max_size=5))
def test_quoted_and_plain_values_come_back(tree: dict[str, object]) -> None:
    text = yaml.safe_dump(tree)
    try:
        found = parse_yaml(text).value
    except YamlProblem as problem:
        assert "control character" in problem.reason or "Unicode" in problem.reason
    else:
        for name, value in tree.items():
            # The writer leaves text such as 1e3 unquoted, which YAML 1.1 reads as text.
            assert found[name] == value or found[name] == parse_scalar(str(value))

"""``--devices``: devices with runtime settings, as a list."""

from __future__ import annotations

import pytest

from nasflow.base.errors import UsageError
from nasflow.config import PipelineConfig
from nasflow.hardware_targets import labels, parse_targets
from pipeline.config.loader import load_config


def test_a_device_and_its_settings_make_a_configuration(tmp_path) -> None:  # type: ignore[no-untyped-def]
    file = tmp_path / "pipeline.yaml"
    file.write_text("seed: 3\n")
    targets = parse_targets(
        "local, local@threads=2@precision=int8,onnxruntime,android:127.0.0.1:5555@cpu=big"
    )
    assert [target.name for target in targets][1] == "local@threads=2@precision=int8"
    configs = [load_config(PipelineConfig, file, target.overrides) for target in targets]
    assert [config.device for config in configs] == [
        "local",
        "local",
        "onnxruntime",
        "android:127.0.0.1:5555",
    ]
    assert (configs[1].runtime.threads, configs[1].runtime.precision) == (2, "int8")
    assert configs[3].runtime.cpu == "big"
    assert labels(targets[:3]) == "local, local@threads=2@precision=int8 and onnxruntime"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("local", "names 1 device"),
        ("", "names 0 devices"),
        ("local,local", "names local twice"),
        ("local,local@cores=2", "'cores=2' in 'local@cores=2' is no setting"),
        ("local,local@threads", "'threads' in 'local@threads' is no setting"),
    ],
)
def test_what_is_no_list_of_devices_is_refused(text: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        parse_targets(text)

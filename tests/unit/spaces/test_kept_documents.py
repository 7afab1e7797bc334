"""Blocks of before squeeze-and-excite and h-swish: their documents, names and hashes are as they were."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pydantic import BaseModel, ValidationError
from support.sample_documents import sample_documents

from pipeline.artifact import canonical_json, document_bytes, sha256_hex
from stages.documents import TrainedNetworks
from stages.latency.exchange import LatencyFile
from stages.space import SpaceConfig, load_space
from stages.space.block_spec import BlockSpec
from stages.space.search_space import Candidate, NetConfig, SearchSpace

DATA = Path(__file__).parents[3] / "benchmarks" / "data"


def stored(document: BaseModel) -> object:
    return json.loads(document_bytes(document))


def test_a_block_without_them_is_written_as_it_always_was() -> None:
    fields = {"kind": "mbconv", "kernel": 3, "expansion": 6, "stride": 1}
    fields |= {"in_channels": 24, "out_channels": 24, "resolution": 16}
    block = BlockSpec.model_validate(fields)
    assert block.model_dump() == fields
    assert list(json.loads(block.model_dump_json())) == list(fields)
    assert block.key == "mbconv_k3_e6_s1_24-24_r16"
    assert (block.short_name, block.extras) == ("MBConv6 3x3", ())
    candidate = {"kind": "fused", "kernel": 3, "expansion": 1}
    assert Candidate.model_validate(candidate).model_dump() == candidate
    assert Candidate.model_validate(candidate).label == "fused k3 e1"


def test_what_they_add_is_written_read_and_named() -> None:
    fields = {"kind": "mbconv", "kernel": 5, "expansion": 6, "squeeze_excite": True, "activation": "hswish"}
    candidate = Candidate.model_validate(fields)
    assert stored(candidate) == fields
    assert candidate.label == "k5 e6 SE HS"
    block = BlockSpec(**fields, stride=2, in_channels=24, out_channels=40, resolution=56)
    assert BlockSpec.model_validate_json(block.model_dump_json()) == block
    assert block.key == "mbconv_k5_e6_se_hs_s2_24-40_r56"
    assert block.short_name == "MBConv6 5x5 SE HS"


@pytest.mark.parametrize(
    ("name", "digest"),
    [
        ("fashion", "0f735ec1c2f6936291b4b509da8a64cca3a5a171ed1235d8e9cb9d86c32200a3"),
        ("proxyless_mobile", "b07311ff8e596540ae015aa9022e19e9051d8f8368c5a897b73ba7650ee42123"),
    ],
)
def test_spaces_of_before_have_the_hash_that_they_had(name: str, digest: str) -> None:
    """It is in the fingerprints of whatever was measured, searched and trained."""
    space = load_space(SpaceConfig(name=name))
    net = space.network([0] * len(space.layers()))
    parts = [stored(space), stored(net), [block.key for block in space.distinct_blocks()]]
    assert sha256_hex(canonical_json(parts)) == digest


def test_a_stored_latency_file_is_the_same_when_it_is_written_again() -> None:
    content = json.loads((DATA / "tabular_space_latency.json").read_text(encoding="utf-8"))
    assert stored(LatencyFile.model_validate(content)) == content


def test_a_stored_search_space_is_the_same_when_it_is_written_again() -> None:
    head = json.loads((DATA / "tabular_space.jsonl").read_text(encoding="utf-8").splitlines()[0])
    assert stored(SearchSpace.model_validate(head["space"])) == head["space"]


@pytest.mark.parametrize("kind", ["stem", "head", "classifier"])
@pytest.mark.parametrize("extra", [{"squeeze_excite": True}, {"activation": "hswish"}])
def test_blocks_of_no_layer_have_neither(kind: str, extra: dict[str, object]) -> None:
    fields = {"kind": kind, "in_channels": 8, "out_channels": 8, "resolution": 4}
    BlockSpec.model_validate(fields | {"squeeze_excite": False, "activation": "relu6"})
    with pytest.raises(ValidationError, match=kind):
        BlockSpec.model_validate(fields | extra)


def test_a_network_that_has_them_is_read_as_it_was_written() -> None:
    space = load_space(SpaceConfig(name="mobile_v3"))
    net = space.network([0, *range(10), 2, 5, 9, 0])
    assert NetConfig.model_validate_json(net.model_dump_json()) == net
    assert SearchSpace.model_validate(stored(space)) == space


def test_trained_networks_of_version_0_1_are_read() -> None:
    trained = sample_documents()["baseline"]
    text = document_bytes(trained).decode()
    assert '"compute_cost":{' in text.replace(" ", "")
    assert TrainedNetworks.model_validate_json(text.replace('"compute_cost"', '"effort"')) == trained

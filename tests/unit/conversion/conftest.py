"""TensorFlow is slow to start: one child process serves all conversions of a test run."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from support.every_block import as_if_trained, every_kind_of_block

from android_bench.local.device import LocalDevice
from stages.conversion.chain import convert_network
from stages.conversion.converter import TensorflowConverter
from stages.conversion.edges import Steps
from stages.conversion.flatbuffer import Implementations
from stages.data.config import DataConfig, open_dataset
from stages.data.grey import GreyImages
from stages.nn.network import Network
from stages.space.mobilenet_v2 import mobilenet_v2
from stages.space.search_space import NetConfig


@dataclass(frozen=True)
class Converted:
    """A network before and after."""

    net: NetConfig
    module: Network
    model: bytes
    steps: Steps


@pytest.fixture(scope="session")
def converter() -> Iterator[TensorflowConverter]:
    with TensorflowConverter() as running:
        yield running


@pytest.fixture(scope="session")
def here() -> Iterator[LocalDevice]:
    with LocalDevice() as device:
        yield device


@pytest.fixture(scope="session")
def validation_images() -> GreyImages:
    return open_dataset(DataConfig()).load("choice")


def _converted(net: NetConfig, converter: TensorflowConverter) -> Converted:
    module = as_if_trained(Network(net))
    ways: Implementations = {block.key: "native" for block in net.blocks}
    steps = convert_network(module, converter, ways, name="trial")
    return Converted(net, module, steps.tflite, steps)


@pytest.fixture(scope="session")
def mobilenet(converter: TensorflowConverter) -> Converted:
    return _converted(mobilenet_v2(resolution=32, classes=10, width=0.35), converter)


@pytest.fixture(scope="session")
def all_blocks(converter: TensorflowConverter) -> Converted:
    return _converted(every_kind_of_block(), converter)

"""A network written natively in Keras and converted by TFLiteConverter, in a process of its own.

``python -m benchmarks._keras_networks``: reads one request for each line of standard input, ``{"net": PATH,
"weights": PATH, "tflite": PATH}``, writes the model and answers with the seconds that the conversion took.
The network is what people write: convolution, batch normalisation, ReLU6, padding SAME, a softmax at the end.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from stages.conversion.converter import QUIET
from stages.space.block_spec import BlockSpec
from stages.space.search_space import NetConfig

if TYPE_CHECKING:
    from stages.nn.network import Network

_EPSILON = 1e-3


class KerasConverter:
    """The process, which loads TensorFlow on entry; a context manager."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._child: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        self._child = subprocess.Popen(
            [sys.executable, "-P", "-m", __name__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={**os.environ, **QUIET},
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        assert self._child is not None
        self._child.kill()
        self._child.communicate()

    def convert(self, network: Network) -> tuple[bytes, float]:
        """The `.tflite` model of the same network with the same weights, and its conversion's seconds."""
        assert self._child is not None
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        files = {part: self._folder / f"keras.{part}" for part in ("net", "weights", "tflite")}
        files["net"].write_text(network.net.model_dump_json())
        with files["weights"].open("wb") as file:
            np.savez(file, *weights_in_order(network))
        print(
            json.dumps({name: str(path) for name, path in files.items()}), file=self._child.stdin, flush=True
        )
        line = self._child.stdout.readline()
        if not line:
            raise RuntimeError(f"the Keras process ended with {self._child.wait()}")
        return files["tflite"].read_bytes(), float(json.loads(line)["seconds"])


def weights_in_order(network: Network) -> list[NDArray[np.float32]]:
    """Weights in Keras' layouts, in the order in which a network's layers compute."""
    from torch import nn

    from stages.nn.blocks import DepthwiseConv2d

    found: list[Any] = []
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            depthwise = isinstance(module, DepthwiseConv2d)
            found.append(module.weight.permute((2, 3, 0, 1) if depthwise else (2, 3, 1, 0)))
        elif isinstance(module, nn.BatchNorm2d):
            found += [module.weight, module.bias, module.running_mean, module.running_var]
        elif isinstance(module, nn.Linear):
            found += [module.weight.T, module.bias]
    return [tensor.detach().contiguous().numpy() for tensor in found]


def main() -> None:
    """Serve requests until standard input ends."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    import tensorflow as tf

    for line in sys.stdin:
        request = json.loads(line)
        net = NetConfig.model_validate_json(Path(request["net"]).read_bytes())
        with np.load(request["weights"]) as weights:
            model = _keras_model(net, [weights[f"arr_{index}"] for index in range(len(weights.files))])
        began = time.perf_counter()
        converted = tf.lite.TFLiteConverter.from_keras_model(model).convert()
        seconds = time.perf_counter() - began
        Path(request["tflite"]).write_bytes(converted)
        print(json.dumps({"seconds": seconds}), file=answers, flush=True)


def _keras_model(net: NetConfig, weights: Sequence[NDArray[np.float32]]) -> Any:
    import tensorflow as tf

    made: list[Any] = []

    def layer(found: Any) -> Any:
        made.append(found)
        return found

    def convolved(x: Any, channels: int, kernel: int, stride: int, *, activated: bool) -> Any:
        shape = {"strides": stride, "padding": "same", "use_bias": False}
        return normalised(layer(tf.keras.layers.Conv2D(channels, kernel, **shape))(x), activated=activated)

    def normalised(x: Any, *, activated: bool) -> Any:
        x = layer(tf.keras.layers.BatchNormalization(epsilon=_EPSILON))(x)
        return tf.keras.layers.ReLU(max_value=6.0)(x) if activated else x

    def blocked(x: Any, block: BlockSpec) -> Any:
        if block.kind in ("stem", "head"):
            return convolved(x, block.out_channels, block.kernel, block.stride, activated=True)
        if block.kind != "mbconv" or block.squeeze_excite or block.hswish:
            raise ValueError(f"{block.key} is not written in Keras here")
        y = convolved(x, block.hidden_channels, 1, 1, activated=True) if block.expansion > 1 else x
        depthwise = tf.keras.layers.DepthwiseConv2D(
            block.kernel, strides=block.stride, padding="same", use_bias=False
        )
        y = normalised(layer(depthwise)(y), activated=True)
        y = convolved(y, block.out_channels, 1, 1, activated=False)
        return tf.keras.layers.Add()([x, y]) if block.residual else y

    image = tf.keras.Input((net.resolution, net.resolution, net.input_channels), batch_size=1)
    x = image
    for block in net.blocks[:-1]:
        x = blocked(x, block)
    x = tf.keras.layers.GlobalAveragePooling2D()(x)
    x = layer(tf.keras.layers.Dense(net.classes, activation="softmax"))(x)
    arrays = iter(weights)
    for one in made:
        one.set_weights([next(arrays) for _ in one.get_weights()])
    return tf.keras.Model(image, x)


if __name__ == "__main__":
    main()

"""SAME padding as TensorFlow defines it, against a convolution written out by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch.utils._python_dispatch import TorchDispatchMode

from stages.nn.blocks import SameConv2d

SIZES, STRIDES, KERNELS = (4, 5, 7, 8, 9, 16), (1, 2), (1, 3, 5, 7)


def same_padding(size: int, stride: int, kernel: int) -> tuple[int, int]:
    """Zeros before and after, by the rule in TensorFlow's documentation of ``tf.nn``."""
    total = max(kernel - (stride if size % stride == 0 else size % stride), 0)
    return total // 2, total - total // 2


def convolved(
    x_HWC: NDArray[np.float64], weight_OIHW: NDArray[np.float64], stride: int
) -> NDArray[np.float64]:
    kernel = weight_OIHW.shape[2]
    pads = [same_padding(size, stride, kernel) for size in x_HWC.shape[:2]]
    padded = np.pad(x_HWC, (*pads, (0, 0)))
    rows, columns = (range(0, padded.shape[axis] - kernel + 1, stride) for axis in (0, 1))
    windows = [[padded[r : r + kernel, c : c + kernel] for c in columns] for r in rows]
    return np.einsum("rchwi,oihw->rco", np.asarray(windows), weight_OIHW)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("stride", STRIDES)
@pytest.mark.parametrize("size", SIZES)
def test_padding_is_tensorflows(size: int, stride: int, kernel: int) -> None:
    random = np.random.default_rng(0)
    x_HWC, weight_OIHW = random.normal(size=(size, size, 2)), random.normal(size=(3, 2, kernel, kernel))
    layer = SameConv2d(2, 3, kernel, stride, size).double()
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(weight_OIHW))
        seen = layer(torch.from_numpy(x_HWC).permute(2, 0, 1)[None])[0].permute(1, 2, 0).numpy()
    assert seen.shape[0] == -(-size // stride)
    np.testing.assert_allclose(seen, convolved(x_HWC, weight_OIHW, stride), atol=1e-12)


def test_even_padding_would_compute_something_else() -> None:
    x_NCHW = torch.arange(64.0).reshape(1, 1, 8, 8)
    layer = SameConv2d(1, 1, 3, 2, 8)
    evenly = torch.nn.functional.conv2d(x_NCHW, layer.weight, stride=2, padding=1)
    assert evenly.shape == layer(x_NCHW).shape
    assert not torch.allclose(evenly, layer(x_NCHW))


class Convolutions(TorchDispatchMode):
    """Collects ``(kernel, stride)`` of every convolution that is computed."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[int, int]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten.convolution.default:
            self.seen.append((args[1].shape[-1], args[3][0]))
        return func(*args, **(kwargs or {}))


def test_no_strided_1x1_convolution_is_trained_because_onednn_writes_past_its_buffer() -> None:
    x_NCHW = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0)).double()
    layer = SameConv2d(4, 8, 1, 2, 8).double()
    with Convolutions() as trained:
        seen_NCHW = layer(x_NCHW)
    with Convolutions() as judged:
        expected_NCHW = layer.eval()(x_NCHW)
    assert (trained.seen, judged.seen) == ([(1, 1)], [(1, 2)])
    torch.testing.assert_close(seen_NCHW, expected_NCHW)
    gradients = [torch.autograd.grad(y.square().sum(), layer.weight)[0] for y in (seen_NCHW, expected_NCHW)]
    torch.testing.assert_close(*gradients)

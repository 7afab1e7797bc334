"""PyTorch's weights as :mod:`stages.conversion.flatbuffer` takes them (BN folded, NHWC), and back."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from stages.nn.blocks import Classifier, DepthwiseConv2d, MBConv, SqueezeExcite
from stages.nn.network import Network
from stages.space.block_spec import BlockSpec

# By whether the block expands.
_NAMES = {False: ("depthwise", "project"), True: ("expand", "depthwise", "project")}
_FUSED_NAMES = {False: ("conv",), True: ("expand", "project")}


def folded_weights(network: Network) -> dict[str, NDArray[np.float32]]:
    """Weights by name, in TFLite's layouts; computed in double precision, rounded once.

    ``network_model(network.net, folded_weights(network))`` computes what ``network.eval()`` does.
    """
    weights: dict[str, NDArray[np.float32]] = {}
    for index, (block, module) in enumerate(zip(network.net.blocks, network.blocks, strict=True)):
        for name, (weight, bias) in _layers(block, module).items():
            weights[f"blocks.{index}.{name}.weight"] = _float32(weight)
            weights[f"blocks.{index}.{name}.bias"] = _float32(bias)
    return weights


def _layers(block: BlockSpec, module: nn.Module) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    return {name: _weight_and_bias(layer) for name, layer in _modules(block, module).items()}


def _modules(block: BlockSpec, module: nn.Module) -> dict[str, nn.Module]:
    """A block's parts with weights: convolution and BN, a convolution alone, or the dense layer."""
    if isinstance(module, Classifier):
        return {"dense": module.dense}
    if isinstance(module, MBConv):
        names = _FUSED_NAMES if block.kind == "fused" else _NAMES
        gates = [part for part in module.layers if isinstance(part, SqueezeExcite)]
        others = [part for part in module.layers if not isinstance(part, SqueezeExcite)]
        found: dict[str, nn.Module] = dict(zip(names[block.expansion > 1], others, strict=True))
        for gate in gates:
            found |= {"squeeze": gate.squeeze, "excite": gate.excite}
        return found
    return {"conv": module}


def _weight_and_bias(layer: nn.Module) -> tuple[torch.Tensor, torch.Tensor]:
    if isinstance(layer, nn.Linear):
        return layer.weight, layer.bias
    return _pointwise(layer) if isinstance(layer, nn.Conv2d) else _fold(layer)


def load_folded(
    module: nn.Module, weights: Mapping[str, NDArray[np.float32]], block: BlockSpec | None = None
) -> None:
    """Let a network compute with weights in TFLite's layouts: what :func:`folded_weights` would give.

    BN is left to add the bias. With ``block``, ``module`` is that block alone and ``weights`` are those of a
    chain that holds nothing else.
    """
    blocks = [(block, module)] if block is not None else []
    if isinstance(module, Network):
        blocks = list(zip(module.net.blocks, module.blocks, strict=True))
    with torch.no_grad():
        for index, (spec, part) in enumerate(blocks):
            for name, layer in _modules(spec, part).items():
                kernel = torch.from_numpy(weights[f"blocks.{index}.{name}.weight"])
                bias = torch.from_numpy(weights[f"blocks.{index}.{name}.bias"])
                _unfold(layer, kernel, bias)


def _unfold(layer: nn.Module, kernel: torch.Tensor, bias: torch.Tensor) -> None:
    if isinstance(layer, nn.Sequential):
        convolution, norm = layer[0], layer[1]
        assert isinstance(convolution, nn.Conv2d)
        assert isinstance(norm, nn.BatchNorm2d)
        assert norm.running_mean is not None
        assert norm.running_var is not None
        depthwise = isinstance(convolution, DepthwiseConv2d)
        convolution.weight.copy_(kernel.permute((3, 0, 1, 2) if depthwise else (0, 3, 1, 2)))
        norm.weight.fill_(1.0)
        norm.running_mean.zero_()
        norm.running_var.fill_(1.0 - norm.eps)
        norm.bias.copy_(bias)
    elif isinstance(layer, nn.Conv2d | nn.Linear):
        layer.weight.copy_(kernel.permute(0, 3, 1, 2) if kernel.ndim == 4 else kernel)
        assert layer.bias is not None
        layer.bias.copy_(bias)


def _fold(conv_bn: nn.Module) -> tuple[torch.Tensor, torch.Tensor]:
    """Kernel and bias of a convolution with its BN: OHWI, or 1HWC where it is depthwise."""
    assert isinstance(conv_bn, nn.Sequential)
    convolution, norm = conv_bn[0], conv_bn[1]
    assert isinstance(convolution, nn.Conv2d)
    assert isinstance(norm, nn.BatchNorm2d)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = norm.weight.double() / (norm.running_var.double() + norm.eps).sqrt()
    weight_OIHW = convolution.weight.double() * scale[:, None, None, None]
    bias = norm.bias.double() - norm.running_mean.double() * scale
    depthwise = isinstance(convolution, DepthwiseConv2d)
    return weight_OIHW.permute((1, 2, 3, 0) if depthwise else (0, 2, 3, 1)), bias


def _pointwise(convolution: nn.Conv2d) -> tuple[torch.Tensor, torch.Tensor]:
    """Kernel (OHWI) and bias of a convolution without BN."""
    assert convolution.bias is not None
    return convolution.weight.permute(0, 2, 3, 1), convolution.bias


def _float32(tensor: torch.Tensor) -> NDArray[np.float32]:
    return np.ascontiguousarray(tensor.detach().cpu().numpy(), np.float32)

"""How much memory training takes: counted with two images, and not by a step that would have to fit.

The tensors that autograd keeps of a forward pass of two images for the backward pass are added up, and taken
for the whole batch. What is learned comes on top: weights, gradients, momentum, averaged weights. Not
counted: PyTorch itself, the images that wait, and what an operator or a checkpoint needs for a moment.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from stages.nn.network import Network
from stages.space.search_space import NetConfig
from stages.training.recipe import Recipe
from stages.training.runtime import Precision

PROBED_IMAGES = 2
_FLOAT = 4
_COPIES_OF_A_NETWORK = 5
"""Weights, gradients, momentum, averaged weights, and those of the best epoch."""


@dataclass(frozen=True)
class StepMemory:
    """Bytes at the highest point of a step.

    ``learned``: weights and what belongs to them, whatever the batch. ``activations``: what the backward pass
    of the whole batch needs.
    """

    learned: int
    activations: int

    @property
    def peak(self) -> int:
        """Both together."""
        return self.learned + self.activations


def network_memory(net: NetConfig, recipe: Recipe) -> StepMemory:
    """Of training one network by a recipe."""
    network = Network(net)
    x_NCHW, labels_N = probed_batch(net.input_channels, net.resolution)
    kept = kept_bytes(network, lambda: nn.functional.cross_entropy(network(x_NCHW), labels_N))
    learned = _COPIES_OF_A_NETWORK * _FLOAT * parameters_of(network)
    images = -(-recipe.batch_size // recipe.parts)
    return StepMemory(learned, activation_bytes(kept, images, recipe.precision))


def probed_batch(channels: int, resolution: int) -> tuple[Tensor, Tensor]:
    """Two images (N, C, H, W), channels last, and their labels (N,)."""
    x_NCHW = torch.zeros(PROBED_IMAGES, channels, resolution, resolution)
    return x_NCHW.contiguous(memory_format=torch.channels_last), torch.zeros(PROBED_IMAGES, dtype=torch.int64)


def kept_bytes(module: nn.Module, forward: Callable[[], Tensor]) -> int:
    """What a forward pass leaves in memory for its backward pass, without the module's own tensors."""
    module.train()
    own = {_storage(t) for t in (*module.parameters(), *module.buffers())}
    kept: dict[int, torch.UntypedStorage] = {}  # held, so that no other one gets its address

    def keep(tensor: Tensor) -> Tensor:
        if (storage := _storage(tensor)) not in own:
            kept[storage] = tensor.untyped_storage()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        forward()
    return sum(storage.nbytes() for storage in kept.values())


def activation_bytes(kept: int, images: int, precision: Precision) -> int:
    """What ``images`` keep, where two in float32 keep so much: of bfloat16 most tensors are half as large."""
    whole = kept * images // PROBED_IMAGES
    return whole // 2 if precision == "bf16" else whole


def parameters_of(module: nn.Module) -> int:
    """Trainable numbers."""
    return sum(parameter.numel() for parameter in module.parameters())


def _storage(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()

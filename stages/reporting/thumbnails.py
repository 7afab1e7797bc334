"""Small copies of test images, as text that stands inside a page."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from stages.documents import SureAnswer, Verification

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from stages.data.dataset import Images

_SIDE = 96
"""Pixels of a copy's side, at most: twice what the page shows, for fine screens."""
_LOSSLESS_SIDE = 48
"""Up to here a copy is as small without loss."""


@dataclass(frozen=True)
class Thumbnail:
    """One image: ``uri`` holds it all; ``label`` and ``answer`` are names of classes."""

    uri: str
    number: int
    label: str
    answer: str
    percent: float

    @property
    def words(self) -> str:
        """What is said in the image's place."""
        said = f"Test image {self.number} of class {self.label}, answered "
        return f"{said}{'rightly' if self.label == self.answer else self.answer}, {self.percent:.1f} % sure"


@dataclass(frozen=True)
class Thumbnails:
    """The images on which the found network is surest."""

    right: tuple[Thumbnail, ...]
    wrong: tuple[Thumbnail, ...]


def thumbnails(verification: Verification, test: Images, names: Sequence[str]) -> Thumbnails:
    """Copies of the images that ``verify`` named. ``names``: the classes'; ``test``: the same test images.

    Raises what reading an image raises.
    """

    def copied(answers: Sequence[SureAnswer]) -> tuple[Thumbnail, ...]:
        import numpy as np

        if not answers:
            return ()
        pixels_NHWC = test.batch_NHWC(np.array([one.image for one in answers], np.int64))
        return tuple(
            Thumbnail(
                uri=_uri(pixels_HWC),
                number=one.image + 1,
                label=names[one.label],
                answer=names[one.answer],
                percent=100 * one.probability,
            )
            for one, pixels_HWC in zip(answers, pixels_NHWC, strict=True)
        )

    return Thumbnails(copied(verification.surest_right), copied(verification.surest_wrong))


def _uri(pixels_HWC: NDArray[np.float32]) -> str:
    """A data URI of pixels as a network takes them: -1..1."""
    import numpy as np
    from PIL import Image

    bytes_HWC = np.rint(pixels_HWC * 127.5 + 127.5).clip(0, 255).astype(np.uint8)
    image = Image.fromarray(bytes_HWC[..., 0] if bytes_HWC.shape[-1] == 1 else bytes_HWC)
    if max(image.size) > _SIDE:
        image.thumbnail((_SIDE, _SIDE))
    kind = "PNG" if max(image.size) <= _LOSSLESS_SIDE else "JPEG"
    content = io.BytesIO()
    image.save(content, kind, **({"quality": 85} if kind == "JPEG" else {"optimize": True}))
    return f"data:image/{kind.lower()};base64,{base64.b64encode(content.getvalue()).decode('ascii')}"

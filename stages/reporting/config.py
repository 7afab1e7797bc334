"""What a report shows."""

from __future__ import annotations

from pydantic import Field

from pipeline.artifact import Record


class ReportConfig(Record):
    """What ``report.html`` shows beside the figures."""

    images: bool | None = Field(
        None,
        examples=[True],
        description="show small copies of the test images on which the found network is surest, right and "
        "wrong; they are inside report.html, without the files' names. Unset: of public data sets, and not "
        "of a folder of your own",
    )

    def shows_images(self, *, own: bool) -> bool:
        """Whether test images are shown; ``own``: they lie in a folder of the user's."""
        return not own if self.images is None else self.images

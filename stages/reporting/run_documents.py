"""The documents of a whole run, by name and type."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Self

from nasflow.base.errors import UsageError
from pipeline.artifact import Document
from stages.documents import (
    ConvertedNetwork,
    ConvertedNetworks,
    LatencyModel,
    LatencyTable,
    PrunedNetworks,
    SearchResult,
    TrainedNetworks,
    Verification,
    VerifiedNetwork,
)


@dataclass(frozen=True)
class RunDocuments:
    """What every stage of a finished run left; the fields are the stages' names."""

    profile: LatencyTable
    latency: LatencyModel
    search: SearchResult
    prune: PrunedNetworks
    finetune: TrainedNetworks
    baseline: TrainedNetworks
    convert: ConvertedNetworks
    verify: Verification

    @classmethod
    def of(cls, documents: Mapping[str, Document]) -> Self:
        """Sort documents by their stage. Raises UsageError where one is missing."""
        names = [field.name for field in fields(cls)]
        if missing := [name for name in names if name not in documents]:
            raise UsageError(
                f"there is nothing to report yet from {', '.join(missing)}.",
                hint="Finish the run first: nasflow run.",
            )
        return cls(**{name: documents[name] for name in names})  # type: ignore[arg-type]

    @property
    def found(self) -> VerifiedNetwork:
        """The found network's figures."""
        return next(network for network in self.verify.networks if network.role == "found")

    @property
    def reference(self) -> VerifiedNetwork:
        """The figures of the network that the found one is compared with."""
        return next(network for network in self.verify.networks if network.name == self.verify.reference)

    @property
    def found_conversion(self) -> ConvertedNetwork:
        """The found network's `.tflite` file and its checks."""
        return next(network for network in self.convert.networks if network.role == "found")

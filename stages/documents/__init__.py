"""What flows from stage to stage. Every document is described field by field in artifacts/README.md."""

from __future__ import annotations

from stages.documents.conversion import (
    ConversionCheck,
    ConvertedNetwork,
    ConvertedNetworks,
    Edge,
    EdgeCheck,
    ModelFile,
)
from stages.documents.folds import ArchitectureAgreement, CrossValidation, FoldFigures, PooledNetwork
from stages.documents.images import ClassImages, ImagesReport
from stages.documents.latency import (
    HeldOutError,
    LatencyModel,
    LatencyTable,
    Precheck,
    PrecheckedNetwork,
    Prediction,
    PredictionPoint,
    ReferenceLatency,
    TableCheck,
    TableRow,
    Timing,
)
from stages.documents.origin import ComputeCost, MadeBy, MadeByAll, Origin, Precision, PretrainedFrom, Role
from stages.documents.search import (
    ConsideredNetwork,
    PathEvaluations,
    PrunedNetwork,
    PrunedNetworks,
    SearchEpoch,
    SearchResult,
    TargetProbabilities,
)
from stages.documents.training import EpochPoint, TrainedNetwork, TrainedNetworks
from stages.documents.verification import (
    AgainstFound,
    AgainstRandom,
    FoundLatency,
    Verdict,
    Verification,
    VerifiedNetwork,
)

__all__ = [
    "AgainstFound",
    "AgainstRandom",
    "ArchitectureAgreement",
    "ClassImages",
    "ComputeCost",
    "ConsideredNetwork",
    "ConversionCheck",
    "ConvertedNetwork",
    "ConvertedNetworks",
    "CrossValidation",
    "Edge",
    "EdgeCheck",
    "EpochPoint",
    "FoldFigures",
    "FoundLatency",
    "HeldOutError",
    "ImagesReport",
    "LatencyModel",
    "LatencyTable",
    "MadeBy",
    "MadeByAll",
    "ModelFile",
    "Origin",
    "PathEvaluations",
    "PooledNetwork",
    "Precheck",
    "PrecheckedNetwork",
    "Precision",
    "Prediction",
    "PredictionPoint",
    "PretrainedFrom",
    "PrunedNetwork",
    "PrunedNetworks",
    "ReferenceLatency",
    "Role",
    "SearchEpoch",
    "SearchResult",
    "TableCheck",
    "TableRow",
    "TargetProbabilities",
    "Timing",
    "TrainedNetwork",
    "TrainedNetworks",
    "Verdict",
    "Verification",
    "VerifiedNetwork",
]

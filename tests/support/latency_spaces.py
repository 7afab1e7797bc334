"""Search spaces to learn latencies of."""

from __future__ import annotations

from stages.space.search_space import Candidate, SearchSpace, StageSpec, StemSpec

SPACE = SearchSpace(
    name="latency_test",
    resolution=32,
    classes=10,
    stem=StemSpec(width=16, stride=2),
    stages=(
        StageSpec(width=16, layers=1, fixed=Candidate(kernel=3, expansion=1)),
        StageSpec(width=24, layers=2),
        StageSpec(width=32, layers=2, stride=2),
        StageSpec(width=64, layers=2, stride=2),
    ),
    head_width=64,
    candidates=tuple(Candidate(kernel=k, expansion=e) for k in (3, 5) for e in (3, 6)),
)
TINY = SearchSpace(
    name="tiny",
    resolution=16,
    classes=4,
    stem=StemSpec(width=8, stride=2),
    stages=(StageSpec(width=8, layers=2), StageSpec(width=16, layers=1, stride=2)),
    head_width=16,
    candidates=(Candidate(kernel=3, expansion=2), Candidate(kernel=5, expansion=2)),
)

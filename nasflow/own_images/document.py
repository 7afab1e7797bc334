"""``nasflow data check``'s findings as plain data, for ``--json``: all of them."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from typing import Any

from nasflow.own_images.findings import Findings
from nasflow.own_images.words import imbalance
from stages.data.names import shown
from stages.verification.power import what_can_be_shown


def as_document(findings: Findings) -> dict[str, Any]:
    """Facts and codes; names of files as they can be printed."""
    inventory, listing = findings.inventory, findings.inventory.listing
    counts, classes = findings.counts(), findings.parts_of_classes()
    readable = [image for image in findings.readable if image.width and image.height]
    sides = sorted(min(image.width or 0, image.height or 0) for image in readable)
    splitting, problem = findings.splitting, findings.problem

    def path(number: int) -> str:
        return shown(inventory.images[number].path)

    return {
        "path": shown(findings.where),
        "layout": listing.layout,
        "images": len(listing.images),
        "classes": [{"name": name, **_plain(of)} for name, of in classes.items()],
        "parts": dict(counts) if counts is not None else None,
        "shared_choice": splitting.shared if splitting is not None else None,
        "left_out": dict(Counter(splitting.left_out.values())) if splitting is not None else None,
        "formats": dict(Counter(image.format for image in readable)),
        "shorter_side_pixels": _spread(sides),
        "small": [shown(image.path) for image in findings.small],
        "long": [shown(image.path) for image in findings.long],
        "size_bytes": _spread(sorted(image.size_bytes for image in readable)),
        "ignored": [shown(name) for name in listing.ignored],
        "to_convert": [shown(name) for name in listing.to_convert],
        "broken": [
            {"path": shown(image.path), "reason": image.broken, "detail": image.detail}
            for image in inventory.broken
        ],
        "exact_copies": [[path(number) for number in members] for members in findings.exact],
        "near_copies": [
            {"first": path(first), "second": path(second), "distance": distance}
            for first, second, distance in findings.pairs
        ],
        "near_copies_searched": findings.searched_near,
        "conflicts": [
            {
                "kind": conflict.kind,
                "images": [
                    {"path": shown(key), "class": findings.class_names[label]}
                    for key, label in zip(conflict.keys, conflict.labels, strict=True)
                ],
            }
            for conflict in findings.conflicts
        ],
        "groups": len({image.group for image in listing.images if image.group is not None}),
        "imbalance": imbalance([of["train" if counts is not None else "images"] for of in classes.values()]),
        "resolution": findings.resolution,
        "decoded_per_second": findings.decoded_per_second,
        "decoded_bytes": findings.decoded_bytes,
        "free_bytes": findings.free_bytes,
        "test_images": asdict(what_can_be_shown(counts["test"])) if counts and counts["test"] else None,
        "read_now": inventory.read,
        "cache_fault": inventory.cache_fault.message if inventory.cache_fault is not None else None,
        "problem": None if problem is None else {"message": problem.message, "hint": problem.hint},
    }


def _plain(counts: Counter[str]) -> dict[str, int]:
    return {
        name: counts[name]
        for name in ("images", "train", "architecture", "choice", "test", "left_out", "broken")
    }


def _spread(in_order: list[int]) -> dict[str, int] | None:
    if not in_order:
        return None
    return {"least": in_order[0], "median": in_order[len(in_order) // 2], "most": in_order[-1]}

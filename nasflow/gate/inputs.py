"""The inputs for which a gate compares answers: .npy files that a person gives, or random ones."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from nasflow.base.errors import UsageError
from nasflow.base.files import disk_faults
from nasflow.base.text import plain_line
from stages.conversion.inspector import InspectedModel, TensorFacts

if TYPE_CHECKING:
    from numpy.typing import NDArray

RANDOM, MOST = 4, 100
"""Examples: so many where none are given, and at most so many that are."""
_MOST_HEADER = 10_000  # numpy's own limit of what it parses
_HINT = "numpy.save writes such files: one for each example, of the input's own shape and type."


def random_examples(seen: InspectedModel, seed: int) -> list[tuple[NDArray[Any], ...]] | None:
    """Examples that are the same for every equal seed; None where an input is of no number.

    Values as :func:`android_bench.local.inputs.made_up` has them.
    """
    import numpy as np

    from android_bench.local.inputs import made_up

    generator = np.random.default_rng(seed)
    examples = []
    for _ in range(RANDOM):
        values = []
        for tensor in seen.inputs:
            try:
                kind = np.dtype(tensor.type)
            except TypeError:  # numpy has no such type
                return None
            one = made_up(generator, tuple(tensor.shape), kind)
            if one is None:
                return None
            values.append(np.asarray(one))
        examples.append(tuple(values))
    return examples


def given_examples(folder: Path, seen: InspectedModel) -> list[tuple[NDArray[Any], ...]]:
    """The examples in a folder, in the order of their names.

    A model with one input takes each ``*.npy`` file as an example; with several inputs each subfolder is one,
    which holds ``0.npy``, ``1.npy`` and so on, by the inputs' order in the model. Raises UsageError for files
    that do not fit, MachineError for such as cannot be read.
    """
    name = plain_line(str(folder))
    if not folder.is_dir():
        raise UsageError(f"{name} is no folder.", hint=f"--inputs takes a folder of .npy files. {_HINT}")
    several = len(seen.inputs) > 1
    with disk_faults(folder, "read"):
        found = sorted(
            path for path in folder.iterdir() if (path.is_dir() if several else path.suffix == ".npy")
        )
    what = f"subfolders with 0.npy to {len(seen.inputs) - 1}.npy" if several else ".npy files"
    if not 0 < len(found) <= MOST:
        raise UsageError(
            f"{name} holds {len(found)} {'subfolders' if several else '.npy files'}, and 1 to {MOST} are "
            "compared.",
            hint=f"The model takes {_takes(seen.inputs)}: give {what}. {_HINT}",
        )
    if several:
        places = [[path / f"{index}.npy" for index in range(len(seen.inputs))] for path in found]
    else:
        places = [[path] for path in found]
    return [
        tuple(_read(path, tensor) for path, tensor in zip(paths, seen.inputs, strict=True))
        for paths in places
    ]


def _takes(inputs: Sequence[TensorFacts]) -> str:
    return ", ".join(tensor.describe() for tensor in inputs)


def _read(path: Path, tensor: TensorFacts) -> NDArray[Any]:
    """One file's array. What its header says is compared with the model before anything else is read."""
    import numpy as np

    name = plain_line(str(path))
    if not path.is_file():
        raise UsageError(f"{name} does not exist.", hint=f"It is to hold {tensor.describe()}. {_HINT}")
    with disk_faults(path, "read"), path.open("rb") as file:
        try:
            shape, kind, by_columns = _header(file)
        except (ValueError, EOFError, SyntaxError, RecursionError) as error:
            raise UsageError(
                f"{name} is no .npy file: {plain_line(str(error), limit=200)}.", hint=_HINT
            ) from error
        wanted = tuple(tensor.shape)
        without_batch = wanted[1:] if wanted[:1] == (1,) else wanted
        # Also of the other byte order: numpy turns it round.
        if shape not in (wanted, without_batch) or kind.newbyteorder("=").name != tensor.type:
            raise UsageError(
                f"{name} holds {kind.name} {'x'.join(map(str, shape)) or 'value'}; the model's input "
                f"{plain_line(tensor.name)} is {tensor.describe()}.",
                hint=_HINT,
            )
        content = file.read()
    size = int(np.prod(wanted, dtype=np.int64)) * kind.itemsize
    if len(content) < size:
        raise UsageError(f"{name} ends after {len(content)} of {size} bytes of values.", hint=_HINT)
    flat = np.frombuffer(content[:size], kind).astype(kind.newbyteorder("="))
    values = flat.reshape(shape[::-1]).T if by_columns else flat.reshape(shape)
    if kind.kind == "f" and not np.isfinite(values).all():
        raise UsageError(f"{name} holds values that are NaN or infinite.", hint="Give inputs of numbers.")
    return np.ascontiguousarray(values).reshape(wanted)


def _header(file: BinaryIO) -> tuple[tuple[int, ...], Any, bool]:
    """Shape, type, and whether the values stand column by column. No object is ever unpickled."""
    from numpy.lib import format as npy

    version = npy.read_magic(file)
    if version == (1, 0):
        shape, by_columns, kind = npy.read_array_header_1_0(file, max_header_size=_MOST_HEADER)
    elif version == (2, 0):
        shape, by_columns, kind = npy.read_array_header_2_0(file, max_header_size=_MOST_HEADER)
    else:
        raise ValueError(f"version {version[0]}.{version[1]} of the format is not read")
    if kind.hasobject or kind.fields is not None:
        raise ValueError("it holds objects")
    return shape, kind, by_columns

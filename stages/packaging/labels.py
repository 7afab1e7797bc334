"""The classes' names as the label file that apps read: one a line, in the order of the model's outputs."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Sequence

from nasflow.base.errors import UsageError
from stages.data.names import shown, shown_list

LABELS = "labels.txt"
_HINT = (
    "Rename that class in your images (its folder, or its label in the table), and run again: nasflow run."
)
_NOT_TEXT = {"Cc", "Cs", "Zl", "Zp"}  # control characters, lone surrogates, line and paragraph separators


def label_file(class_names: Sequence[str], outputs: int) -> bytes:
    """The label file of a model with so many outputs. UTF-8, each line ended by a line feed.

    Raises UsageError where the names are not as many as the outputs, or where one of them is empty, there
    twice, or would not be read back as it is: readers split the file at line breaks.
    """
    if len(class_names) != outputs:
        raise UsageError(
            f"there are {len(class_names)} class names, but the model has {outputs} outputs.",
            hint="The images were changed after the training: run again: nasflow run.",
        )
    for number, name in enumerate(class_names, start=1):
        if not name.strip():
            raise UsageError(f"the name of class {number} is empty.", hint=_HINT)
        if name != name.strip() or any(unicodedata.category(sign) in _NOT_TEXT for sign in name):
            raise UsageError(
                f"the name of class {number}, '{shown(name)}', cannot be in a label file: it has a control "
                "character, a line break, or a space at its beginning or end.",
                hint=_HINT,
            )
    twice = [name for name, count in Counter(class_names).items() if count > 1]
    if twice:
        raise UsageError(f"several classes have the same name: {shown_list(twice)}.", hint=_HINT)
    return "".join(f"{name}\n" for name in class_names).encode()

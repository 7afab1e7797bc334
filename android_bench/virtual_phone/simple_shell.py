"""The little of a shell's language that the command table understands.

Words with quotes, backslashes and ``*``; ``;``, ``&&``, ``||``; ``>``, ``>>``, ``2>``, ``2>&1``; ``$?``. All
else (pipes, variables, substitution, background) is refused, and never guessed at.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

OPERATORS = ("2>&1", "2>", "&&", "||", ">>", ">", ";", "\n")
_REFUSED = "`&|<(){}#!"


class NotUnderstood(Exception):
    """The command line needs a real shell."""


@dataclass(frozen=True)
class Word:
    """One word; a pattern where ``*`` stood in it outside of quotes. EXIT_CODE marks where ``$?`` goes."""

    text: str
    is_pattern: bool = False


@dataclass
class SimpleCommand:
    """Words with their redirections, and the operator before it (empty for the first)."""

    after: str
    words: list[Word] = field(default_factory=list)
    output: str = ""
    append: bool = False
    errors: str = ""
    errors_to_output: bool = False


EXIT_CODE = "\ue000"  # stands for $? in a word until it is known


def parse(line: str) -> list[SimpleCommand]:
    """The commands of a line. Raises NotUnderstood."""
    commands = [SimpleCommand("")]
    target = ""
    for token in _tokens(line):
        command = commands[-1]
        if isinstance(token, Word):
            if not target:
                command.words.append(token)
            elif target.startswith("2"):
                command.errors = token.text
            else:
                command.output, command.append = token.text, target == ">>"
            target = ""
        elif target:
            raise NotUnderstood(f"{token!r} after {target!r}")
        elif token == "2>&1":
            command.errors_to_output = True
        elif ">" in token:
            target = token
        else:
            after = ";" if token == "\n" else token
            if not command.words and after != ";":
                raise NotUnderstood(f"{token!r} without a command before it")
            commands.append(SimpleCommand(after))
    if target or (commands[-1].after in ("&&", "||") and not commands[-1].words):
        raise NotUnderstood("the line ends amid a command")
    return [command for command in commands if command.words]


def _tokens(line: str) -> Iterator[Word | str]:
    place = 0
    while place < len(line):
        operator = next((mark for mark in OPERATORS if line.startswith(mark, place)), None)
        if operator is not None:
            yield operator
            place += len(operator)
        elif line[place] in " \t":
            place += 1
        else:
            word, place = _word(line, place)
            yield word


def _word(line: str, place: int) -> tuple[Word, int]:
    text, is_pattern = "", False
    while place < len(line):
        mark = line[place]
        if mark in " \t\n;>" or line.startswith(("&&", "||"), place):
            break
        if mark == "'":
            end = line.find("'", place + 1)
            if end < 0:
                raise NotUnderstood("a quote is not closed")
            text, place = text + line[place + 1 : end], end + 1
        elif mark == '"':
            piece, place = _double_quoted(line, place + 1)
            text += piece
        elif mark == "\\" and place + 1 < len(line):
            text, place = text + line[place + 1], place + 2
        elif line.startswith("$?", place):
            text, place = text + EXIT_CODE, place + 2
        elif mark in _REFUSED or mark == "$":
            raise NotUnderstood(f"{mark!r}")
        else:
            is_pattern = is_pattern or mark == "*"
            text, place = text + mark, place + 1
    return Word(text, is_pattern), place


def _double_quoted(line: str, place: int) -> tuple[str, int]:
    text = ""
    while place < len(line):
        mark = line[place]
        if mark == '"':
            return text, place + 1
        if line.startswith("$?", place):
            text, place = text + EXIT_CODE, place + 2
        elif mark in "$`":
            raise NotUnderstood(f"{mark!r}")
        elif mark == "\\" and line[place + 1 : place + 2] in ("\\", '"', "$", "`"):
            text, place = text + line[place + 1], place + 2
        else:
            text, place = text + mark, place + 1
    raise NotUnderstood("a quote is not closed")

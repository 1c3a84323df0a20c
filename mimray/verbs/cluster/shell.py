"""What a command of a cluster's file starts, as far as it can be told without running it."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from itertools import takewhile

_ASSIGNMENT = re.compile(r"\w+=")
_ENDS = (";", "&&")


def programs(command: str) -> Iterator[tuple[list[str], dict[str, str]]]:
    """Words of each program that one shell starts, with the variables that the command sets for it.

    Of the shell's language `;`, `&&`, lines, `export`, `unset` and `env` are known. A variable that is set
    in another way (in a subshell, after `||`, in a script in quotes) counts as not set. Raises ValueError
    for quotes that do not close.
    """
    exported: dict[str, str] = {}
    for words in _statements(command):
        first, given = words[0], _assigned(words)
        yield words, exported | given
        if first == "export":
            exported |= given
        elif first == "unset":
            exported = {name: value for name, value in exported.items() if name not in words}


def _statements(command: str) -> Iterator[list[str]]:
    lines = command.replace("\\\n", " ").replace("\n", " ; ")
    reader = shlex.shlex(lines, posix=True, punctuation_chars=";&")
    reader.whitespace_split, reader.commenters = True, ""
    words: list[str] = []
    for token in [*reader, _ENDS[0]]:
        if token not in _ENDS:
            words.append(token)
        elif words:
            yield words
            words = []


def _assigned(words: list[str]) -> dict[str, str]:
    """`NAME=value` before the program's own name."""
    candidates = words[1:] if words[0] in ("export", "env") else words
    pairs = (word.partition("=") for word in takewhile(_ASSIGNMENT.match, candidates))
    return {name: value for name, _, value in pairs}

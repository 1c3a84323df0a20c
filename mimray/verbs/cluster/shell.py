"""What a command of a cluster's file starts, as far as it can be told without running it."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from itertools import takewhile
from pathlib import PurePosixPath

Variables = dict[str, str]

_ASSIGNMENT = re.compile(r"\w+=")
_END = r"(?:&&\s*|;(?!;)|\n)"
_VARIABLE = r"\$(?:\w+|\{\w+\}|[@*#?])"
_WORD = rf"""(?:'[^']*'|"(?:[^"\\`$]|\\.|{_VARIABLE})*+"|\\[^\n]|{_VARIABLE}|[^\s'"\\`$;&|<>()#{{}}!])++"""
_KNOWN = re.compile(rf"(?:[ \t]+|{_END}|{_WORD})*+")
_PIECES = re.compile(rf"{_END}|{_WORD}")
_LEAVE_AS_IT_IS = ("cd", "echo", "mkdir", "set", "sleep", "true", "ulimit")  # what is exported


def programs(command: str) -> Iterator[tuple[list[str], Variables]]:
    """Words of each program that one shell starts, with the variables that are sure to be set for it.

    Of the shell's language words, `;`, `&&`, lines, `export`, `unset` and `env` are known. Where a command
    has anything else (a pipe, `&`, `||`, a subshell, a substitution), and for programs but Ray's own, no
    variable is sure; after a program that is not known what was exported is not. Raises ValueError for
    quotes that do not close.
    """
    command = command.replace("\\\n", " ")
    words = _all_words(command)
    if not _KNOWN.fullmatch(command):
        yield words, {}
        return
    exported: Variables = {}
    for chain in _chains(command):
        sure = None
        for statement in chain:
            words, given = _parted(statement)
            yield statement, exported | given if _is_ray(words) else {}
            exported = _exported_after(words, given, exported)
            sure = exported if sure is None else dict(sure.items() & exported.items())
        exported = sure or {}  # `false && export A=b; c`: c is run without


def _all_words(command: str) -> list[str]:
    reader = shlex.shlex(command, posix=True, punctuation_chars=True)
    reader.whitespace_split, reader.commenters = True, ""
    return list(reader)


def _chains(command: str) -> Iterator[list[list[str]]]:
    """Statements that `&&` joins: each is run only if those before it were."""
    chain: list[list[str]] = [[]]
    for piece in [*_PIECES.findall(command), ";"]:
        if piece.startswith("&&"):
            chain.append([])
        elif piece in (";", "\n"):
            if statements := [words for words in chain if words]:
                yield statements
            chain = [[]]
        else:
            chain[-1] += shlex.split(piece)


def _parted(words: list[str]) -> tuple[list[str], Variables]:
    """A statement without the `NAME=value` before its program, and those."""
    candidates = words[1:] if words[0] == "env" else words
    pairs = list(takewhile(_ASSIGNMENT.match, candidates))
    return candidates[len(pairs) :], _values(pairs)


def _values(pairs: list[str]) -> Variables:
    return {name: value for name, _, value in (pair.partition("=") for pair in pairs)}


def _is_ray(words: list[str]) -> bool:
    return bool(words) and PurePosixPath(words[0]).name == "ray"


def _exported_after(words: list[str], given: Variables, exported: Variables) -> Variables:
    """What is exported once a statement has been run."""
    if not words:  # NAME=value alone: of the shell, and of programs if it was exported before
        return exported | {name: value for name, value in given.items() if name in exported}
    if _is_ray(words) or words[0] in _LEAVE_AS_IT_IS:
        return exported
    if words[0] == "export" and not given and all(map(_ASSIGNMENT.match, words[1:])):
        return exported | _values(words[1:])
    if words[0] == "unset" and not given:
        return {name: value for name, value in exported.items() if name not in words}
    return {}

"""The errors that reach a user, each with the exit code that the command line gives it.

A user's mistake is one line that says what is wrong, which value, and how to mend it; anything
else is a fault of ours and keeps its stack trace.
"""

from __future__ import annotations


class MimrayError(Exception):
    """Base of the errors that are shown as one line. `exit_code` is the process's exit status."""

    exit_code = 3


class UserError(MimrayError):
    """The user's input is wrong: a recipe, a path, data, a machine too small (exit 2)."""

    exit_code = 2


class RunFailed(MimrayError):
    """The run started and failed (exit 3)."""

    exit_code = 3


class TakenOver(RunFailed):
    """Another process writes this run now (exit 3); this one must not write another byte."""


class Stopped(MimrayError):
    """The run was stopped on request; the same command goes on with it (exit 75)."""

    exit_code = 75


def own_words(error: BaseException) -> str | None:
    """What an error of ours said, in one line, whatever other processes have wrapped around it.

    Ray nests it as `cause` and appends advice of its own, or leaves its trace as text, as torch's
    DataLoader does. None where it is no error of ours.
    """
    outer = error
    while isinstance(cause := getattr(error, "cause", None), BaseException):
        error = cause
    quoted = [line for line in str(outer).splitlines() if line.startswith(f"{__name__}.")]
    if isinstance(error, MimrayError) and str(error).strip():
        lines = str(error).strip().splitlines()
        own = [line for line in lines if line.startswith(f"{__name__}.")]
        return own[-1].partition(": ")[2] if own else lines[0]
    return quoted[-1].partition(": ")[2] if quoted else None

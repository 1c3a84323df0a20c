"""Secrets in what is shown, logged or written down: found by their form, or because they are known."""

from __future__ import annotations

import logging
import os
import re

HIDDEN = "***"

_NAME = (
    r"[\w-]*(?:passw(?:or)?d|passphrase|secret|token|(?:api|access|account|private)_?key|signature"
    r"|credentials?|(?<![a-zA-Z])(?:pass|sig))(?![a-z])[\w-]*"
)
# What AWS gives out holds slashes, so a password goes on to the last @; digits before a slash are a port.
_USER = re.compile(
    r"""(?<=://)(?:[^/?#@\s"']*:(?!\d{1,5}(?:[/?#]|$))[^\s"']*|[\w.~+%-]{16,})(?=@)"""
)
_VALUE = re.compile(rf"""(?i)\b({_NAME})(["']?=["']?|["']\s*:\s*["'])[^\s&;,"']+""")
_BEARER = re.compile(r"(?i)\b(bearer|basic)\s+[\w.~+/-]{8,}=*")
_ENVIRONMENT = re.compile(rf"(?i)^{_NAME}$")
_PLACE = ("_PATH", "_FILE", "_CREDENTIALS", "_MODE")  # of a secret, which is none
_LEAST = 8  # letters: shorter ones are words of other texts too


def redact(text: str) -> str:
    """The text with `***` for user and password of addresses, for values of what is named like a
    password, a token or a key, and for the values of such environment variables.

    `s3://key:secret@bucket`, `?access_key=...`, `Authorization: Bearer ...`, `AWS_SECRET_ACCESS_KEY=...`.
    """
    for value in _known():
        text = text.replace(value, HIDDEN)
    text = _USER.sub(HIDDEN, text)
    text = _BEARER.sub(rf"\1 {HIDDEN}", text)
    return _VALUE.sub(rf"\1\2{HIDDEN}", text)


def holds_secret(uri: str) -> bool:
    """Whether an address has a password, or an option that is named like one."""
    return bool("://" in uri and (_USER.search(uri) or _VALUE.search(uri)))


def _known() -> list[str]:
    """Secrets of this process's environment, the longest first, for one may begin another."""
    values = {
        value
        for name, value in os.environ.items()
        if len(value) >= _LEAST and _ENVIRONMENT.match(name) and not name.endswith(_PLACE)
    }
    return sorted(values, key=len, reverse=True)


class RedactingFormatter(logging.Formatter):
    """Shows log records, stack traces among them, without secrets."""

    def format(self, record: logging.LogRecord) -> str:
        return redact(super().format(record))

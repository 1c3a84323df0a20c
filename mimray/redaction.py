"""Secrets in what is shown, logged or written down: found by their form, or because they are known."""

from __future__ import annotations

import logging
import os
import re

HIDDEN = "***"

# A model has tokens too, and they are no secrets.
_TOKEN = r"(?<!cls[_-])(?<!mask[_-])(?<!dist[_-])(?<!class[_-])token"  # noqa: S105
_WORD = rf"passw(?:or)?d|passphrase|secret|{_TOKEN}|(?:api|access|account|private)[_-]?key"
_PART = r"[\w-]{0,64}"  # bounded, or a long line of dashes takes minutes
_NAME = rf"{_PART}(?:{_WORD}|signature|credentials?|(?<![a-zA-Z])(?:pass|sig))(?![a-z]){_PART}"
_PLAIN_NAME = rf"{_PART}(?:{_WORD})(?![a-z]){_PART}"  # without words that prose has before a colon
# Digits before a slash are a port. Object stores have none: what AWS gives out holds slashes.
_PORT = r"""(?:(?<=http://)|(?<=https://))[^/?#@\s"':]*:\d{1,5}(?:[/?#]|$)"""
_QUOTE = r"""["'](?:(?![\s,:;\]})]|$)|(?=[^\s"']*@))"""  # one that ends no text
_USER = re.compile(
    rf"""(?<=://)(?!{_PORT})(?:[^/?#@\s"':]*:(?:[^\s"']|{_QUOTE})*|[\w.~+%-]{{16,}})(?=@)"""
)
_USER_OF_ONE = re.compile(rf"(?<=://)(?!{_PORT})[^/?#@\s:]*:\S*(?=@)")  # of nothing but an address
_VALUE = re.compile(
    rf"""(?ix)
    (?P<before>
      \b{_NAME}["']?=+                                    # NAME=value, {{'NAME'='value'}}
      | \b{_NAME}["']\s*:\s*(?=["'])                      # {{"NAME": "value"}}
      | (?<![\w./-]){_PLAIN_NAME}["']?[ \t]*[:=]+[ \t]*   # NAME: value
      | (?<![\w-])--{_PLAIN_NAME}(?:["'],)?[ \t]+(?!-)    # --NAME value, ['--NAME', 'value']
    )
    (?:(?P<quote>["'])(?:\\.|(?!(?P=quote)).)+ | [^\s&;"']*[^\s&;"',:])
    """
)
_BEARER = re.compile(
    r"""(?ix)
    \b( authorization["']?[ \t]*[:=][ \t]*["']?(?:bearer|basic)[ \t]+ )[^\s"',]+
    | \b( (?:bearer|basic)[ \t]+ )(?![a-z]+(?![\w~+/=-]))[\w.~+/-]{8,}=*  # a word alone is none
    """
)
_ENVIRONMENT = re.compile(rf"(?i)^{_NAME}$")
_PLACE = ("_PATH", "_FILE", "_CREDENTIALS", "_MODE")  # of a secret, which is none
_LEAST = 8  # letters: shorter ones are words of other texts too


def redact(text: str) -> str:
    """The text with `***` for user and password of addresses, for values of what is named like a
    password, a token or a key, and for the values of such environment variables.

    `s3://key:secret@bucket`, `?access_key=...`, `Authorization: Bearer ...`, `AWS_SECRET_ACCESS_KEY=...`,
    `password: ...`, `--password ...`. What is in quotes is hidden as a whole.
    """
    for value in _known():
        text = text.replace(value, HIDDEN)
    text = _USER.sub(HIDDEN, text)
    text = _BEARER.sub(rf"\1\2{HIDDEN}", text)
    return _VALUE.sub(rf"\g<before>\g<quote>{HIDDEN}", text)


def holds_secret(uri: str) -> bool:
    """Whether an address has a password, or an option that is named like one."""
    found = (form.search(uri) for form in (_USER, _USER_OF_ONE, _VALUE))
    return "://" in uri and any(found)


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

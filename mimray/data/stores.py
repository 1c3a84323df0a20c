"""Object stores by URI, with a patience that ends.

pyarrow's own reading of these URIs waits 100 s for an S3 server that does not answer and 15 minutes
for Google's; what is unreachable shall be known before a run starts, and in seconds.
"""

from __future__ import annotations

import functools
import os
import queue
import threading
import urllib.error
import urllib.request
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from pyarrow import fs

from mimray.errors import UserError

_CONNECT_S = 3.0
_FIRST_ANSWER_S = 4.0  # without a byte, before it is given up; pyarrow tries three times
_ANSWER_S = 20.0  # the same for a server that has answered before, and may be busy now
_GOOGLE_S = 10
_REGION_S = 5.0

_TEXTS = ("region", "scheme", "endpoint_override", "tls_ca_file_path")
_SWITCHES = ("anonymous", "force_virtual_addressing", "allow_bucket_creation")


def s3(uri: str) -> tuple[fs.FileSystem, str]:
    """Filesystem and path of `s3://bucket/path?endpoint_override=http://host:port&region=...`.

    The options are pyarrow's. Credentials come from where AWS's tools look for them (environment,
    ~/.aws, the machine's role), and so does the endpoint. Raises OSError when no server answers, and
    UserError for an option that does not exist or a secret in the URI, which would be written into
    every run's records.
    """
    parts = urlsplit(uri, allow_fragments=False)
    user, _, bucket = parts.netloc.rpartition("@")
    if user:
        raise UserError(
            f"s3://{bucket}{parts.path}: no credentials in a URI, for it is written into records; "
            f"set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        )
    if not bucket:
        raise UserError(f"{uri}: no bucket in it; write s3://BUCKET/PATH")
    options = _options(uri, parts.query)
    if "region" not in options and "endpoint_override" not in options:
        options["region"] = _region(bucket)
    _reach(bucket, tuple(sorted(options.items())))
    filesystem = fs.S3FileSystem(**options, connect_timeout=_CONNECT_S, request_timeout=_ANSWER_S)
    return filesystem, (bucket + unquote(parts.path)).rstrip("/")


def _options(uri: str, query: str) -> dict[str, Any]:
    """pyarrow's arguments in the query of a URI."""
    options: dict[str, Any] = {}
    for name, value in parse_qsl(query):
        if name in _TEXTS:
            options[name] = value
        elif name not in _SWITCHES:
            known = ", ".join((*_TEXTS, *_SWITCHES))
            raise UserError(f"{uri}: no option {name!r}; there are {known}")
        elif value not in ("true", "false"):
            raise UserError(f"{uri}: {name}={value} must be true or false")
        else:
            options[name] = value == "true"
    own = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    return {"endpoint_override": own} | options if own else options


@functools.cache
def _reach(bucket: str, options: tuple[tuple[str, Any], ...]) -> None:
    """Raises OSError when no server answers; whatever it says is an answer."""
    filesystem = fs.S3FileSystem(
        **dict(options), connect_timeout=_CONNECT_S, request_timeout=_FIRST_ANSWER_S
    )
    try:
        filesystem.get_file_info(bucket)
    except OSError as error:
        if "NETWORK_CONNECTION" in str(error):
            raise


@functools.cache
def _region(bucket: str, server: str = "https://s3.amazonaws.com") -> str | None:
    """The region of a bucket at Amazon, who tells it even to those without access; None if unknown.

    In a thread of its own, for a server of many addresses is given the time-out once for each.
    """
    answer: queue.SimpleQueue[str | None] = queue.SimpleQueue()

    def ask() -> None:
        request = urllib.request.Request(f"{server}/{bucket}", method="HEAD")  # noqa: S310
        try:
            with urllib.request.urlopen(request, timeout=_REGION_S) as response:  # noqa: S310
                headers = response.headers
        except urllib.error.HTTPError as error:
            headers = error.headers
        except (OSError, ValueError):
            headers = {}
        answer.put(headers.get("x-amz-bucket-region"))

    threading.Thread(target=ask, daemon=True).start()
    try:
        return answer.get(timeout=_REGION_S)
    except queue.Empty:
        return None


def google(uri: str) -> tuple[fs.FileSystem, str]:
    """Filesystem and path of `gs://bucket/path`; the options are pyarrow's."""
    if "retry_limit_seconds=" not in uri:
        uri += f"{'&' if '?' in uri else '?'}retry_limit_seconds={_GOOGLE_S}"
    filesystem, path = fs.FileSystem.from_uri(uri)
    return filesystem, path

"""A job server that runs whatever it is sent, and who may send it anything."""

import json
import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest

from tests.train.local_ray import Cluster, local_ray

pytestmark = pytest.mark.slow

BROWSER = {"User-Agent": "Mozilla/5.0", "Origin": "http://attacker.example"}
NAMED = {"Host": "attacker.example"}  # DNS rebinding: a page whose name leads here


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with local_ray(cpus=1) as started:
        yield started


def status(cluster, method, path, **headers):
    body = json.dumps({"entrypoint": "true"}).encode() if method in ("POST", "PUT") else None
    request = urllib.request.Request(cluster.address + path, body, method=method)
    for name, value in {"Content-Type": "application/json", **headers}.items():
        request.add_header(name, value)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code


@pytest.mark.parametrize("more", [{}, NAMED, BROWSER | NAMED], ids=["", "name", "browser"])
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/api/jobs/"),
        ("POST", "/api/jobs/any/stop"),
        ("DELETE", "/api/jobs/any"),  # CVE-2026-27482
        ("GET", "/api/jobs/"),
        ("GET", "/api/jobs/any/logs"),
        ("GET", "/api/v0/nodes"),
        ("PUT", "/api/packages/gcs/any.zip"),
    ],
)
def test_without_the_token(cluster, method, path, more):
    assert status(cluster, method, path, **more) == 401
    assert status(cluster, method, path, Authorization=f"Bearer {'0' * 64}", **more) == 403


def test_another_name_is_not_refused(cluster):
    """Ray looks at no name, as docs/cluster.md says: such a page is kept out for it has no token, nor the
    cookie that has, which a browser sends to the name alone that set it."""
    token = {"Authorization": f"Bearer {cluster.token}"}
    assert status(cluster, "GET", "/api/jobs/", **NAMED) == 401
    assert status(cluster, "GET", "/api/jobs/", **token, **NAMED) == 200
    assert status(cluster, "POST", "/api/jobs/", **token, **BROWSER, **NAMED) == 405


def test_a_browser_sends_no_jobs_even_with_it(cluster):
    token = {"Authorization": f"Bearer {cluster.token}"}
    assert status(cluster, "GET", "/api/jobs/", **token) == 200
    assert status(cluster, "POST", "/api/jobs/", **token, **BROWSER) == 405
    assert cluster.http("/api/jobs/", cluster.token) == (200, [])

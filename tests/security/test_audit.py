""".ci/audit.py: what it makes of pip-audit's answers; pip-audit is a stand-in."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.unit
REPOSITORY = Path(__file__).parents[2]
WHOLE = {"name": "numpy", "version": "2.3.0", "vulns": []}
BROKEN = {
    "name": "pillow",
    "version": "9.0.0",
    "vulns": [{"id": "PYSEC-2022-8", "fix_versions": ["9.0.1"], "aliases": ["CVE-2022-22815"]}],
}
UNKNOWN = {"name": "own", "skip_reason": "Dependency not found on PyPI"}


@pytest.fixture
def audit(tmp_path):
    """Status and words, where pip-audit answers so."""

    def audit(*packages, status=0, says=""):
        answer = json.dumps({"dependencies": packages, "fixes": []}) if packages else ""
        (tmp_path / "answer").write_text(answer)
        uv = tmp_path / "uv"
        uv.write_text(
            f"#!/bin/sh\n[ $1-$2-$3-$5 = tool-run-pip-audit-requirements.lock ] || exit 9\n"
            f'while [ "$1" != --output ]; do shift; done\n'
            f'[ ! -s {tmp_path}/answer ] || cp {tmp_path}/answer "$2"\n'
            f"echo '{says}' >&2; exit {status}\n"
        )
        uv.chmod(0o755)
        done = subprocess.run(
            [sys.executable, "-S", str(REPOSITORY / ".ci/audit.py"), str(uv)],
            capture_output=True,
            text=True,
        )
        return done.returncode, done.stdout

    return audit


def test_nothing_is_known(audit):
    assert audit(WHOLE, UNKNOWN) == (
        0,
        "1 packages looked up, 0 known vulnerabilities; not on PyPI: own\n",
    )


def test_a_finding_fails(audit):
    status, said = audit(WHOLE, BROKEN, status=1)
    assert status == 1
    assert said.startswith("pillow 9.0.0: PYSEC-2022-8 (CVE-2022-22815), mended in 9.0.1\n")


def test_without_pypi_it_is_skipped_and_says_so(audit):
    status, said = audit(status=1, says="ConnectionError: no route")
    assert (status, said.startswith("skipped: PyPI does not say")) == (0, True)
    assert "ConnectionError: no route" in said


def test_a_mirror_that_knows_no_vulnerabilities(audit):
    """Its packages are all unknown, and pip-audit ends with 0."""
    status, said = audit(UNKNOWN, UNKNOWN)
    assert (status, said.startswith("skipped: PyPI does not say")) == (0, True)


def test_it_fails_where_pip_audit_does(audit):
    assert audit(WHOLE, status=1)[0] == 1

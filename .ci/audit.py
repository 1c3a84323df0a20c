"""Known vulnerabilities of the packages of requirements.lock: `python .ci/audit.py UV`.

By pip-audit, which asks PyPI. Exit status 1 where there are some; where PyPI is not reached, or a mirror in
its place knows no vulnerabilities, it says that it was skipped.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

LOCK = "requirements.lock"
_WORDS = ("tool", "run", "pip-audit", "-r", LOCK, "--no-deps", "--disable-pip", "--format", "json")


def main(uv: str) -> int:
    """Ask, and say what is known."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "audit.json"
        done = subprocess.run(  # noqa: S603
            [uv, *_WORDS, "--output", str(file)], capture_output=True, text=True
        )
        told = json.loads(file.read_text()) if file.exists() else {"dependencies": []}
    asked = [package for package in told["dependencies"] if "skip_reason" not in package]
    if not asked:
        print(f"skipped: PyPI does not say what is known of {LOCK} ({_why(done, told)})")
        return 0
    found = [line for package in asked for line in _lines(package)]
    unknown = [package["name"] for package in told["dependencies"] if "skip_reason" in package]
    print(*found, sep="\n", end="\n" if found else "")
    print(f"{len(asked)} packages looked up, {len(found)} known vulnerabilities", end="")
    print(f"; not on PyPI: {', '.join(unknown)}" if unknown else "")
    return 1 if found or done.returncode else 0


def _lines(package: dict[str, Any]) -> list[str]:
    return [
        f"{package['name']} {package['version']}: {vulnerability['id']} "
        f"({', '.join(vulnerability['aliases']) or 'no other name'}), "
        f"mended in {', '.join(vulnerability['fix_versions']) or 'no version yet'}"
        for vulnerability in package["vulns"]
    ]


def _why(done: subprocess.CompletedProcess[str], told: dict[str, Any]) -> str:
    reasons = [package["skip_reason"] for package in told["dependencies"]]
    return str((reasons or done.stderr.strip().splitlines() or ["pip-audit says nothing"])[-1])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))

"""Writes kubernetes.json: `uv run --no-project --with kubernetes==37.0.2 python extract.py` in this folder.

The types that an object of `cluster/kuberay/` holds, each with all of its fields.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import yaml
from kubernetes.client import models

HERE = Path(__file__).parent
FILES = sorted((HERE.parents[2] / "cluster/kuberay").glob("*.yaml"))


def fields_of(name: str) -> dict[str, str]:
    """JSON name -> type of a model of the package."""
    model = getattr(models, name)
    needed = {f.alias or own for own, f in model.model_fields.items() if f.is_required()}
    return {
        json_name: _type(model.openapi_types[own]) + "!" * (json_name in needed)
        for own, json_name in sorted(model.attribute_map.items())
    }


def _type(told: str) -> str:
    return re.sub(r"\b(List|Dict)\b", lambda found: found[0].lower(), told)


def reach(value: Any, kind: str, known: dict[str, dict[str, str]]) -> None:
    """Note the type of a value, and those of all that it holds."""
    kind = kind.rstrip("!")
    if listed := re.fullmatch(r"list\[(.+)\]", kind):
        for each in value:
            reach(each, listed[1], known)
    elif mapped := re.fullmatch(r"dict\[str, (.+)\]", kind):
        for each in value.values():
            reach(each, mapped[1], known)
    elif kind in known or hasattr(models, kind):
        if kind not in known:
            known[kind] = fields_of(kind)
        for name, inner in value.items():
            reach(inner, known[kind][name], known)


if __name__ == "__main__":
    ours = json.loads((HERE / "kuberay.json").read_text())
    known = dict(ours)
    for file in FILES:
        whole = yaml.safe_load(file.read_text())
        prefix = "" if whole["kind"] in ours else "V1"
        reach(whole, prefix + whole["kind"], known)
    theirs = {name: fields for name, fields in sorted(known.items()) if name not in ours}
    lines = [f"{json.dumps(name)}: {json.dumps(fields)}" for name, fields in theirs.items()]
    (HERE / "kubernetes.json").write_text("{\n" + ",\n".join(lines) + "\n}\n")

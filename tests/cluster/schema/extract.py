"""Writes kuberay.json and kubernetes.json, in this folder:

    uv run --no-project --with kubernetes==37.0.2 python extract.py [KUBERAY]

KUBERAY is a checkout of KubeRay; without it, its types stay as they are. Both files state the types that an
object of `cluster/kuberay/` holds, each with all of its fields.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import yaml
from kubernetes.client import models

Types = dict[str, dict[str, str]]
HERE = Path(__file__).parent
FILES = sorted((HERE.parents[2] / "cluster/kuberay").glob("*.yaml"))
CRDS = [
    f"helm-chart/kuberay-operator/crds/ray.io_{name}.yaml" for name in ("rayclusters", "rayjobs")
]
PODS = ("template", "submitterPodTemplate")
PLAIN = {"string": "str", "boolean": "bool", "integer": "int", "number": "float"}


def types_of(crd: dict[str, Any]) -> Types:
    """All types of a CRD, in its stored version, down to pods' templates, which are Kubernetes' own."""
    kind, group = crd["spec"]["names"]["kind"], crd["spec"]["group"]
    (version,) = [one for one in crd["spec"]["versions"] if one["storage"]]
    known: Types = {}
    _told(version["schema"]["openAPIV3Schema"], kind, known)
    del known[kind]["status"]
    known[kind] |= {"apiVersion": f"one of {group}/{version['name']}!", "kind": f"one of {kind}!"}
    known[kind]["metadata"] = "V1ObjectMeta!"
    return known


def _told(schema: dict[str, Any], name: str, known: Types) -> str:
    """A schema's type in our words; if it is an object, its fields are noted under its name."""
    if name.rpartition(".")[2] in PODS:
        return "V1PodTemplateSpec"
    if "enum" in schema:
        return "one of " + "|".join(schema["enum"])
    if "x-kubernetes-int-or-string" in schema:
        return "str"
    if schema["type"] == "array":
        return f"list[{_told(schema['items'], name, known)}]"
    if "additionalProperties" in schema:
        return f"dict[str, {_told(schema['additionalProperties'], name, known)}]"
    if schema["type"] in PLAIN:
        return PLAIN[schema["type"]]
    required = schema.get("required", ())
    known[name] = {
        field: _told(inner, f"{name}.{field}", known)
        + "!" * (field in required and "default" not in inner)
        for field, inner in schema.get("properties", {}).items()
    }
    return name


def fields_of(name: str) -> dict[str, str]:
    """JSON name -> type of a model of the package `kubernetes`."""
    model = getattr(models, name)
    needed = {f.alias or own for own, f in model.model_fields.items() if f.is_required()}
    return {
        json_name: _type(model.openapi_types[own]) + "!" * (json_name in needed)
        for own, json_name in sorted(model.attribute_map.items())
    }


def _type(told: str) -> str:
    return re.sub(r"\b(List|Dict)\b", lambda found: found[0].lower(), told)


def reach(value: Any, kind: str, ours: Types, found: Types) -> None:
    """Note the type of a value, and those of all that it holds."""
    kind = kind.rstrip("!")
    if listed := re.fullmatch(r"list\[(.+)\]", kind):
        for each in value:
            reach(each, listed[1], ours, found)
    elif mapped := re.fullmatch(r"dict\[str, (.+)\]", kind):
        for each in value.values():
            reach(each, mapped[1], ours, found)
    elif kind in ours or hasattr(models, kind):
        if kind not in found:
            found[kind] = ours[kind] if kind in ours else fields_of(kind)
        for name, inner in value.items():
            reach(inner, found[kind][name], ours, found)


def write(file: Path, types: Types) -> None:
    """A line for each type."""
    lines = [f"{json.dumps(name)}: {json.dumps(fields)}" for name, fields in sorted(types.items())]
    file.write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    ours: Types = json.loads((HERE / "kuberay.json").read_text())
    if sys.argv[1:]:
        crds = [yaml.safe_load((Path(sys.argv[1]) / file).read_text()) for file in CRDS]
        ours = {name: fields for crd in crds for name, fields in types_of(crd).items()}
    found: Types = {}
    for file in FILES:
        whole = yaml.safe_load(file.read_text())
        prefix = "" if whole["kind"] in ours else "V1"
        reach(whole, prefix + whole["kind"], ours, found)
    write(HERE / "kuberay.json", {name: found[name] for name in found if name in ours})
    write(HERE / "kubernetes.json", {name: found[name] for name in found if name not in ours})

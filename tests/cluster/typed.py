"""Does an object have the types that `tests/cluster/schema/` states?"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

Types = dict[str, dict[str, str]]
_SCHEMA = Path(__file__).parent / "schema"
_PLAIN: dict[str, tuple[type, ...]] = {
    "str": (str,),
    "bool": (bool,),
    "int": (int,),
    "float": (int, float),
    "object": (object,),
    "datetime": (str,),
}


def types() -> Types:
    """Kubernetes' own and KubeRay's."""
    texts = [(_SCHEMA / f"{name}.json").read_text() for name in ("kubernetes", "kuberay")]
    return {name: fields for text in texts for name, fields in json.loads(text).items()}


def faults(value: Any, kind: str, known: Types, where: str = "") -> Iterator[str]:
    """What the API server would refuse, in a line each. Quantities like `cpu: 4` may be numbers."""
    kind = kind.rstrip("!")
    if listed := re.fullmatch(r"list\[(.+)\]", kind):
        if not isinstance(value, list):
            yield f"{where}: is no list"
            return
        for number, each in enumerate(value):
            yield from faults(each, listed[1], known, f"{where}[{number}]")
    elif mapped := re.fullmatch(r"dict\[str, (.+)\]", kind):
        quantities = where.endswith(("limits", "requests"))
        for name, each in value.items():
            if not (quantities and isinstance(each, int)):
                yield from faults(each, mapped[1], known, f"{where}.{name}")
    elif kind.startswith("one of "):
        if value not in (allowed := kind.removeprefix("one of ").split("|")):
            yield f"{where}: {value!r} is none of {allowed}"
    elif kind in _PLAIN:
        right = isinstance(value, _PLAIN[kind])
        if not right or (isinstance(value, bool) and kind in ("int", "float")):
            yield f"{where}: {value!r} is no {kind}"
    else:
        yield from _faults_of_object(value, kind, known, where)


def _faults_of_object(value: Any, kind: str, known: Types, where: str) -> Iterator[str]:
    if kind not in known:
        yield f"{where}: {kind} is not in tests/cluster/schema; run extract.py"
        return
    if not isinstance(value, dict):
        yield f"{where}: is no {kind}"
        return
    fields = known[kind]
    for name in value.keys() - fields.keys():
        yield f"{where}.{name}: {kind} has no such field"
    for name in {n for n, told in fields.items() if told.endswith("!")} - value.keys():
        yield f"{where}.{name}: {kind} must have it"
    for name in value.keys() & fields.keys():
        yield from faults(value[name], fields[name], known, f"{where}.{name}")

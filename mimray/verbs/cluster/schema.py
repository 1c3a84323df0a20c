"""What a cluster's file may say: Ray's own schema, and what we and Ray read of local hosts besides.

`ray up` asks for it too, behind its own words; other commands of Ray's take a mistake for a cluster that is
not there.
"""

from __future__ import annotations

import json
from difflib import get_close_matches
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from mimray.errors import UserError
from mimray.settings_errors import nearest

KINDS = (
    *("local", "aws", "gcp", "azure", "aliyun", "vsphere", "kuberay", "spark", "external"),
    *("readonly", "fake_multinode", "fake_multinode_docker"),
)
"""Of providers, as Ray names them."""

_BESIDE = (
    "min_workers",
    "head_node",
    "worker_nodes",
)  # Ray takes them, and its schema has them not
_NEEDED = {"head_ip": "head_ip: 10.1.2.3", "worker_ips": "worker_ips: [10.1.2.4, 10.1.2.5]"}
_TYPES = {
    "array": "a list, like [a, b]",
    "object": "settings by name",
    "string": "text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
}
_SHOWN = 60  # characters of a value


def check(path: str, config: dict[str, Any]) -> None:
    """Raises UserError, in one line that names the setting, for a file that Ray or we cannot read."""
    provider = config["provider"]
    if provider.get("type") not in KINDS:
        kind = str(provider.get("type"))
        raise UserError(
            f"{path}: provider.type={kind}: no such provider{nearest(kind, list(KINDS))}"
        )
    asked = {name: said for name, said in config.items() if name not in _BESIDE}
    _check_by_schema(path, {"cluster_name": "default"} | asked)  # as Ray fills it in
    least = config.get("min_workers", 0)
    if not isinstance(least, int) or least < 0:
        raise UserError(f"{path}: min_workers={least!r}: write a whole number, 0 or more")
    if provider["type"] == "local":
        _check_local(path, config)


def _check_by_schema(path: str, config: dict[str, Any]) -> None:
    from jsonschema import Draft7Validator  # it comes with Ray

    try:
        plain = json.loads(json.dumps(config, default=str))  # YAML's names may be numbers
    except (TypeError, ValueError) as problem:  # or dates, or what holds itself
        raise UserError(f"{path}: is no cluster's file: {problem}") from None
    found = Draft7Validator(_schema()).iter_errors(plain)
    for error in sorted(found, key=lambda error: [str(part) for part in error.absolute_path]):
        raise UserError(f"{path}: {_explain(error)}")


def _schema() -> dict[str, Any]:
    """Ray's, read without importing Ray, which takes seconds."""
    ray = find_spec("ray")
    assert ray is not None and ray.origin is not None
    file = Path(ray.origin).parent / "autoscaler/ray-schema.json"
    schema: dict[str, Any] = json.loads(file.read_text())
    return schema


def _explain(error: Any) -> str:
    """A mistake that jsonschema has found, with the setting's whole name."""
    parts = [str(part) for part in error.absolute_path]
    name = ".".join(parts)
    if error.validator == "additionalProperties":
        known = list(error.schema.get("properties", {}))
        strange = next(str(key) for key in error.instance if key not in known)
        return f"{'.'.join([*parts, strange])}: no such setting{nearest(strange, known)}"
    if error.validator == "required":
        lacking = next(key for key in error.validator_value if key not in error.instance)
        return f"{'.'.join([*parts, lacking])}: is missing"
    if error.validator == "type":
        kinds = error.validator_value
        wanted = _TYPES.get(kinds if isinstance(kinds, str) else kinds[0], str(kinds))
        return f"{name}{_shown(name, error.instance)}: write {wanted}"
    return f"{name}{_shown(name, error.instance)}: is not what Ray takes there"


def _shown(name: str, value: Any) -> str:
    """`=value`, unless it is a secret or long."""
    text = repr(value)
    return "" if "credentials" in name or len(text) > _SHOWN else f"={text}"


def _check_local(path: str, config: dict[str, Any]) -> None:
    """Addresses and a user: Ray asks for the first with a trace, for the second on the way."""
    provider = config["provider"]
    for key, like in _NEEDED.items():
        if key not in provider:
            near = get_close_matches(key, map(str, provider), n=1)
            instead = f", but {near[0]}, which Ray does not know" if near else ""
            raise UserError(f"{path}: provider has no {key}{instead}; write `{like}`")
    seen = {provider["head_ip"]}
    for address in provider["worker_ips"]:
        if not isinstance(address, str):
            raise UserError(
                f"{path}: provider.worker_ips: {address!r} is no address; write `{_NEEDED['worker_ips']}`"
            )
        if address in seen:
            raise UserError(
                f"{path}: provider.worker_ips: {address} is there already; name each host once, the head "
                f"as head_ip alone"
            )
        seen.add(address)
    if not (config.get("auth") or {}).get("ssh_user"):
        raise UserError(
            f"{path}: auth.ssh_user: is missing; name the user who logs in on every host"
        )

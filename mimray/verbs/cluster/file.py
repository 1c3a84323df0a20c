"""A cluster's file, as `ray up` reads it: what has to be known of it beforehand."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mimray.errors import UserError
from mimray.recipe.yaml_file import read_yaml
from mimray.verbs.cluster.schema import check
from mimray.verbs.cluster.shell import programs

_HEAD = re.compile(r"\bray\b.*\sstart\s.*--head\b", re.DOTALL)
_EXAMPLES = "192.0.2."  # addresses that no host has (RFC 5737); cluster.yaml comes with them


@dataclass(frozen=True)
class ClusterFile:
    """`path` of the file, and what it says."""

    path: str
    config: dict[str, Any]

    @classmethod
    def read(cls, path: str) -> ClusterFile:
        """Raises UserError for a file that is none, for a mistake in it, and for one that would start an
        open cluster."""
        try:
            config = read_yaml(Path(path))
        except OSError as error:
            raise UserError(f"{path}: {error.strerror}; name a file like cluster.yaml") from None
        except ValueError as error:
            raise UserError(f"{path}: {error}") from None
        if not isinstance(config, dict) or not isinstance(config.get("provider"), dict):
            raise UserError(
                f"{path}: names no provider; take cluster.yaml and edit its three places"
            )
        check(path, config)
        file = cls(path, config)
        file._refuse_what_is_open()
        return file

    @property
    def local(self) -> bool:
        """Whether the hosts are there already, each with its address."""
        return self.config["provider"].get("type") == "local"

    @property
    def workers(self) -> list[str]:
        """Addresses of the hosts but the head, where the file names them."""
        return [str(address) for address in self.config["provider"].get("worker_ips") or []]

    @property
    def addresses(self) -> list[str]:
        """Of all hosts that the file names, the head first."""
        return [str(self.config["provider"]["head_ip"]), *self.workers] if self.local else []

    @property
    def least(self) -> int:
        """Hosts that are to join without being asked for."""
        if self.local:
            given = [self.config.get(f"{end}_workers", len(self.workers)) for end in ("min", "max")]
            return 1 + min(*given, len(self.workers))
        types = self.config.get("available_node_types") or {}
        head = self.config.get("head_node_type")
        return 1 + sum(int(t.get("min_workers", 0)) for name, t in types.items() if name != head)

    def check_addresses(self) -> None:
        """Raises UserError where they are still those that cluster.yaml comes with."""
        for key, addresses in (("head_ip", self.addresses[:1]), ("worker_ips", self.workers)):
            for address in addresses:
                if address.startswith(_EXAMPLES):
                    raise UserError(
                        f"{self.path}: provider.{key}: {address} is an example; edit the three places "
                        f"marked EDIT"
                    )

    def check_files(self, made: Path) -> None:
        """Raises UserError where what it sends to the hosts is not here. `made`: what will be by then."""
        for near in (self.config.get("file_mounts") or {}).values():
            here = at_home(self.path, str(near))
            if here != made.expanduser() and not here.exists():
                raise UserError(
                    f"{self.path}: file_mounts: {near} is not here; run this in the project's folder"
                )
        auth = self.config.get("auth") or {}
        key = auth.get("ssh_private_key")
        if key and not at_home(self.path, str(key)).exists():
            raise UserError(
                f"{self.path}: {key} is not here; make a key for this cluster alone, `ssh-keygen -t "
                f"ed25519 -N '' -f {key}`, and let it in: `ssh-copy-id -i {key} "
                f"{auth.get('ssh_user', 'USER')}@HOST`, for every host"
            )

    def _refuse_what_is_open(self) -> None:
        """Who reaches a Ray that asks for no token runs what he likes on every host, and its ports are open
        on all addresses, the dashboard's or not.

        Each command has a shell of its own: what one exports another does not see.
        """
        heads = []
        for command in map(str, self.config.get("head_start_ray_commands") or []):
            try:
                started = list(programs(command))
            except ValueError as error:
                raise UserError(
                    f"{self.path}: head_start_ray_commands: {error}: {command}"
                ) from None
            heads += [given for words, given in started if _HEAD.search(" ".join(words))]
        if not heads or any(given.get("RAY_AUTH_MODE") != "token" for given in heads):
            raise UserError(
                f"{self.path}: head_start_ray_commands: a `ray start --head` that is not sure to have "
                f"RAY_AUTH_MODE=token lets everybody run anything on the hosts; write `export "
                f"RAY_AUTH_MODE=token; ray start --head ...`, without pipes and the like"
            )


def at_home(path: str, name: str) -> Path:
    """A file's name without `~`. `path`: of the cluster's file, which names it. Raises UserError for a home
    that is nobody's."""
    try:
        return Path(name).expanduser()
    except RuntimeError:
        raise UserError(
            f"{path}: {name}: no user here has that home; write the whole path"
        ) from None

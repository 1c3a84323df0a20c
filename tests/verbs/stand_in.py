"""A stand-in for Ray's command line, with a cluster behind it: `fake_ray.py` says what it does."""

import json
import sys
from pathlib import Path

from mimray.cli import main

REPOSITORY = Path(__file__).parents[2]
FILE = str(REPOSITORY / "cluster.yaml")
HEAD, WORKER = "192.0.2.1", "192.0.2.2"  # of cluster.yaml
PLAN = {
    "token": "s3cret-token",
    "log": ["one", "two", "three", "four"],
    "end": {"status": "SUCCEEDED", "driver_exit_code": 0},
    "breaks": [],
    "breaks_at": "logs",
    "absent": [],
    "mute_at": None,
    "fails": [],
    "unreadable": False,
    "waits": False,
    "monitor": "",
    "joins": None,
    "status": 0,
}


LOG = (
    3
    * """Shared connection to 192.0.2.2 closed.
ssh: connect to host 192.0.2.2 port 22: Connection refused
2026-11-22 03:20:26,930\tVVINFO command_runner.py:401 -- Full command is `ssh 192.0.2.2`
2026-11-22 03:20:26,930\tINFO log_timer.py:25 -- NodeUpdater: 192.0.2.2: Start failed [LogTimer=975ms]
2026-11-22 03:20:26,932\tERR updater.py:177 -- \x1b[31mNew status: \x1b[1mupdate-failed\x1b[22m\x1b[39m
"""
)
"""Of a head whose worker cannot be reached, three times."""


class Fake:
    """Ray's stand-in: its folder, and how it is told what to do."""

    def __init__(self, folder):
        self.folder = folder
        (folder / ".ray").mkdir()
        (folder / ".ray/auth_token").write_text(PLAN["token"])
        (folder / "jobs").write_text("{}")
        self.hosts(HEAD, WORKER)
        self.plan()
        self.program = folder / "ray"
        script = REPOSITORY / "tests/verbs/fake_ray.py"
        self.program.write_text(f'#!/bin/sh\nexec {sys.executable} -S {script} {folder} "$@"\n')
        self.program.chmod(0o755)
        (folder / "bin").mkdir()
        (folder / ".ssh").mkdir()
        (folder / ".ssh/mimray").touch()  # of cluster.yaml
        self.lets_in(HEAD, WORKER)

    def lets_in(self, *hosts):
        """What `ssh` from here reaches, and not by way of another host; it notes its words."""
        ways = "".join(f"  *@{host}\\ *) exit 0 ;;\n" for host in hosts)
        ssh = self.folder / "bin/ssh"
        ssh.write_text(
            f'#!/bin/sh\necho "$*" >> {self.folder}/ssh\ncase "$*" in\n*-W*) ;;\n{ways}esac\nexit 255\n'
        )
        ssh.chmod(0o755)

    def plan(self, **changes):
        (self.folder / "plan").write_text(json.dumps(PLAN | changes))

    def hosts(self, *addresses):
        alive = {"state": "ALIVE", "resources_total": {"CPU": 2.0}}
        found = [{"node_ip": address} | alive for address in addresses]
        (self.folder / "hosts").write_text(json.dumps([*found, {"node_ip": "x", "state": "DEAD"}]))

    def calls(self, *first):
        """Words of the commands that begin so, and the variables that they had."""
        lines = (self.folder / "calls").read_text().splitlines()
        found = [json.loads(line) for line in lines]
        return [(words, known) for words, known in found if words[: len(first)] == list(first)]


def submit(*words):
    """`mimray cluster submit` of a verb; its exit status."""
    return main(["cluster", "submit", FILE, "--json", "--", *words])

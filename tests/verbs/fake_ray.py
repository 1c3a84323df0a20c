"""Stands in for Ray's command line and job server: `fake_ray.py FOLDER WORDS` as `ray WORDS`.

FOLDER has `calls` (a line of JSON a command: words and the variables that matter), `jobs` (the job
server's answers by submission id), `hosts`, and `plan`: what a job's log says, how it ends, how many times
the tunnel breaks on the way, which host joins while somebody reads the head's log.
"""

import json
import os
import sys
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

folder, words = Path(sys.argv[1]), sys.argv[2:]
plan = json.loads((folder / "plan").read_text())
NAMES = ("RAY_AUTH_MODE", "RAY_UP_enable_autoscaler_v2", "RAY_API_SERVER_ADDRESS")


class Server(BaseHTTPRequestHandler):
    """Answers what the folder holds."""

    def do_GET(self):
        if self.headers["Authorization"] != f"Bearer {plan['token']}":
            self.send_error(403)
            return
        jobs = json.loads((folder / "jobs").read_text())
        part = self.path.strip("/").split("/")
        if self.path == "/api/v0/nodes":
            hosts = json.loads((folder / "hosts").read_text())
            answer = {"data": {"result": {"result": hosts}}}
        elif part[:2] == ["api", "jobs"]:
            answer = jobs[part[2]] if part[2:] else list(jobs.values())
        else:
            answer = {}
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps(answer).encode())

    def log_message(self, *_):
        pass


def keep(name, **changes):
    jobs = json.loads((folder / "jobs").read_text())
    jobs[name] = jobs.get(name, {"submission_id": name}) | changes
    (folder / "part").write_text(json.dumps(jobs))
    (folder / "part").replace(folder / "jobs")
    return jobs[name]


def follow(name):
    """The whole log, and then the job's end; or a tunnel that breaks after half of it."""
    half = len(plan["log"]) // 2
    print(*plan["log"][:half], sep="\n", flush=True)
    broken = folder / "broken"
    times = int(broken.read_text()) if broken.exists() else 0
    if times < plan["breaks"]:
        broken.write_text(str(times + 1))
        sys.exit(0)  # as `ray job logs` does then
    while plan["waits"] and not (folder / "stop").exists():
        time.sleep(0.05)
    print(*plan["log"][half:], sep="\n", flush=True)
    if not (folder / "stop").exists():
        keep(name, **plan["end"])


with (folder / "calls").open("a") as calls:
    known = {name: os.environ[name] for name in NAMES if name in os.environ}
    calls.write(json.dumps([words, known]) + "\n")

if words[0] == "dashboard":
    HTTPServer(("127.0.0.1", int(words[2])), Server).serve_forever()
elif words[:2] == ["job", "submit"]:
    keep(words[words.index("--submission-id") + 1], status="RUNNING", entrypoint=words[-1])
elif words[:2] == ["job", "logs"]:
    follow(words[-1])
elif words[:2] == ["job", "stop"]:
    (folder / "stop").touch()
    keep(words[-1], status="STOPPED")
elif words[0] == "exec":
    print(plan["monitor"])
    if plan["joins"]:
        found = json.loads((folder / "hosts").read_text())
        (folder / "hosts").write_text(json.dumps([*found, found[0] | {"node_ip": plan["joins"]}]))
elif words[0] == "get-auth-token":
    Path("~/.ray/auth_token").expanduser().write_text(plan["token"])
sys.exit(plan["status"])

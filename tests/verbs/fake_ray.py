"""Stands in for Ray's command line and job server: `fake_ray.py FOLDER WORDS` as `ray WORDS`.

FOLDER has `calls` (a line of JSON a command: words and the variables that matter), `jobs` (the job
server's answers by submission id), `hosts`, and `plan`: what a job's log says, how it ends, how the tunnel
breaks on the way and at which question, which tunnels do not open, which question is never answered, which
commands fail, which host joins while somebody reads the head's log.

A job is at half of its log until its status is asked for: then it ends, if no tunnel is to break before.
"""

import json
import os
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from urllib.parse import parse_qs

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
        path, _, query = self.path.partition("?")
        part = path.strip("/").split("/")
        if part[:2] == ["api", "jobs"] and part[2:] and part[2] not in jobs:
            self.send_error(404)
            return
        if path == "/api/v0/nodes":
            hosts = json.loads((folder / "hosts").read_text())
            asked = parse_qs(query)
            assert (asked["filter_keys"], asked["filter_predicates"]) == (["state"], ["="])
            hosts = [host for host in hosts if [host["state"]] == asked["filter_values"]]
            hosts = hosts[: int(asked["limit"][0])]
            answer = {"data": {"result": {"result": hosts}}}
        elif part[:2] == ["api", "jobs"] and part[3:] == ["logs"]:
            answer = {"logs": said(jobs[part[2]])}
        elif part[:2] == ["api", "jobs"]:
            answer = looked_at(part[2]) if part[2:] else list(jobs.values())
        else:
            answer = {}
        asked = "job" if part[:2] == ["api", "jobs"] and len(part) == 3 else part[-1]
        if (part[3:] == ["logs"] and plan["unreadable"]) or plan["mute_at"] == asked:
            self.send_error(500)
            return
        body = json.dumps(answer).encode()
        how = breaks() if part[-1] == plan["breaks_at"] else None
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[:-1] if how == "within" else body)
        self.wfile.flush()
        if how:
            os._exit(255)  # as ssh does where the other side is gone

    def log_message(self, *_):
        pass


def keep(name, **changes):
    jobs = json.loads((folder / "jobs").read_text())
    jobs[name] = jobs.get(name, {"submission_id": name}) | changes
    (folder / "part").write_text(json.dumps(jobs))
    (folder / "part").replace(folder / "jobs")
    return jobs[name]


def looked_at(name):
    """What is known of a job, which then ends if nothing holds it up."""
    job = json.loads((folder / "jobs").read_text())[name]
    stopped = (folder / "stop").exists() and not (folder / "holds").exists()
    if job["status"] != "RUNNING" or left() or (plan["waits"] and not stopped):
        return job
    return keep(name, **({"status": "STOPPED"} if stopped else plan["end"]))


def said(job):
    """Half of its log, or all of it: the half ends within a line."""
    log = "".join(f"{line}\n" for line in plan["log"])
    return log[: len(log) // 2] if job["status"] == "RUNNING" else log


def left():
    """How tunnels are still to break: `after` or `within` an answer, `forgotten` where the head starts
    again meanwhile."""
    done = folder / "broken"
    return plan["breaks"][int(done.read_text()) if done.exists() else 0 :]


def breaks():
    """How the tunnel breaks now, if it does."""
    if not left():
        return None
    how, later = left()[0], len(plan["breaks"]) - len(left()) + 1
    (folder / "broken").write_text(str(later))
    if how == "forgotten":
        (folder / "jobs").write_text("{}")
    return how


def tunnels():
    """How many have been asked for so far, this one among them."""
    lines = (folder / "calls").read_text().splitlines()
    return sum(json.loads(line)[0][0] == "dashboard" for line in lines)


with (folder / "calls").open("a") as calls:
    known = {name: os.environ[name] for name in NAMES if name in os.environ}
    calls.write(json.dumps([words, known]) + "\n")

if any(words[: len(first)] == first for first in plan["fails"]):
    sys.exit("ray: it failed")
elif words[0] == "dashboard" and tunnels() in plan["absent"]:
    sys.exit("ssh: Could not resolve hostname head: Name or service not known")
elif words[0] == "dashboard":
    HTTPServer(("127.0.0.1", int(words[2])), Server).serve_forever()
elif words[:2] == ["job", "submit"]:
    keep(words[words.index("--submission-id") + 1], status="RUNNING", entrypoint=words[-1])
elif words[:2] == ["job", "stop"]:
    (folder / "stop").touch()
elif words[0] == "exec":
    print(plan["monitor"])
    if plan["joins"]:
        found = json.loads((folder / "hosts").read_text())
        (folder / "hosts").write_text(json.dumps([*found, found[0] | {"node_ip": plan["joins"]}]))
elif words[0] == "get-auth-token":
    Path("~/.ray/auth_token").expanduser().write_text(plan["token"])
sys.exit(plan["status"])

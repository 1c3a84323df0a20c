"""One writer a run, on any filesystem: a number that only grows, and a sign of life beside it.

Whoever wants to write claims the next number. A holder that lives is left alone: the newcomer looks
whether its sign changes, and never at a clock, for clocks differ and jump. A holder that was taken for
dead learns it from the number before its next write, and stops.
"""

from __future__ import annotations

import json
import os
import platform
import threading
import time
import uuid
from contextlib import suppress
from pathlib import Path
from typing import Any

from pyarrow import fs

from mimray.errors import RunFailed, UserError
from mimray.train.run_folder import RunFolder

_SIGN_SECONDS = 5.0
_PATIENCE_SECONDS = 20.0  # a holder of another host that gives no sign for so long is gone
_SETTLE_SECONDS = 2.0  # on a store, for two claims of one moment to see each other
_FOLDER = "fence"


class Fence:
    """This process's hold on a run; `token`: its number and who it is, as a file's name."""

    def __init__(self, run: RunFolder) -> None:
        self.run = run
        self.token = ""
        self.released = threading.Event()

    def claim(self) -> None:
        """Take the run over from nobody, or from a holder that is gone.

        Raises UserError where somebody holds it: at once on this host, else within 20 s.
        """
        holder = self._newest()
        if holder is not None and self._lives(holder):
            raise UserError(
                f"run {Path(self.run.path).name} is being trained by process "
                f"{self._about(holder).get('pid')} of {self._about(holder).get('host')}; "
                "wait for it, or start another with run.seed=1 or run.name=NAME"
            )
        number = 1 + (int(holder.partition("-")[0]) if holder else 0)
        self.token = f"{number:08d}-{uuid.uuid4().hex}"
        self._write("token", {"pid": os.getpid(), "host": platform.node(), **_process(os.getpid())})
        if not self.run.local:
            time.sleep(_SETTLE_SECONDS)
        if self._newest() != self.token:
            raise UserError(f"run {Path(self.run.path).name} was started twice at once; wait for it")
        self._forget_others()
        threading.Thread(target=self._sign, name="fence", daemon=True).start()

    def check(self) -> None:
        """Raises RunFailed if another process has taken the run over."""
        check_token(self.run, self.token)

    def release(self) -> None:
        """Let the next one in without waiting."""
        self.released.set()
        with suppress(OSError):
            self._write("sign", {"released": True})

    def _sign(self) -> None:
        count = 0
        while not self.released.wait(_SIGN_SECONDS):
            count += 1
            with suppress(OSError):  # storage stumbles; newcomers are patient
                self._write("sign", {"count": count})

    # ----- files ----------------------------------------------------------------------------------

    def _newest(self) -> str | None:
        return newest_token(self.run)

    def _read(self, token: str, kind: str) -> dict[str, Any]:
        try:
            found = json.loads(self.run.read(f"{_FOLDER}/{token}.{kind}") or b"{}")
        except ValueError:
            return {}
        return found if isinstance(found, dict) else {}

    def _write(self, kind: str, content: dict[str, Any]) -> None:
        self.run.filesystem.create_dir(self.run.file(_FOLDER), recursive=True)
        self.run.write(f"{_FOLDER}/{self.token}.{kind}", json.dumps(content).encode())

    def _about(self, token: str) -> dict[str, Any]:
        return self._read(token, "token")

    def _lives(self, holder: str) -> bool:
        """Whether a holder is at work: by the kernel on this host, elsewhere by its changing sign."""
        if self._read(holder, "sign").get("released"):
            return False
        about = self._about(holder)
        mine = _process(os.getpid())
        if about.get("system") == mine["system"]:
            return _process(int(about.get("pid", 0))) == {k: about.get(k) for k in mine}
        first = self._read(holder, "sign")
        until = time.monotonic() + _PATIENCE_SECONDS
        while time.monotonic() < until:
            time.sleep(_SIGN_SECONDS / 5)
            now = self._read(holder, "sign")
            if now.get("released"):
                return False
            if now != first:
                return True
        return False

    def _forget_others(self) -> None:
        for info in _files(self.run):
            if not info.base_name.startswith(self.token):
                with suppress(OSError):
                    self.run.filesystem.delete_file(info.path)


def newest_token(run: RunFolder) -> str | None:
    """The highest number; of two claims of one number, the one whose name comes first holds."""
    tokens = sorted(i.base_name[:-6] for i in _files(run) if i.base_name.endswith(".token"))
    highest = [t for t in tokens if t.partition("-")[0] == tokens[-1].partition("-")[0]]
    return highest[0] if highest else None


def check_token(run: RunFolder, token: str) -> None:
    """Raises RunFailed if `token` does not hold the run any more. Called before what is written."""
    if newest_token(run) != token:
        raise RunFailed(
            "another process has taken this run over (this one was taken for dead); it goes on there"
        )


def _files(run: RunFolder) -> list[fs.FileInfo]:
    return list(
        run.filesystem.get_file_info(fs.FileSelector(run.file(_FOLDER), allow_not_found=True))
    )


def _process(pid: int) -> dict[str, Any]:
    """What tells a process from a later one of its number, and a host from its reboot."""
    from mimray.train.heartbeat import start_time

    boot = Path("/proc/sys/kernel/random/boot_id")
    names = Path("/proc/self/ns/pid")
    system = f"{boot.read_text().strip() if boot.exists() else platform.node()}"
    if names.exists():
        system += f" {os.readlink(names)}"
    return {"system": system, "began": start_time(pid)}

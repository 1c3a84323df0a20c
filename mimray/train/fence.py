"""One writer a run, on any filesystem: a number that only grows, and a sign of life beside it.

Whoever wants to write claims the next number. A holder that lives is left alone: a newcomer looks
whether its sign changes, and never at a clock, for clocks differ and jump. A holder that was taken for
dead finds a higher number before its next write, and stops. So does a group of trainers that was taken
for dead: the driver takes another number for the next one.
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
from typing import TYPE_CHECKING, Any

from pyarrow import fs

from mimray.data.files import is_local, read_bytes, write_atomic
from mimray.errors import TakenOver, UserError
from mimray.train.processes import start_time

if TYPE_CHECKING:
    from mimray.train.run_folder import RunFolder

_SIGN_SECONDS = 5.0
_PATIENCE_SECONDS = 20.0  # a holder on another host that gives no sign for so long is gone
_SETTLE_SECONDS = 2.0  # on a store, for two claims of one moment to see each other
_TAKEN_OVER = (
    "another process has taken this run over, for this one gave no sign of life; it goes on there"
)


class Fence:
    """This process's hold on a run. `token`: its number, and on stores a name of its own besides; empty
    while it holds nothing."""

    def __init__(self, run: RunFolder) -> None:
        self.run, self.filesystem = run, run.filesystem
        self.folder = run.file("fence")
        self.token = ""
        self.over = threading.Event()
        self.signer = threading.Thread(target=self._sign, name="fence", daemon=True)

    def claim(self) -> None:
        """Take the run from nobody, or over from a holder that is gone; everything that `run` writes
        from now on is checked to be this holder's.

        Raises UserError where somebody holds it: at once on this host, else within 20 s.
        """
        holder = newest_token(self.filesystem, self.folder)
        if holder is not None and self._lives(holder):
            about = self._read(holder, "token")
            raise UserError(
                f"run {self._name} is being trained by process {about.get('pid')} on "
                f"{about.get('host')}; wait for it, or start another with run.seed=1 or run.name=NAME"
            )
        number = 1 + (_number(holder) if holder else 0)
        self.run.token = self.token = self._take(number)
        self._forget_before(number)
        self.signer.start()

    def renew(self) -> None:
        """Take the next number, so that trainers which were given the present one write no more.

        Raises TakenOver where somebody else has taken it.
        """
        held = self.token
        number = _number(held) + 1
        # before the file is there, or the driver's own writes would meet it in between
        self.run.token = f"{number:08d}"
        try:
            self.run.token = self.token = self._take_in_time(number)
        except UserError:
            self.run.token = held
            raise TakenOver(_TAKEN_OVER) from None
        self._forget_before(number)

    def _take_in_time(self, number: int) -> str:
        """`_take`, tried for a while: storage stumbles."""
        until = time.monotonic() + _PATIENCE_SECONDS
        while True:
            try:
                return self._take(number)
            except OSError:
                if time.monotonic() > until:
                    raise
                time.sleep(1.0)

    def release(self) -> None:
        """Let the next one in without waiting."""
        self.over.set()
        if self.signer.ident is not None:
            self.signer.join()  # a late sign would say that somebody lives
        if self.token:
            with suppress(OSError):
                self._write(self.token, "sign", {"released": True})

    def withdraw(self) -> None:
        """Leave nothing of this hold behind: the run never began."""
        self.over.set()
        if self.token:
            self.token, self.run.token = "", None
            with suppress(OSError):
                self.filesystem.delete_dir(self.folder)

    def is_gone(self) -> bool:
        """Whether a holder never let go and is known, by the kernel of this host, to be no more."""
        holder = newest_token(self.filesystem, self.folder)
        if holder is None or self._read(holder, "sign").get("released"):
            return False
        about = self._read(holder, "token")
        here = about.get("system") == identity(os.getpid())["system"]
        return here and about.get("began") != start_time(int(about.get("pid", 0)))

    def is_held(self) -> bool:
        """Whether somebody holds the run and is at work. Of a holder on another host the answer takes some
        seconds, and 20 where it is gone."""
        holder = newest_token(self.filesystem, self.folder)
        return holder is not None and self._lives(holder)

    # ----- claiming -------------------------------------------------------------------------------

    @property
    def _name(self) -> str:
        return Path(self.run.path).name

    def _take(self, number: int) -> str:
        """Write the token of a number, which only one process can; raises UserError for the others."""
        about = {"pid": os.getpid(), "host": platform.node(), **identity(os.getpid())}
        self.filesystem.create_dir(self.folder, recursive=True)
        twice = UserError(f"run {self._name} was started twice at once; wait for the other")
        if is_local(self.filesystem):
            token = f"{number:08d}"
            try:
                with open(f"{self.folder}/{token}.token", "x") as file:
                    file.write(json.dumps(about))
            except FileExistsError:
                raise twice from None
            return token
        # A store has no exclusive creation that pyarrow shows: of two tokens, who signed first holds,
        # and of two that have not signed, the first by name.
        token = f"{number:08d}-{uuid.uuid4().hex}"
        self._write(token, "token", about)
        time.sleep(_SETTLE_SECONDS)
        rivals = [t for t in _tokens(self.filesystem, self.folder) if t != token]
        higher = [t for t in rivals if _number(t) > number]
        same = [t for t in rivals if _number(t) == number]
        if higher or any(t < token or self._read(t, "sign") for t in same):
            with suppress(OSError):
                self.filesystem.delete_file(f"{self.folder}/{token}.token")
            raise twice
        self._write(token, "sign", {"count": 0})
        return token

    def _forget_before(self, number: int) -> None:
        for info in _files(self.filesystem, self.folder):
            if _number(info.base_name) < number:
                with suppress(OSError):
                    self.filesystem.delete_file(info.path)

    def _sign(self) -> None:
        count = 0
        while not self.over.wait(_SIGN_SECONDS):
            count += 1
            with suppress(OSError):  # storage stumbles; newcomers are patient
                self._write(self.token, "sign", {"count": count})

    def _lives(self, holder: str) -> bool:
        """Whether a holder is at work: by the kernel on its own host, elsewhere by its changing sign."""
        first = self._read(holder, "sign")
        if first.get("released"):
            return False
        about, here = self._read(holder, "token"), identity(os.getpid())
        if about.get("system") == here["system"]:
            return about.get("began") == start_time(int(about.get("pid", 0)))
        until = time.monotonic() + _PATIENCE_SECONDS
        while time.monotonic() < until:
            time.sleep(_SIGN_SECONDS / 5)
            if (now := self._read(holder, "sign")) != first:
                return not now.get("released")
        return False

    # ----- files ----------------------------------------------------------------------------------

    def _read(self, token: str, kind: str) -> dict[str, Any]:
        try:
            data = read_bytes(self.filesystem, f"{self.folder}/{token}.{kind}")
            found = json.loads(data or b"{}")
        except ValueError:
            return {}
        return found if isinstance(found, dict) else {}

    def _write(self, token: str, kind: str, content: dict[str, Any]) -> None:
        file = f"{self.folder}/{token}.{kind}"
        write_atomic(self.filesystem, file, json.dumps(content).encode())


def newest_token(filesystem: fs.FileSystem, folder: str) -> str | None:
    """The token with the highest number in a fence's folder, or None where there is none."""
    return max(_tokens(filesystem, folder), key=_number, default=None)


def check_token(filesystem: fs.FileSystem, folder: str, token: str) -> None:
    """Raises TakenOver if another process has claimed after `token`. Called before every write."""
    newest = newest_token(filesystem, folder)
    if newest is None or _number(newest) > _number(token):
        raise TakenOver(_TAKEN_OVER)


def identity(pid: int) -> dict[str, Any]:
    """What tells a process from a later one of its number, and a host from itself before a reboot."""
    boot, names = Path("/proc/sys/kernel/random/boot_id"), Path("/proc/self/ns/pid")
    system = boot.read_text().strip() if boot.exists() else platform.node()
    if names.exists():  # containers of one host do not see each other's processes
        system += f" {names.readlink()}"
    return {"system": system, "began": start_time(pid)}


def _tokens(filesystem: fs.FileSystem, folder: str) -> list[str]:
    names = (info.base_name for info in _files(filesystem, folder))
    return sorted(n.removesuffix(".token") for n in names if n.endswith(".token"))


def _files(filesystem: fs.FileSystem, folder: str) -> list[fs.FileInfo]:
    found = filesystem.get_file_info(fs.FileSelector(folder, allow_not_found=True))
    return [info for info in found if info.base_name[:8].isdigit()]


def _number(name: str) -> int:
    return int(name[:8])

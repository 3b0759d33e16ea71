"""Locks by which processes, on one machine or many, keep out of each other's work; they go with the process."""

import contextlib
import os
import socket
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from pathlib import Path

from ssl_risk_rs._files import unwritable

__all__ = ["alone_in", "hold", "hold_if_free", "hold_in_store", "holder", "is_held"]


@contextlib.contextmanager
def hold(path: Path, say: Callable[[str], None] = lambda _: None) -> Iterator[None]:
    """Hold a lock, waiting for whoever holds it, which is said.

    The lock goes with the process that holds it: one that died is taken over, which is said too. Where the file system
    has no locks, nothing is held, and that is said.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+", encoding="utf-8") as file:
        if not _try_lock(path, file.fileno(), say):
            say(f"This waits for {holder(path) or 'another process'}, which is at work on the same.")
            _lock(file.fileno(), wait=True)
        elif left := holder(path):
            say(f"{left[:1].upper()}{left[1:]} ended without finishing this; it goes on here.")
        when = datetime.now(timezone.utc).isoformat(timespec="seconds")
        _put(file.fileno(), f"process {os.getpid()} on {socket.gethostname()}, since {when}")
        try:
            yield
        finally:
            _put(file.fileno(), "")


@contextlib.contextmanager
def hold_if_free(path: Path) -> Iterator[bool]:
    """Hold a lock unless somebody holds it; whether it is held here."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+", encoding="utf-8") as file:
        try:
            free = _lock(file.fileno(), wait=False)
        except OSError:  # no locks there: nothing is held by anybody
            free = True
        yield free


def holder(path: Path) -> str:
    """Who holds a lock, or held it when it died; "" for nobody."""
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError:
        return ""


def is_held(path: Path) -> bool:
    """Whether somebody is at work; False where the file system cannot tell."""
    try:
        with path.open("r+", encoding="utf-8") as file:
            return not _lock(file.fileno(), wait=False)
    except OSError:
        return False


def _put(descriptor: int, text: str) -> None:
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, text.encode(), 0) if hasattr(os, "pwrite") else os.write(descriptor, text.encode())


def _try_lock(path: Path, descriptor: int, say: Callable[[str], None]) -> bool:
    try:
        return _lock(descriptor, wait=False)
    except OSError:
        say(f"The file system of {path.parent} has no locks: two processes at once would do the same work twice.")
        return True


@contextlib.contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Change a folder that is there while nobody else does; where the file system has no locks, nothing is held."""
    descriptor = None
    with contextlib.suppress(OSError):  # Windows opens no folder
        descriptor = os.open(folder, os.O_RDONLY)
        _lock(descriptor, wait=True)
    try:
        yield
    finally:
        if descriptor is not None:
            os.close(descriptor)


@contextlib.contextmanager
def hold_in_store(root: Path, key: str, say: Callable[[str], None]) -> Iterator[None]:
    """`hold` for what is encoded into a store; in one that is read-only, where all banks are there, nothing is held."""
    with hold(root / "locks" / f"{key}.lock", say) if unwritable(root) is None else contextlib.nullcontext():
        yield


def _lock(descriptor: int, *, wait: bool) -> bool:
    """Whether the lock was taken."""
    try:
        import fcntl
    except ImportError:  # Windows
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True

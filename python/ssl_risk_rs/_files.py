"""Files that appear whole or not at all."""

import contextlib
import errno
import glob
import hashlib
import os
import re
import secrets
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Literal

from ssl_risk_rs.errors import ParameterError

__all__ = [
    "OFFLINE", "beside", "cache_folder", "check_outputs", "is_offline", "naming", "passing_kind", "publish",
    "publish_exclusive", "remove_folder", "remove_left", "replace_folder", "sha256_of", "unwritable",
    "user_cache",
]  # fmt: skip

#: environment variable that forbids downloads, as --offline does
OFFLINE = "SSL_RISK_OFFLINE"

#: files of run folders, of banks and of folders of features
_READ = ("run.json", "results.parquet", "outcomes.npz", "draws_*.parquet", "bank.json", "samples.parquet",
         "class_names.json", "*.npy", "*.journal")  # fmt: skip

#: seconds after which a file that nobody has written to on its way to a target is of a writer that died
FORGOTTEN = 86_400

#: end of the name of a folder that is being removed
_REMOVED = ".removed"
#: names that `beside` and `remove_folder` give
_PASSING = re.compile(rf"\..+\.\d+-[0-9a-f]{{8}}(\.tmp|{re.escape(_REMOVED)})")


def is_offline() -> bool:
    """Whether nothing may be downloaded; the Hugging Face hub's own variable counts too."""
    return any(os.environ.get(name, "").lower() not in ("", "0", "false", "no") for name in (OFFLINE, "HF_HUB_OFFLINE"))


def cache_folder() -> Path:
    """Where files are kept that can be made or fetched again: `$SSL_RISK_CACHE`, else the user's cache folder."""
    if folder := os.environ.get("SSL_RISK_CACHE"):
        return Path(folder).expanduser()
    return user_cache()


def unwritable(folder: Path) -> Path | None:
    """What stands in the way of a folder that is to be written to: itself, or what is there above it; None if nothing
    does."""
    there = next(above for above in (folder, *folder.parents) if above.exists())
    return None if there.is_dir() and os.access(there, os.W_OK) else there


def sha256_of(path: Path, leave: int = 0) -> str:
    """SHA-256 of a file less its last `leave` bytes, hexadecimal."""
    digest = hashlib.sha256()
    left = path.stat().st_size - leave
    with path.open("rb") as file:
        while left > 0 and (block := file.read(min(1 << 22, left))):
            digest.update(block)
            left -= len(block)
    return digest.hexdigest()


def user_cache() -> Path:
    """The package's folder where the system keeps the user's caches."""
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "ssl-risk-rs"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "ssl-risk-rs"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ssl-risk-rs"


@contextlib.contextmanager
def beside(target: Path) -> Iterator[Path]:
    """A path in the target's folder that nobody else uses; what is there afterwards is removed."""
    # a long name is cut: with the rest it would be too long for the file system
    temporary = target.with_name(f".{target.name[:48]}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
    try:
        yield temporary
    finally:
        if temporary.is_dir() and not temporary.is_symlink():
            shutil.rmtree(temporary)
        elif os.path.lexists(temporary):  # a read-only file system refuses to remove even what is not there
            temporary.unlink(missing_ok=True)


def remove_left(target: Path) -> None:
    """Remove what writers of this target that died more than a day ago have left beside it."""
    of_target = re.compile(rf"\.{re.escape(target.name[:48])}\.(?P<pid>\d+)-[0-9a-f]{{8}}\.tmp")
    for left in target.parent.glob(f".{glob.escape(target.name[:48])}.*.tmp"):
        found = of_target.fullmatch(left.name)
        if found is None or int(found["pid"]) == os.getpid():
            continue
        with contextlib.suppress(OSError):  # another process may be at it
            seen = left.lstat()
            if time.time() - max(seen.st_mtime, seen.st_ctime) > FORGOTTEN:  # a rename makes the second new
                shutil.rmtree(left) if left.is_dir() and not left.is_symlink() else left.unlink()


def publish(target: Path, write: Callable[[Path], object]) -> None:
    """Write a file beside the target, bring it to disk, rename it over the target.

    Raises
    ------
    OSError with the name of the target, also where the writer's own says nothing of a file (a full disk), and for a
    target that is a pipe or a device, which the rename would take away.
    """
    if target.exists() and not target.is_file():
        what = "Is a folder" if target.is_dir() else "Is a pipe or a device, and no file"
        raise OSError(errno.EEXIST, what, str(target))
    with beside(target) as temporary, naming(target, temporary):
        write(temporary)
        _sync(temporary)
        temporary.replace(target)
    with naming(target):
        _sync_folder(target.parent)


@contextlib.contextmanager
def naming(target: Path, temporary: Path | None = None) -> Iterator[None]:
    """Let an error of the system name the target where it names nothing, or what is on its way there.

    Raises
    ------
    OSError for errors of the system, also those that a library tells in words of its own.
    """
    try:
        yield
    except Exception as error:
        number, name = _system_error(error), getattr(error, "filename", None)
        ours = name is None or (temporary is not None and Path(str(name)).is_relative_to(temporary))
        if number is None or not ours:
            raise
        raise OSError(number, os.strerror(number), str(target)) from error


def check_outputs(paths: Iterable[Path | None], *, force: bool, inputs: Iterable[str | Path] = ()) -> None:
    """Complain about files that a command is to write before its work, not after.

    Parameters
    ----------
    paths : the files, None for one that is not asked for; force : they may be there already
    inputs : files and folders that the command reads, several perhaps joined by commas; a name that is neither (a
        key, a pattern) is left alone

    Raises
    ------
    ParameterError if two are one file, if one is a folder, a pipe or a device, is there and `force` is not set, or is
    itself read.
    """
    named = [part.strip() for text in map(str, inputs) for part in (text, *text.split(","))]
    read = [given for name in named if name and (given := Path(name).expanduser()).exists()]
    seen: set[Path] = set()
    for path in paths:
        if path is None:
            continue
        if (place := path.absolute().resolve()) in seen:
            raise ParameterError(f"{path} is named for two files; give each its own name")
        seen.add(place)
        if path.is_dir():
            raise ParameterError(f"{path} is a folder; name a file in it")
        if path.exists() and not path.is_file():
            raise ParameterError(f"{path} is a pipe or a device, and no file; name a file")
        if path.exists() and not force:
            raise ParameterError(f"{path} exists; name another file, or give --force to replace it")
        if path.exists() and any(_is_of(place, given.resolve()) for given in read):
            raise ParameterError(f"{path} is read by this command and would be lost; name another file")


def _is_of(file: Path, given: Path) -> bool:
    """Whether a file is the one given, or one below the folder given that is read there."""
    return file == given or (given in file.parents and any(fnmatchcase(file.name, pattern) for pattern in _READ))


def _system_error(error: Exception) -> int | None:
    """The system's number of an error; None for others. Polars' own errors have it in their text alone."""
    if isinstance(error, OSError):
        return error.errno
    found = re.search(r"\(os error (\d+)\)", str(error)) if type(error).__module__.startswith("polars") else None
    return None if found is None else int(found[1])


def publish_exclusive(target: Path, write: Callable[[Path], object]) -> bool:
    """Like `publish`, unless the target exists: then it stays and the result is False.

    Of several processes, on one machine or many, exactly one gets True.
    """
    if target.exists():
        return False
    with beside(target) as temporary:
        write(temporary)
        _sync(temporary)
        try:
            os.link(temporary, target)
        except FileExistsError:
            return False
        except OSError:  # a file system without hard links: the best it can do
            if target.exists():
                return False
            temporary.rename(target)
    _sync_folder(target.parent)
    return True


def replace_folder(temporary: Path, target: Path, *, force: bool = True) -> None:
    """Rename a finished folder into place; what was there before goes once the new one stands.

    Raises
    ------
    FileExistsError where `force` is not set and there is something, however shortly before it appeared.
    """
    remove_left(target)
    if not force or not target.exists():
        try:
            temporary.rename(target)  # refused by the system where a folder holds something
        except OSError as error:
            if not target.exists():
                raise
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target)) from error
        return
    with beside(target) as old:
        target.rename(old)
        try:
            temporary.rename(target)
        except OSError:
            old.rename(target)
            raise


def remove_folder(folder: Path) -> None:
    """Remove a folder: renamed first, so that a process that dies leaves nothing under its name.

    What earlier removals beside it have left, because their process died, goes too.
    """
    away = folder.with_name(f".{folder.name}.{os.getpid()}-{secrets.token_hex(4)}{_REMOVED}")
    folder.rename(away)
    _sync_folder(folder.parent)
    for left in folder.parent.glob(f".*{_REMOVED}"):
        shutil.rmtree(left, ignore_errors=True)  # another process may be at it
    if away.exists():
        raise OSError(errno.EACCES, "Removed but in part, something in it may not be changed", str(away))


def passing_kind(name: str) -> Literal["written", "removed"] | None:
    """What a process does with a file or folder of this name, written beside its target or on its way out; None for
    other names. If the process died, nobody will ever use it."""
    found = _PASSING.fullmatch(name)
    return None if found is None else "removed" if found[1] == _REMOVED else "written"


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sync_folder(folder: Path) -> None:
    if os.name == "posix":  # elsewhere a folder cannot be opened, nor need it be
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

"""Checkpoint files from their authors' hosts, kept in a cache and checked against the first download's hash.

The hash is recorded, never invented: authors rarely publish one. A file that changes later, on the host
or on the disk, is noticed.
"""

import contextlib
import hashlib
import json
import os
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

from ssl_risk_rs.errors import EncoderError

__all__ = ["cache_dir", "cached_path", "fetch"]

_CHUNK = 1 << 20
_TIMEOUT = 30  # seconds without a byte: long for a slow host, short for a machine without a network


def cache_dir() -> Path:
    """`$SSL_RISK_CACHE`, else the user's cache folder."""
    if chosen := os.environ.get("SSL_RISK_CACHE"):
        return Path(chosen).expanduser()
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "ssl-risk-rs"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local")) / "ssl-risk-rs"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ssl-risk-rs"


def cached_path(name: str, url: str) -> Path:
    """Where the file of encoder `name` lies, or would lie: the encoder's name and the host's file name."""
    return cache_dir() / "encoders" / f"{name}--{unquote(PurePosixPath(urlsplit(url).path).name)}"


def fetch(name: str, url: str, *, licence: str | None, progress: Callable[[str], None]) -> Path:
    """Return the local file of a published encoder, downloading it the first time.

    The file is written beside its place and renamed; a JSON file beside it records address, size, SHA-256
    and date. The licence is shown once, before the first download or use.

    Raises
    ------
    EncoderError if the file cannot be downloaded (with what to do instead), or is not the one recorded.
    """
    path = cached_path(name, url)
    record = path.with_name(path.name + ".json")
    if path.is_file():
        if record.is_file():
            _verify(path, record)
            return path
        origin = "placed by hand"
        _show_licence(name, licence, progress)
        digest = _sha256(path)
    else:
        _show_licence(name, licence, progress)
        origin = "downloaded"
        digest = _download(name, url, path, progress)
    facts = {"url": url, "sha256": digest, "bytes": path.stat().st_size, "origin": origin, "licence": licence}
    temporary = record.with_name(f".{record.name}.{os.getpid()}")
    temporary.write_text(json.dumps({**facts, "date": time.strftime("%Y-%m-%d")}, indent=1) + "\n", encoding="utf-8")
    temporary.replace(record)
    progress(f"{name}: {origin}, recorded SHA-256 {digest[:16]}… in {record.name}")
    return path


def _show_licence(name: str, licence: str | None, progress: Callable[[str], None]) -> None:
    progress(f"{name}: licence of the weights: {licence or 'not recorded here; see where they come from'}")


def _verify(path: Path, record: Path) -> None:
    try:
        expected = json.loads(record.read_text(encoding="utf-8"))["sha256"]
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise EncoderError(
            f"{record} is no record of a download; delete it to have {path.name} recorded anew"
        ) from error
    if _sha256(path) != expected:
        raise EncoderError(
            f"{path} is not the file first downloaded (its SHA-256 differs from the one in {record.name}); "
            "delete both to download it again, or only the record if you replaced the file on purpose"
        )


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _download(name: str, url: str, path: Path, progress: Callable[[str], None]) -> str:
    """Download to a temporary file, then rename; returns the SHA-256."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    digest, received = hashlib.sha256(), 0
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        request = urllib.request.Request(url, headers={"User-Agent": "ssl-risk-rs"})
        with urllib.request.urlopen(request, timeout=_TIMEOUT) as response, temporary.open("wb") as file:
            total = int(response.headers.get("Content-Length") or 0)
            size = f"{total / 1e6:.0f} MB" if total else "unknown size"
            progress(f"{name}: downloading {url} ({size}) to {path}")
            told = time.monotonic()
            while chunk := response.read(_CHUNK):
                file.write(chunk)
                digest.update(chunk)
                received += len(chunk)
                if time.monotonic() - told > 5:
                    told = time.monotonic()
                    progress(f"{name}: {received / 1e6:.0f} of {size}")
            file.flush()
            os.fsync(file.fileno())
        if total and received != total:
            raise OSError(f"the connection ended after {received} of {total} bytes")
        temporary.replace(path)
    except OSError as error:  # URLError, HTTPError, timeouts and full disks are all OSError
        reason = error if isinstance(error, urllib.error.HTTPError) else getattr(error, "reason", None) or error
        raise EncoderError(
            f"the weights of {name} cannot be downloaded from {url} ({reason}). Without a network: download "
            f"that address elsewhere and save it as {path}, or use the file where it is: ckpt:FILE@{name}"
        ) from error
    finally:
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()
    return digest.hexdigest()

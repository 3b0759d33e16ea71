"""Checkpoint files from their authors' hosts, kept in a cache and checked against the first download's hash.

The hash is recorded, never invented: authors rarely publish one. A file that changes later, on the host
or on the disk, is noticed.
"""

import contextlib
import hashlib
import json
import os
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

from ssl_risk_rs._files import OFFLINE, cache_folder, is_offline, sha256_of
from ssl_risk_rs.encoders.catalogue.tables import Address
from ssl_risk_rs.errors import EncoderError

__all__ = ["cached_path", "fetch", "url_of"]

_CHUNK = 1 << 20
_TIMEOUT = 30  # seconds without a byte: long for a slow host, short for a machine without a network


def url_of(address: str) -> str:
    """The address as a browser takes it; hf:ORG/NAME/FILE is a file of the Hugging Face hub ($HF_ENDPOINT)."""
    if not address.startswith("hf:"):
        return address
    organisation, name, file = address[3:].split("/", 2)
    hub = os.environ.get("HF_ENDPOINT") or "https://huggingface.co"
    return f"{hub.rstrip('/')}/{organisation}/{name}/resolve/main/{file}"


def cached_path(place: Address) -> Path:
    """Where the copy of a file from one address lies, or would lie: the catalogue's name and the host's.

    Several encoders are made of one file; it is there once.
    """
    host_name = unquote(PurePosixPath(urlsplit(url_of(place.address)).path).name)
    return cache_folder() / "encoders" / f"{place.file}--{host_name}"


def fetch(
    places: Sequence[Address], *, usable: Sequence[Address], name: str, progress: Callable[[str], None]
) -> tuple[Path, Address]:
    """Return the local copy of a file and the address it is of, downloading it the first time.

    A copy from any address will do, a dead one's too, if it was placed by hand. Else the usable addresses are tried
    in order. A file is written beside its place and renamed; a JSON file beside it records address, size, SHA-256
    and date. The licence is shown once, before the first download or use.

    Raises
    ------
    EncoderError if no address gives the file (with what to do instead), or if it is not the one published or recorded.
    """
    for place in places:
        if cached_path(place).is_file():
            return _known(place, name, progress), place
    if is_offline() and usable:
        raise EncoderError(
            f"the weights of {name} are not on this machine, and nothing is downloaded (--offline, {OFFLINE}): they "
            f"would come from {url_of(usable[0].address)}. Save that file as {cached_path(usable[0])}, or use it where "
            f"it is: ckpt:FILE@{name}"
        )
    failures = []
    for place in usable:
        path = cached_path(place)
        _show_licence(place, name, progress)
        try:
            digest = _download(name, place, path, progress)
        except OSError as error:  # URLError, HTTPError, timeouts and full disks are all OSError
            reason = error if isinstance(error, urllib.error.HTTPError) else getattr(error, "reason", None) or error
            failures.append(f"{url_of(place.address)} ({reason})")
            continue
        _record(place, path, digest, "downloaded", name, progress)
        return path, place
    place = (*usable, *places)[0]
    by_hand = f"save it as {cached_path(place)}, or use the file where it is: ckpt:FILE@{name}"
    if not failures:
        raise EncoderError(
            f"no address of the weights of {name} lives any more; the published one is {url_of(places[0].address)}. "
            f"If you have the file, {by_hand}"
        )
    raise EncoderError(
        f"the weights of {name} cannot be downloaded from {'; nor from '.join(failures)}. Without a network: download "
        f"that address elsewhere and {by_hand}"
    )


def _known(place: Address, name: str, progress: Callable[[str], None]) -> Path:
    """A copy that is there, checked against its record; without one it was placed by hand and is recorded now."""
    path = cached_path(place)
    if (record := path.with_name(path.name + ".json")).is_file():
        _verify(path, record)
        return path
    _show_licence(place, name, progress)
    digest = sha256_of(path)
    _check_published(place, path, digest)
    _record(place, path, digest, "placed by hand", name, progress)
    return path


def _record(place: Address, path: Path, digest: str, origin: str, name: str, progress: Callable[[str], None]) -> None:
    record = path.with_name(path.name + ".json")
    facts = {"url": url_of(place.address), "sha256": digest, "bytes": path.stat().st_size, "origin": origin}
    facts |= {"licence": place.licence, "date": time.strftime("%Y-%m-%d")}
    temporary = record.with_name(f".{record.name}.{os.getpid()}")
    temporary.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    temporary.replace(record)
    progress(f"{name}: {origin}, recorded SHA-256 {digest[:16]}… in {record.name}")


def _check_published(place: Address, path: Path, digest: str) -> None:
    """A file whose authors published a size or a digest must have it."""
    size = path.stat().st_size
    if not digest.startswith(place.sha256) or place.n_bytes not in (None, size):
        said = f"SHA-256 {place.sha256}…" if place.sha256 else f"{place.n_bytes} bytes"
        raise EncoderError(
            f"{path} is not the published file: {size} bytes with SHA-256 {digest[:16]}…, where {said} was published; "
            "it may be cut short, or a page that a host sent instead. Delete it and download it again"
        )


def _show_licence(place: Address, name: str, progress: Callable[[str], None]) -> None:
    source = f" ({place.licence_source})" if place.licence_source else ""
    progress(f"{name}: licence of the weights: {place.licence}{source}")


def _verify(path: Path, record: Path) -> None:
    try:
        expected = json.loads(record.read_text(encoding="utf-8"))["sha256"]
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise EncoderError(
            f"{record} is no record of a download; delete it to have {path.name} recorded anew"
        ) from error
    if sha256_of(path) != expected:
        raise EncoderError(
            f"{path} is not the file first downloaded (its SHA-256 differs from the one in {record.name}); "
            "delete both to download it again, or only the record if you replaced the file on purpose"
        )


def _download(name: str, place: Address, path: Path, progress: Callable[[str], None]) -> str:
    """Download to a temporary file, then rename; returns the SHA-256.

    Raises
    ------
    OSError if it fails; EncoderError if what arrives is not the published file.
    """
    url = url_of(place.address)
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
        _check_published(place, temporary, digest.hexdigest())
        temporary.replace(path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()
    return digest.hexdigest()

"""The published table on this machine: downloaded once from its authors' repository, or taken from a file.

The files are pinned: a commit, and the SHA-256 of each. Whatever else is offered is refused.
"""

import hashlib
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from ssl_risk_rs._files import OFFLINE, cache_folder, is_offline, publish
from ssl_risk_rs.encoders.catalogue import published_entry
from ssl_risk_rs.errors import DataError, ParameterError
from ssl_risk_rs.results.counterpart import Counterpart, NotPublished, counterpart
from ssl_risk_rs.results.published import Published, read_published
from ssl_risk_rs.results.run import Run

__all__ = [
    "ADDRESS", "COMMIT", "FILES", "TABLE", "beside", "fetch", "find_published", "is_fetched", "is_published",
    "load_published",
    "paper_folder", "published_encoder",
]  # fmt: skip

#: the authors' repository (MIT licence) at the commit that the pins are of
COMMIT = "e09046d"
ADDRESS = f"https://github.com/YannDubs/SSL-Risk-Decomposition/raw/{COMMIT}"
TABLE = "all_results.csv"
#: file → SHA-256
FILES = {
    TABLE: "75da2ec8fb7a4586d4324bdbe89b1953ac3cba4125c45e7f8940d668ddff0daa",
    "metadata.yaml": "fd3d20a6f735fbabb21ea230221a7339716fc408b33198d295b903fa6245d473",
}
#: seconds without a byte
_TIMEOUT = 30
#: both files have less than 300 kB
_MOST_BYTES = 10_000_000


@dataclass(frozen=True, slots=True)
class Fetched:
    """A file in the cache; `origin`: "cache", an address, or a path."""

    path: Path
    origin: str


def paper_folder() -> Path:
    """Where the files lie, or would lie."""
    return cache_folder() / "paper" / COMMIT


def is_fetched() -> bool:
    """Whether the table is there; it is checked when it is read."""
    return (paper_folder() / TABLE).is_file()


def fetch(
    sources: Iterable["Path | str"] = (), *, address: str = ADDRESS, say: Callable[[str], None] = lambda _: None
) -> list[Fetched]:
    """Bring the published files into the cache; those that are there and unchanged stay.

    Parameters
    ----------
    sources : files, or folders with them; without any they are downloaded from `address`
    say : receives a sentence for each download

    Returns
    -------
    the files that are in the cache now

    Raises
    ------
    DataError if a file cannot be read or downloaded (with what to do instead), or is not one of the pinned files.
    """
    given = list(sources)
    folder = paper_folder()
    found = []
    if given:
        for path in _files_of(given):
            content = _read(path)
            name = _pinned(content, str(path))
            found.append(_keep(folder / name, content, str(path)))
        return found
    for name, digest in FILES.items():
        kept = folder / name
        if kept.is_file() and hashlib.sha256(_read(kept)).hexdigest() == digest:
            found.append(Fetched(kept, "cache"))
            continue
        url = f"{address}/{name}"
        say(f"{url} is downloaded to {kept}.")
        content = _download(url)
        if _pinned(content, url) != name:
            raise DataError(f"{url} is another file of the pinned commit than its name says; nothing is kept")
        found.append(_keep(kept, content, url))
    return found


def find_published(say: Callable[[str], None]) -> Published | NotPublished:
    """The table, where it can be shown beside other numbers, or why not: `say` is told of a damaged one."""
    if not is_fetched():
        return NotPublished.NOT_FETCHED
    try:
        return load_published()
    except DataError as error:
        say(f"The published numbers are not shown: {error}.")
        return NotPublished.UNREADABLE


def load_published(path: "Path | str | None" = None) -> Published:
    """Read the published table, from the cache or from a file that is checked alike.

    Raises
    ------
    DataError if it is not there, or is not the pinned file.
    """
    file = paper_folder() / TABLE if path is None else Path(path).expanduser()
    if path is None and not file.is_file():
        raise DataError(
            "the published table is not on this machine: ssl-risk-rs paper fetch downloads it, "
            "ssl-risk-rs paper fetch --file FILE takes it from a file"
        )
    content = _read(file)
    if hashlib.sha256(content).hexdigest() != FILES[TABLE]:
        raise DataError(f"{file} is not the published table: {_digests(content)}; ssl-risk-rs paper fetch replaces it")
    return read_published(content.decode("utf-8"))


def is_published(name: str) -> bool:
    """Whether a name is one of a published encoder; the table need not be there."""
    return published_entry(name) is not None


def published_encoder(published: Published, name: str) -> str | None:
    """The published encoder that a name stands for, aliases and any case allowed; None if there is none."""
    entry = published_entry(name)
    row = published.row(name if entry is None else entry.name)
    return None if row is None else str(row["encoder"])


def beside(
    run: Run, published: Published, *, encoder: str | None = None, architecture: str | None = None
) -> list[Counterpart]:
    """Each decomposition of a run beside the published table.

    Parameters
    ----------
    encoder : name of the published encoder where the run does not tell; architecture : as in `counterpart`

    Returns
    -------
    nothing where the encoder is not published and the data are not those of the table, or where another column than
    the labels was predicted

    Raises
    ------
    ParameterError for an `encoder` that is not published, or an unknown architecture.
    """
    name = published_encoder(published, encoder or run.provenance.encoder)
    if encoder is not None and name is None:
        raise ParameterError(f"{encoder!r} is not among the {len(published.names())} published encoders")
    if run.provenance.target is not None or any(not d.predicts_classes for d in run.decompositions):
        return []
    found = [
        counterpart(published, d, run.provenance, encoder=name, architecture=architecture) for d in run.decompositions
    ]
    return [c for c in found if c.encoder is not None or c.place is not None]


def _files_of(sources: list["Path | str"]) -> list[Path]:
    files = []
    for source in sources:
        path = Path(source).expanduser()
        inside = [path / name for name in FILES if (path / name).is_file()] if path.is_dir() else [path]
        if not inside:
            raise DataError(f"{path} has none of {', '.join(FILES)}")
        files += inside
    return files


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(_MOST_BYTES)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error


def _pinned(content: bytes, where: str) -> str:
    """Name of the pinned file that this is."""
    digest = hashlib.sha256(content).hexdigest()
    for name, expected in FILES.items():
        if digest == expected:
            return name
    raise DataError(
        f"{where} is none of the files of commit {COMMIT} of the authors' repository: {_digests(content)}. A file must "
        "be theirs byte for byte (a checkout may have changed its line ends); nothing is kept"
    )


def _digests(content: bytes) -> str:
    expected = ", ".join(f"{digest[:16]}… ({name})" for name, digest in FILES.items())
    return f"its SHA-256 is {hashlib.sha256(content).hexdigest()[:16]}…, expected {expected}"


def _keep(target: Path, content: bytes, origin: str) -> Fetched:
    def write(path: Path) -> None:
        path.write_bytes(content)

    target.parent.mkdir(parents=True, exist_ok=True)
    publish(target, write)
    return Fetched(target, origin)


def _download(url: str) -> bytes:
    if is_offline():
        raise DataError(f"{url} is not on this machine, and nothing is downloaded ({OFFLINE} is set): take --file FILE")
    request = urllib.request.Request(url, headers={"User-Agent": "ssl-risk-rs"})
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT) as response:
            content: bytes = response.read(_MOST_BYTES)
            total = int(response.headers.get("Content-Length") or 0)
        if total and len(content) != total:
            raise OSError(f"the connection ended after {len(content)} of {total} bytes")
        return content
    except OSError as error:  # URLError, HTTPError and timeouts are all OSError
        reason = error if isinstance(error, urllib.error.HTTPError) else getattr(error, "reason", None) or error
        raise DataError(
            f"{url} cannot be downloaded ({reason}). Without a network: save that address elsewhere, then "
            "ssl-risk-rs paper fetch --file FILE"
        ) from error

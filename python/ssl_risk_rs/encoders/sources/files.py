"""The files behind an encoder's name, by whose sizes and times a changed encoder is told. No torch here."""

from pathlib import Path

from ssl_risk_rs.encoders.facts import BUNDLED, bundled_path
from ssl_risk_rs.encoders.names import EncoderName
from ssl_risk_rs.encoders.sources.checkpoint import copies_of
from ssl_risk_rs.encoders.sources.published import published_files
from ssl_risk_rs.encoders.weights.files import files_of

__all__ = ["file_facts", "own_files", "weights_files"]


def weights_files(name: EncoderName) -> tuple[Path, ...]:
    """All files of weights of a checkpoint, a published or a bundled encoder; empty for names of other kinds."""
    if name.kind == "checkpoint":
        return tuple(file for copy in copies_of(name) for file in files_of(copy.path))
    if name.kind == "registry":
        return (bundled_path(name.target),) if name.target in BUNDLED else published_files(name.target)
    return ()


def own_files(name: EncoderName) -> tuple[Path, ...]:
    """Files of the user's own that an encoder is made of, as far as its name tells; of code the file that it names."""
    if name.kind == "checkpoint":
        return weights_files(name) + (() if name.code is None else (name.code[0],))
    if name.kind not in ("code", "hf", "openclip"):
        return ()
    path = Path(name.target).expanduser()
    if path.is_dir():
        return tuple(sorted(file for file in path.iterdir() if file.is_file()))
    return (path,) if path.is_file() else ()


def file_facts(path: Path) -> list[str | int | None]:
    """Where a file is, its size and its time, JSON-ready; a missing file is `create_encoder`'s error to explain."""
    path = path.absolute()
    if not path.is_file():
        return [str(path), None, None]
    stat = path.stat()
    return [str(path), stat.st_size, stat.st_mtime_ns]

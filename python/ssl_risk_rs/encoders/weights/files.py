"""Which files hold the weights that a path names: a file, a folder, or an index of several. No torch here."""

import json
from pathlib import Path

from ssl_risk_rs.errors import EncoderError

__all__ = ["INDEX_SUFFIX", "file_in", "files_of", "indexed_files"]

INDEX_SUFFIX = ".index.json"

#: file names of a folder of weights as transformers and others write them, in the order they are looked for
_FOLDER = (
    "model.safetensors.index.json", "model.safetensors", "pytorch_model.bin.index.json", "pytorch_model.bin",
    "diffusion_pytorch_model.safetensors", "open_clip_pytorch_model.bin",
)  # fmt: skip


def files_of(path: Path) -> tuple[Path, ...]:
    """All files that reading `path` reads, an index first; `path` itself where it is not there or cannot be read so."""
    try:
        path = file_in(path) if path.is_dir() else path
        return (path, *indexed_files(path)) if path.name.endswith(INDEX_SUFFIX) else (path,)
    except (EncoderError, OSError):
        return (path,)


def file_in(folder: Path) -> Path:
    """The file or index of a folder of weights.

    Raises
    ------
    EncoderError if it holds none under a usual name.
    """
    for name in _FOLDER:
        if (folder / name).is_file():
            return folder / name
    held = sorted(file.name for file in folder.iterdir() if file.is_file())[:6]
    raise EncoderError(
        f"{folder} is a folder without {_FOLDER[1]} or {_FOLDER[3]}; name the file itself"
        + (f" (it holds {', '.join(held)})" if held else "")
    )


def indexed_files(path: Path) -> list[Path]:
    """The files over which weights are split, as an index says.

    Raises
    ------
    EncoderError if it is no index, or names files that are elsewhere or absent.
    """
    try:
        places = json.loads(path.read_text(encoding="utf-8"))["weight_map"]
        names = sorted({str(name) for name in places.values()})
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise EncoderError(f"{path} is no index of weights: it has no weight_map ({error})") from error
    if outside := [name for name in names if Path(name).name != name]:
        raise EncoderError(f"{path} names files outside its folder: {outside[0]}")
    if absent := [name for name in names if not (path.parent / name).is_file()]:
        raise EncoderError(
            f"{path.parent} lacks {len(absent)} of the {len(names)} files that {path.name} names: "
            f"{', '.join(absent[:4])}"
        )
    return [path.parent / name for name in names]

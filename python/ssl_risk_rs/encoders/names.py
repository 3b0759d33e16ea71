"""The grammar of encoder names: `swav`, `timm:NAME`, `random:ARCH`, `ckpt:FILE@ARCH`, `file.py:function`, …

The architecture of a checkpoint may be the user's own: `ckpt:FILE@file.py:function`.

Options follow a question mark: `random:resnet18?seed=3`, `ckpt:w.pth@vit_base_patch16_224?patch_size=4`;
`ckpt:w.pth@ARCH?match=order` assigns tensors by position, `?ema=true` takes the average of several copies, and
`?mean=imagenet&std=imagenet&resize=256&interpolation=bicubic` says how the images were prepared.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from glob import glob
from pathlib import Path
from typing import Literal

from ssl_risk_rs._limits import whole_number
from ssl_risk_rs.errors import EncoderError, ParameterError

__all__ = ["EncoderName", "Preparation", "expand_names", "is_pattern", "parse_name", "parse_options"]

Kind = Literal["registry", "timm", "random", "checkpoint", "code", "hub", "pixels", "hf", "openclip"]


@dataclass(frozen=True, slots=True)
class EncoderName:
    """A name taken apart: which source, what in it, and the options after the question mark."""

    text: str
    kind: Kind
    target: str  #: registry or timm name, architecture, grid; for files: the path; for hub and hf: the repository
    part: str = ""  #: architecture of a checkpoint, function of a file, entry or revision of a repository, tag
    options: dict[str, object] = field(default_factory=dict)

    @property
    def code(self) -> tuple[Path, str] | None:
        """File and function of the user's own code, which is run: the encoder's or a checkpoint's architecture's; None
        of every other name."""
        if self.kind == "code":
            return Path(self.target), self.part
        path, _, function = self.part.rpartition(":")
        return (Path(path).expanduser(), function) if path.endswith(".py") else None


def is_pixels(text: str) -> bool:
    """Whether a name is that of a grid of pixels; False for what is no name."""
    try:
        return parse_name(text).kind == "pixels"
    except EncoderError:
        return False


def parse_name(text: str) -> EncoderName:
    """Take a name apart; nothing is opened.

    Raises
    ------
    EncoderError for a malformed name, with an example of a right one; ParameterError for what is no text.
    """
    if not isinstance(text, str):
        raise ParameterError(
            f"an encoder is named by text here, not by {type(text).__name__}: extract(create_encoder(module), dataset) "
            "encodes with a module, and decompose takes the bank that it gives"
        )
    scheme, colon, rest = text.partition(":")
    if scheme in ("timm", "random", "ckpt", "pixels") and (colon or scheme == "pixels"):
        # in a checkpoint's name the options follow the architecture: a path may hold a question mark
        path, at, tail = rest.rpartition("@") if scheme == "ckpt" else ("", "", rest)
        if scheme == "ckpt" and not at:
            path, tail = tail, ""
        target, options = _split_options(tail, text)
        if scheme == "ckpt":
            if not path:
                raise EncoderError(f"{text}: no file named; write ckpt:FILE@ARCH, such as ckpt:swav.pth.tar@resnet50")
            _check_function(target, text)
            return EncoderName(text, "checkpoint", str(Path(path).expanduser()), target, options)
        if scheme == "pixels":
            if target and not whole_number(target):
                raise EncoderError(f"{text}: the grid is a positive number, such as pixels:8")
            return EncoderName(text, "pixels", target or "8", "", options)
        if not target:
            raise EncoderError(f"{text}: no architecture named; write {scheme}:resnet50")
        if scheme == "timm" and options.pop("pretrained", True) is False:
            return EncoderName(text, "random", target, "", options)
        return EncoderName(text, "timm" if scheme == "timm" else "random", target, "", options)
    if scheme == "hub" and colon:
        return _hub_name(text, rest)
    if scheme == "hf" and colon:
        return _hf_name(text, rest)
    if scheme == "openclip" and colon:
        return _openclip_name(text, rest)
    path, colon, function = text.rpartition(":")
    if (colon and path.endswith(".py")) or text.endswith(".py"):
        _check_function(text, text)
        return EncoderName(text, "code", str(Path(path).expanduser()), function)
    return EncoderName(text, "registry", text)


def _check_function(code: str, text: str) -> None:
    """Refuse what is not `file.py:function`."""
    path, _, function = code.rpartition(":")
    if code.endswith(".py"):
        raise EncoderError(f"{text}: name the function that returns the encoder: {code}:function")
    if path.endswith(".py") and not function.isidentifier():
        raise EncoderError(f"{text}: {function!r} is no function name; write file.py:function")


def _hub_name(text: str, rest: str) -> EncoderName:
    """`OWNER/REPO[:REF]:ENTRY` → the repository as torch.hub writes it, and the entry."""
    place, options = _split_options(rest, text)
    repository, _, entry = place.rpartition(":")
    owner, slash, project = repository.partition(":")[0].partition("/")
    if not (slash and owner and project and entry.isidentifier()):
        raise EncoderError(f"{text}: write hub:OWNER/REPO:ENTRY or hub:OWNER/REPO:TAG:ENTRY")
    return EncoderName(text, "hub", repository, entry, options)


def _hf_name(text: str, rest: str) -> EncoderName:
    """`REPO[@REVISION]` or a folder."""
    place, options = _split_options(rest, text)
    if Path(place).expanduser().is_dir():
        return EncoderName(text, "hf", place, "", options)
    repository, at, revision = place.partition("@")
    if not repository or (at and not revision):
        raise EncoderError(f"{text}: write hf:OWNER/REPO, hf:OWNER/REPO@REVISION or hf:/folder")
    return EncoderName(text, "hf", repository, revision, options)


def _openclip_name(text: str, rest: str) -> EncoderName:
    """`ARCH/TAG`, `ARCH/FILE`, or a folder."""
    place, options = _split_options(rest, text)
    if Path(place).expanduser().is_dir():
        return EncoderName(text, "openclip", place, "", options)
    architecture, _, weights = place.partition("/")
    if not architecture or not weights:
        raise EncoderError(f"{text}: write openclip:ARCH/TAG, such as openclip:ViT-B-32/openai, or openclip:ARCH/FILE")
    return EncoderName(text, "openclip", architecture, weights, options)


def _split_options(tail: str, text: str) -> tuple[str, dict[str, object]]:
    """`ARCH?a=1&b=true` → ARCH and {a: 1, b: True}; a value that is no JSON is a string."""
    target, mark, query = tail.partition("?")
    return target, parse_options(query, text) if mark else {}


def parse_options(query: str, text: str) -> dict[str, object]:
    """`a=1&b=true` → {a: 1, b: True}.

    Raises
    ------
    EncoderError that names `text` for anything else.
    """
    options: dict[str, object] = {}
    for item in query.split("&") if query else []:
        key, equals, value = item.partition("=")
        if not (equals and key.isidentifier()):
            raise EncoderError(f"{text}: options are key=value, joined by &; got {item!r}")
        try:
            options[key] = json.loads(value.lower() if value in ("True", "False") else value)
        except ValueError:  # no JSON, or a number of thousands of digits
            options[key] = value
    return options


@dataclass(frozen=True, slots=True)
class Preparation:
    """How images are prepared for a file of weights; None: as its architecture's usually are.

    mean, std : of pixels, as names say them ("imagenet", "0.5"); resize : short side before the crop, in pixels;
    interpolation : "bilinear" or "bicubic"
    """

    mean: str | None = None
    std: str | None = None
    resize: int | None = None
    interpolation: str | None = None

    def named(self, text: str) -> str:
        """The name of a checkpoint with this in it; any name where nothing is said.

        Raises
        ------
        EncoderError for names of other kinds, whose preprocessing is known.
        """
        given = {key: value for key, value in asdict(self).items() if value is not None}
        if not given:
            return text
        name = parse_name(text)
        if name.kind not in ("checkpoint", "hub"):
            raise EncoderError(
                f"{text}: {', '.join(given)} say how images are prepared for a file of weights, ckpt:FILE@ARCH, and "
                "for hub:…; what other names stand for has its own preprocessing"
            )
        if twice := given.keys() & name.options.keys():
            raise EncoderError(f"{text}: {min(twice)} is in the name and given apart: leave out one")
        return _with_options(name, given)

    def shared(self, text: str) -> str:
        """The name of a twin or control: a file of weights sees the same images, but for what its own name says; other
        names, whose preprocessing is known, stay as they are."""
        name = parse_name(text)
        if name.kind not in ("checkpoint", "hub"):
            return text
        given = {key: value for key, value in asdict(self).items() if value is not None and key not in name.options}
        return _with_options(name, given) if given else text


def _with_options(name: EncoderName, given: Mapping[str, object]) -> str:
    return name.text + ("&" if name.options else "?") + "&".join(f"{key}={value}" for key, value in given.items())


def is_pattern(text: str) -> bool:
    """Whether a name stands for several files: `ckpt:runs/ep*.pth@resnet18`."""
    name = parse_name(text)
    return name.kind == "checkpoint" and not Path(name.target).exists() and bool(set("*?[") & set(name.target))


def expand_names(texts: Sequence[str]) -> list[str]:
    """The names that names and patterns of checkpoints stand for, each once; files in the order of their numbers.

    Raises
    ------
    EncoderError for a pattern that matches no file.
    """
    found: list[str] = []
    for text in texts:
        if not is_pattern(text):
            found.append(text)
            continue
        pattern = parse_name(text).target
        _, at, architecture = text.rpartition("@")
        files = sorted(glob(pattern, recursive=True), key=_by_number)
        if not files:
            raise EncoderError(
                f"{text}: no file matches {pattern}; quote the pattern, and look at {Path(pattern).parent}"
            )
        found += [f"ckpt:{file}{at}{architecture if at else ''}" for file in files]
    return list(dict.fromkeys(found))


def _by_number(path: str) -> list[tuple[int, int, str]]:
    """A key that sorts ep2 before ep10."""
    return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in re.split(r"(\d+)", path) if part]

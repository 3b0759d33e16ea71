"""Where encoders come from: a spec for every kind of name, and the module it stands for.

Specs of published and bundled encoders, of pixels and of our own checkpoints need no torch. A timm
architecture's features and preprocessing are timm's knowledge: those specs import it.
"""

from collections.abc import Callable
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ssl_risk_rs.encoders.catalogue.tables import EncoderRow, published_entry, published_names
from ssl_risk_rs.encoders.facts import BUNDLED, bundled_path, read_facts, spec_from_facts
from ssl_risk_rs.encoders.names import EncoderName, parse_name
from ssl_risk_rs.encoders.sources import architecture as arch
from ssl_risk_rs.encoders.sources import checkpoint
from ssl_risk_rs.encoders.sources.code import build_code, describe_code
from ssl_risk_rs.encoders.sources.hf import build_hf, describe_hf
from ssl_risk_rs.encoders.sources.hub import build_hub, describe_hub
from ssl_risk_rs.encoders.sources.openclip import build_openclip, describe_openclip
from ssl_risk_rs.encoders.sources.pixels import build_pixels, describe_pixels
from ssl_risk_rs.encoders.sources.published import Copy, describe_published, fetch_copies, fill, row_options
from ssl_risk_rs.encoders.spec import EncoderSpec, Layers, choose_features, nearest
from ssl_risk_rs.encoders.told import Told
from ssl_risk_rs.errors import EncoderError

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor, nn

    from ssl_risk_rs.encoders.encoder import Encoder

__all__ = ["build", "check_at_hand", "check_name", "describe", "list_names"]


def list_names(pattern: str = "*", *, recognised: bool = False) -> list[str]:
    """Names of encoders that match a shell pattern; `timm:…` patterns search timm's pretrained models.

    `recognised=True` adds published encoders whose addresses are dead.
    """
    if pattern.startswith("timm:"):
        import timm

        return [f"timm:{name}" for name in timm.list_models(pattern[5:], pretrained=True)]
    names = [*BUNDLED, "pixels:8", *published_names(loadable_only=not recognised)]
    return [name for name in names if fnmatchcase(name.lower(), pattern.lower())]


def describe(text: str) -> EncoderSpec:
    """The spec behind a name, without building the encoder.

    Raises
    ------
    EncoderError if the name is malformed or unknown (with the nearest).
    """
    name = parse_name(text)
    if name.kind == "registry":
        if name.target in BUNDLED:
            return spec_from_facts(name.target, bundled_path(name.target), read_facts(bundled_path(name.target)))
        return describe_published(_row(name.target))
    if name.code is not None:
        return describe_code(name)
    kinds: dict[str, Callable[[EncoderName], EncoderSpec]] = {
        "pixels": describe_pixels,
        "checkpoint": checkpoint.describe_checkpoint,
        "random": arch.describe_random,
        "timm": arch.describe_timm,
        "hub": describe_hub,
        "hf": describe_hf,
        "openclip": describe_openclip,
    }
    return kinds[name.kind](name)


def check_name(text: str) -> None:
    """Refuse what can be refused without torch: a malformed name, one that no table has, a file that is not there.

    Raises
    ------
    EncoderError, with the nearest names.
    """
    name = parse_name(text)
    if name.kind == "registry" and name.target not in BUNDLED:
        _row(name.target)
    if name.kind == "checkpoint" and not _is_there(name.target):
        raise EncoderError(f"{text}: there is no file {name.target}")
    if name.code is not None and not name.code[0].is_file():
        raise EncoderError(f"{text}: there is no file {name.code[0]}")


def check_at_hand(text: str) -> None:
    """Refuse what can be refused before the encoder is built: as `check_name`, and options.

    Raises
    ------
    EncoderError.
    """
    check_name(text)
    if parse_name(text).kind not in ("code", "hub", "hf", "openclip"):  # what those are is known when they are built
        describe(text)


def _is_there(target: str) -> bool:
    """Whether a file of weights or code exists; weights may be a folder, or several files joined by commas."""
    return Path(target).exists() or all(Path(part).expanduser().is_file() for part in target.split(","))


def _row(target: str) -> EncoderRow:
    row = published_entry(target)
    if row is None:
        raise EncoderError(_unknown(target))
    return row


def build(
    text: str,
    *,
    layers: Layers,
    pool: str | None,
    img_size: int | None,
    match: Literal["name", "order"],
    progress: Told,
) -> "Encoder":
    """Build the encoder behind a name; the arguments are those of `create_encoder`."""
    from ssl_risk_rs.encoders.encoder import finish
    from ssl_risk_rs.encoders.networks.features import name_features, offered_features

    name = parse_name(text)
    if name.code is not None:
        return build_code(name, layers=layers, pool=pool, img_size=img_size, match=match, progress=progress)
    built = {"hub": build_hub, "hf": build_hf, "openclip": build_openclip}
    if name.kind in built:
        return built[name.kind](name, layers=layers, pool=pool, img_size=img_size, progress=progress)
    if name.kind == "pixels":
        return build_pixels(name, layers, pool, img_size)
    spec = describe(text)
    options = _options(name)
    asked = None if img_size == spec.img_size else img_size
    if asked is not None and asked < 1:
        raise EncoderError(f"the image size must be positive, not {asked}")
    network = _network_at(asked, name, spec, options, match, progress)
    ours = arch.is_our_resnet(spec.architecture, options, name.kind)
    offered = spec.features if ours else offered_features(network)
    default = spec.features[0] if layers is None and pool is None else None
    wanted = (default,) if default in offered else choose_features(offered, layers, pool)
    if asked is not None:
        spec = replace(spec, img_size=asked, resize=_short_side(asked, spec, name, options))
    if spec.resize is not None and spec.img_size is not None and spec.resize < spec.img_size:
        raise EncoderError(f"{text}: a short side of {spec.resize} is less than the {spec.img_size} that are cropped")
    if name.kind == "checkpoint" and (note := checkpoint.preprocessing_note(name, spec)):
        progress(note)  # of the size that was asked for
    try:
        return finish(spec, name_features(network, wanted), _transform(spec, name, options))
    except EncoderError as error:
        if asked is None or name.kind != "timm" or hasattr(network, "set_input_size"):
            raise
        if arch.options_at(spec.architecture, options, asked) is None:  # a size in the name would not help
            raise
        query = arch.query_of(arch.network_options(name))
        named = f"{text}{'&' if query else '?'}img_size={img_size}"
        raise EncoderError(f"{error}; its size is fixed when it is built, so name it there: {named}") from error


def _unknown(word: str) -> str:
    if Path(word).suffix in (".pth", ".pt", ".tar", ".torch", ".safetensors", ".ckpt", ".bin", ".npz", ".pkl"):
        return f"{word} looks like a checkpoint; name its architecture too: ckpt:{word}@resnet50"
    close = nearest(word, [*BUNDLED, "swav", *published_names()])
    hint = f"nearest: {', '.join(close)}" if close else "`ssl-risk-rs models list` shows the names"
    return f"no encoder {word!r}; {hint}. A timm model is timm:NAME, a file ckpt:FILE@ARCH or file.py:function"


def _options(name: EncoderName) -> dict[str, object]:
    """Options of the architecture: of the name, or of the published encoder it stands for."""
    row = published_entry(name.target if name.kind == "registry" else name.part)
    if name.kind in ("registry", "checkpoint") and row is not None:
        return row_options(row)
    return arch.network_options(name)


def _network_at(
    img_size: int | None,
    name: EncoderName,
    spec: EncoderSpec,
    options: dict[str, object],
    match: Literal["name", "order"],
    progress: Told,
) -> "nn.Module":
    """The network for images of a side, None for its own, as `?img_size=` in its name would build it.

    Where the name says what is built, and that takes a size, weights meet the size that they are for: resampled
    twice, there and back, position embeddings would not be the file's. A file that fits the architecture's own
    size only (tables of relative positions) is loaded at that, and resized after.
    """
    from ssl_risk_rs.encoders.networks.features import check_patches, resize_input

    if img_size is None:
        return _network(name, spec, options, match, progress)
    is_built_here = name.kind == "random" or (name.kind == "checkpoint" and published_entry(name.part) is None)
    sized = arch.options_at(spec.architecture, options, img_size) if is_built_here else None
    misfit = None
    if sized is not None:
        try:
            network = _network(name, spec, sized, match, progress)
            check_patches(network, img_size, spec.name)
            return network
        except EncoderError as error:
            misfit = error
    try:
        network = _network(name, spec, options, match, progress)
        resize_input(network, img_size, spec.name)
    except EncoderError as error:
        raise misfit or error from None
    if misfit is not None and not hasattr(network, "set_input_size"):
        raise misfit
    return network


def _network(
    name: EncoderName,
    spec: EncoderSpec,
    options: dict[str, object],
    match: Literal["name", "order"],
    progress: Told,
) -> "nn.Module":
    """The network with its weights."""
    from ssl_risk_rs.encoders.networks.build import build_network, timm_network
    from ssl_risk_rs.encoders.weights.match import Choice

    if name.kind == "timm":
        return timm_network(name.target, options, pretrained=True)
    if name.kind == "random":
        for_random = arch.options_for_random(spec.architecture, options)
        return build_network(spec.architecture, for_random, seed=arch.seed_of(name))
    known = published_entry(name.target if name.kind == "registry" else name.part) is not None
    choice = Choice(match=match, architecture=spec.architecture, options=tuple(options), known=known)
    if name.kind == "checkpoint":
        choice = checkpoint.chosen(name, choice)
    network = build_network(spec.architecture, options)
    if name.kind == "checkpoint":
        copies = checkpoint.copies_of(name)
    elif spec.source == "bundled":
        copies = [Copy(bundled_path(spec.name))]
    else:
        row = _row(name.target)
        if row.warning:
            progress(f"{row.name}: {row.warning}")
        copies = fetch_copies(row, progress.say)
    fill(network, copies, choice, name=spec.name, progress=progress)
    return network


def _transform(spec: EncoderSpec, name: EncoderName, options: dict[str, object]) -> "Callable[[Image], Tensor]":
    from ssl_risk_rs.encoders.transforms import Preprocess

    if not _is_prepared_by_timm(spec, name, options) or checkpoint.chooses_resize(name):
        return Preprocess(spec)  # the short side, and a crop of the centre
    return arch.default_transform(spec, options)


def _is_prepared_by_timm(spec: EncoderSpec, name: EncoderName, options: dict[str, object]) -> bool:
    """Whether timm knows how images of an architecture are prepared, and nobody else."""
    ours = arch.is_our_resnet(spec.architecture, options, name.kind) or spec.architecture.endswith("_compressor")
    uses_timm = name.kind in ("timm", "random", "checkpoint") and spec.channels == 3
    return uses_timm and not ours and published_entry(name.part) is None


def _short_side(img_size: int, spec: EncoderSpec, name: EncoderName, options: dict[str, object]) -> int:
    """Short side before the crop of another size than the spec's: the one in the name, timm's, or in proportion."""
    asked = name.options.get("resize") if name.kind == "checkpoint" else None
    if isinstance(asked, int):
        return asked
    if _is_prepared_by_timm(spec, name, options):
        return arch.short_side(img_size, arch.preprocessing_of(spec.architecture, options))
    return round(img_size * (spec.resize or img_size) / (spec.img_size or img_size))

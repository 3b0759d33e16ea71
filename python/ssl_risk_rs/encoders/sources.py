"""Where encoders come from: a spec for every kind of name, and the module it stands for.

Specs of published and bundled encoders, of pixels and of our own checkpoints need no torch. A timm
architecture's features and preprocessing are timm's knowledge: those specs import it.
"""

import json
from collections.abc import Callable
from dataclasses import replace
from fnmatch import fnmatchcase
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ssl_risk_rs.encoders.facts import BUNDLED, bundled_path, read_facts, spec_from_facts
from ssl_risk_rs.encoders.names import EncoderName, parse_name
from ssl_risk_rs.encoders.registry import (
    published_entry,
    published_features,
    published_names,
    published_spec,
)
from ssl_risk_rs.encoders.spec import EncoderSpec, choose_features, nearest
from ssl_risk_rs.errors import EncoderError

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor, nn

    from ssl_risk_rs.encoders.encoder import Encoder

__all__ = ["build", "describe", "list_names"]

Layers = str | list[str] | tuple[str, ...] | None
Options = dict[str, object]

#: our ResNets: timm's too, but these specs need no torch and keep the preprocessing of published checkpoints
_OUR_RESNETS = ("resnet50", "resnet50w2", "resnet50w4", "resnet101")


def list_names(pattern: str = "*", *, recognised: bool = False) -> list[str]:
    """Names of encoders that match a shell pattern; `timm:…` patterns search timm's pretrained models.

    `recognised=True` adds published encoders whose names are known but which cannot be loaded by name.
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
    EncoderError if the name is malformed or unknown (with the nearest), or only recognised.
    """
    name = parse_name(text)
    if name.kind == "registry":
        if name.target in BUNDLED:
            return spec_from_facts(name.target, bundled_path(name.target), read_facts(bundled_path(name.target)))
        if entry := published_entry(name.target):
            return published_spec(entry)
        raise EncoderError(_unknown(name.target))
    if name.kind == "pixels":
        return _describe_pixels(name)
    if name.kind == "checkpoint":
        return _describe_checkpoint(name)
    if name.kind == "random":
        spec = _describe_architecture(name.target, _network_options(name))
        seed, query = _seed(name), _query(name)
        return replace(spec, name=text, source="random", options=query, notes=f"Weights drawn from seed {seed}.")
    if name.kind == "timm":
        return _describe_timm(name)
    if not Path(name.target).is_file():
        raise EncoderError(f"{text}: no file {name.target}")
    return EncoderSpec(name=text, architecture=name.part, source="code", features=("output",))


def build(
    text: str,
    *,
    layers: Layers,
    pool: str | None,
    img_size: int | None,
    match: Literal["name", "order"],
    progress: Callable[[str], None],
) -> "Encoder":
    """Build the encoder behind a name; the arguments are those of `create_encoder`."""
    from ssl_risk_rs.encoders.encoder import finish
    from ssl_risk_rs.encoders.networks import (
        build_network,
        name_features,
        offered_features,
        resize_input,
        timm_network,
    )

    name = parse_name(text)
    if name.kind == "code":
        return _build_code(name, layers=layers, pool=pool, img_size=img_size, progress=progress)
    spec = describe(text)
    if name.kind == "pixels":
        return _build_pixels(spec, layers, pool, img_size)
    options = _network_options(name)
    if name.kind == "timm":
        network: nn.Module = timm_network(name.target, options, pretrained=True)
    elif name.kind == "random":
        network = build_network(spec.architecture, _for_random(spec.architecture, options), seed=_seed(name))
    else:
        network = build_network(spec.architecture, options)
        _load_weights(network, name, spec, _match(name, match), progress)
    offered = spec.features if spec.architecture in _OUR_RESNETS else offered_features(network)
    default = spec.features[0] if layers is None and pool is None else None
    wanted = (default,) if default in offered else choose_features(offered, layers, pool)
    takes_any = True
    if img_size is not None and img_size != spec.img_size:
        if img_size < 1:
            raise EncoderError(f"the image size must be positive, not {img_size}")
        resize_input(network, img_size, spec.name)
        takes_any = hasattr(network, "set_input_size") or spec.architecture in _OUR_RESNETS
        ratio = (spec.resize or img_size) / (spec.img_size or img_size)
        spec = replace(spec, img_size=img_size, resize=round(img_size * ratio))
    try:
        return finish(spec, name_features(network, wanted), _transform(spec, name))
    except EncoderError as error:
        if takes_any:
            raise
        named = f"{text}{'&' if _query(name) else '?'}img_size={img_size}"
        raise EncoderError(f"{error}; if its size is fixed when it is built, name it there: {named}") from error


# --- specs -----------------------------------------------------------------------------------------


def _describe_architecture(architecture: str, options: Options) -> EncoderSpec:
    """Spec of an architecture without its weights' story."""
    if architecture in _OUR_RESNETS and not options:
        return EncoderSpec(architecture, architecture, "random", published_features(architecture))
    grey = EncoderSpec(architecture, architecture, "random", ("output",), channels=1)
    if architecture == "tiny_convnet":
        return replace(grey, img_size=8, resize=8, mean=(0.306,), std=(0.376,))
    if architecture == "small_convnet":
        return replace(grey, img_size=28, resize=28, mean=(0.286,), std=(0.353,))
    import torch

    from ssl_risk_rs.encoders.networks import offered_features, timm_network

    with torch.device("meta"):
        network = timm_network(architecture, options)
    config = _timm_data().resolve_model_data_config(network)
    size = config["input_size"][-1]
    return EncoderSpec(
        name=architecture,
        architecture=architecture,
        source="random",
        features=offered_features(network),
        img_size=size,
        resize=size if config.get("crop_mode") == "squash" else int(size / config["crop_pct"]),
        interpolation=config["interpolation"],
        mean=tuple(config["mean"]),
        std=tuple(config["std"]),
        channels=config["input_size"][0],
    )


def _describe_timm(name: EncoderName) -> EncoderSpec:
    import timm

    spec = _describe_architecture(name.target, _network_options(name))
    config = timm.get_pretrained_cfg(name.target)
    tag = (config.tag or "") if config else ""
    query = _query(name)
    return replace(
        spec,
        name=name.text,
        source="timm",
        licence=config.license if config else None,
        random_twin=f"random:{name.target}" + (f"?{query}" if query else ""),
        options=query,
        notes=f"timm's pretrained tag: {tag}." if tag else None,
    )


def _describe_checkpoint(name: EncoderName) -> EncoderSpec:
    path = Path(name.target)
    facts = read_facts(path)
    if {
        "architecture",
        "img_size",
        "mean",
        "std",
        "channels",
        "objective",
        "pretraining_data",
    } <= facts.keys():
        if name.part in ("", facts["architecture"]):
            return spec_from_facts(name.text, path, facts)
        if not name.options and published_entry(name.part) is None:
            raise EncoderError(f"{path} says that it holds a {facts['architecture']}, not a {name.part}")
    if not name.part:
        raise EncoderError(f"{name.text}: name the architecture: ckpt:{path}@resnet50, or any timm model's name")
    if entry := published_entry(name.part):  # the file of a published encoder, downloaded by hand
        spec = published_spec(entry)
    else:
        spec = _describe_architecture(name.part, _network_options(name))
        spec = replace(spec, random_twin=f"random:{name.part}" + (f"?{_query(name)}" if _query(name) else ""))
    return replace(spec, name=name.text, source=str(path), options=_query(name))


def _describe_pixels(name: EncoderName) -> EncoderSpec:
    channels = name.options.get("channels", 3)
    if channels not in (1, 3) or name.options.keys() - {"channels"}:
        raise EncoderError(f"{name.text}: the one option of pixels is channels, 1 or 3, such as pixels:8?channels=1")
    return EncoderSpec(
        name=name.text,
        architecture=f"mean pixels of a {name.target} by {name.target} grid",
        source="code",
        features=("output",),
        img_size=None,
        resize=None,
        mean=(0.0,) * channels,
        std=(1.0,) * channels,
        channels=channels,
        notes="Has no weights: it cannot have memorized an image.",
    )


def _unknown(word: str) -> str:
    if Path(word).suffix in (".pth", ".pt", ".tar", ".torch", ".safetensors", ".ckpt", ".bin"):
        return f"{word} looks like a checkpoint; name its architecture too: ckpt:{word}@resnet50"
    close = nearest(word, [*BUNDLED, "swav", *published_names()])
    hint = f"nearest: {', '.join(close)}" if close else "`ssl-risk-rs models list` shows the names"
    return f"no encoder {word!r}; {hint}. A timm model is timm:NAME, a file ckpt:FILE@ARCH or file.py:function"


# --- modules ---------------------------------------------------------------------------------------


#: options of a name that are not the architecture's
_OWN_OPTIONS = {"random": ("seed",), "checkpoint": ("match",)}


def _network_options(name: EncoderName) -> Options:
    own = _OWN_OPTIONS.get(name.kind, ())
    return {key: value for key, value in name.options.items() if key not in own}


def _query(name: EncoderName) -> str:
    """The architecture's options in one spelling."""
    options = sorted(_network_options(name).items())
    return "&".join(f"{key}={value if isinstance(value, str) else json.dumps(value)}" for key, value in options)


def _match(name: EncoderName, match: Literal["name", "order"]) -> Literal["name", "order"]:
    """How keys are matched: the argument, or `?match=order` in the name."""
    asked = name.options.get("match", match)
    if asked == "order":
        return "order"
    if asked == "name":
        return match
    raise EncoderError(f"{name.text}: match is name or order, not {asked!r}")


def _seed(name: EncoderName) -> int:
    seed = name.options.get("seed", 0)
    if not isinstance(seed, int) or isinstance(seed, bool) or seed < 0:
        raise EncoderError(f"{name.text}: the seed is a whole number, not {seed!r}")
    return seed


def _for_random(architecture: str, options: Options) -> Options:
    """timm's ResNets start with residual branches at zero, which would make the control shallower."""
    if architecture in _OUR_RESNETS and not options:
        return options
    import torch
    from timm.models.resnet import ResNet

    from ssl_risk_rs.encoders.networks import build_network

    with torch.device("meta"):
        is_resnet = isinstance(build_network(architecture, options), ResNet)
    return {"zero_init_last": False, **options} if is_resnet else options


def _load_weights(
    network: "nn.Module",
    name: EncoderName,
    spec: EncoderSpec,
    match: Literal["name", "order"],
    progress: Callable[[str], None],
) -> None:
    from ssl_risk_rs.encoders.checkpoint import load_encoder
    from ssl_risk_rs.encoders.download import fetch

    if name.kind == "checkpoint":
        path = Path(name.target)
    elif spec.source == "bundled":
        path = bundled_path(spec.name)
    else:
        path = fetch(spec.name, spec.source, licence=spec.licence, progress=progress)
    found = load_encoder(network, path, match=match, architecture=spec.architecture)
    progress(f"{spec.name}: {found.summary()}")


def _transform(spec: EncoderSpec, name: EncoderName) -> "Callable[[Image], Tensor]":
    from ssl_risk_rs.encoders.transforms import InColour, Preprocess

    uses_timm = name.kind in ("timm", "random", "checkpoint") and spec.channels == 3
    if not uses_timm or spec.architecture in _OUR_RESNETS or published_entry(name.part):
        return Preprocess(spec)
    import torch

    from ssl_risk_rs.encoders.networks import timm_network

    with torch.device("meta"):
        config = _timm_data().resolve_model_data_config(timm_network(spec.architecture, _network_options(name)))
    config["input_size"] = (spec.channels, spec.img_size, spec.img_size)
    return InColour(_timm_data().create_transform(**config), spec.channels)


def _timm_data() -> Any:
    """timm's module of transforms, which has no annotations."""
    return import_module("timm.data")


def _build_pixels(spec: EncoderSpec, layers: Layers, pool: str | None, img_size: int | None) -> "Encoder":
    from torch import nn

    from ssl_risk_rs.encoders.encoder import OutputModule, finish
    from ssl_risk_rs.encoders.transforms import GridPixels

    choose_features(spec.features, layers, pool)
    if img_size is not None:
        raise EncoderError("pixels pools images of any size to its grid: leave out the image size")
    grid = int(spec.architecture.split()[4])
    return finish(spec, OutputModule(nn.Flatten()), GridPixels(grid, spec.channels))


def _build_code(
    name: EncoderName, *, layers: Layers, pool: str | None, img_size: int | None, progress: Callable[[str], None]
) -> "Encoder":
    """Run the user's file and wrap what its function returns: module, (module, transform) or Encoder."""
    from torch import nn

    from ssl_risk_rs.encoders.encoder import Encoder, OutputModule, finish
    from ssl_risk_rs.encoders.transforms import Preprocess
    from ssl_risk_rs.encoders.user_code import run_function

    spec = describe(name.text)
    code = run_function(Path(name.target).resolve(), name.part)
    made = code.made
    if isinstance(made, Encoder):
        return replace(made, code_hash=code.digest, code_files=code.files)
    if img_size is not None:
        spec = replace(spec, img_size=img_size, resize=round(img_size * 256 / 224))
    module, transform = made if isinstance(made, tuple) and len(made) == 2 else (made, None)
    if not isinstance(module, nn.Module) or not (transform is None or callable(transform)):
        raise EncoderError(
            f"{name.text} returned {type(made).__name__}; return a torch.nn.Module, (module, transform), or an Encoder"
        )
    if transform is None:
        transform = Preprocess(spec)
        progress(
            f"{name.text}: no transform given, so ImageNet's usual one: short side {spec.resize}, centre "
            f"{spec.img_size}, ImageNet mean and std; return (module, transform) for another"
        )
    encoder = finish(spec, OutputModule(module), transform)
    encoder = replace(encoder, code_hash=code.digest, code_files=code.files)
    wanted = encoder.spec.features
    if layers is not None or pool is not None:
        wanted = choose_features(encoder.spec.features, layers, pool)
    if wanted != encoder.spec.features:
        raise EncoderError(f"{name.text} decides itself what it returns: {', '.join(encoder.spec.features)}")
    return encoder

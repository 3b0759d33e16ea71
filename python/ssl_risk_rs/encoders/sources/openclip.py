"""`openclip:ARCH/TAG`, `openclip:ARCH/FILE`, `openclip:/folder`: the image tower of a model of open_clip, with its own
preprocessing."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ssl_risk_rs import _extras
from ssl_risk_rs._files import is_offline
from ssl_risk_rs.encoders.names import EncoderName
from ssl_risk_rs.encoders.spec import EncoderSpec, Layers, choose_features, nearest
from ssl_risk_rs.errors import EncoderError

if TYPE_CHECKING:
    from ssl_risk_rs.encoders.encoder import Encoder

__all__ = ["build_openclip", "describe_openclip", "file_of"]


def describe_openclip(name: EncoderName) -> EncoderSpec:
    """The spec as open_clip's tables tell it; nothing is built.

    Raises
    ------
    EncoderError if open_clip is missing, or knows neither the architecture nor the tag.
    """
    if name.options:
        raise EncoderError(f"{name.text}: openclip: names take no options; open_clip says how images are prepared")
    clip = _library(name)
    config, prepared = _configs(name, clip)
    vision = config["vision_cfg"]
    size = prepared.get("size", vision.get("image_size", 224))
    squash = prepared.get("resize_mode") == "squash"
    return EncoderSpec(
        name=name.text,
        architecture=name.target,
        source=str(file_of(name) or f"open_clip, {name.part}"),
        features=("proj",),
        img_size=size if isinstance(size, int) else size[0],
        resize=None if squash else size if isinstance(size, int) else size[0],
        interpolation=prepared["interpolation"],
        mean=tuple(prepared["mean"]),
        std=tuple(prepared["std"]),
        pretraining_data=None,
    )


def file_of(name: EncoderName) -> Path | None:
    """The file or folder of weights that the name gives; None for a tag."""
    if not name.part:
        return Path(name.target).expanduser()
    if name.part.startswith(("/", ".", "~")) or "/" in name.part or Path(name.part).suffix in (".pt", ".pth", ".bin"):
        path = Path(name.part).expanduser()
        return (
            path if path.exists() or path.is_absolute() else (Path("/") / path if (Path("/") / path).exists() else path)
        )
    return None


def _library(name: EncoderName) -> Any:
    return _extras.require("open_clip", "openclip", f"{name.text} needs", error_type=EncoderError)


def _configs(name: EncoderName, clip: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """The architecture's settings, and how images are prepared: by default, then as the tag or the folder says."""
    from dataclasses import asdict

    from open_clip.transform import PreprocessCfg

    prepared = asdict(PreprocessCfg())
    if not name.part:
        file = Path(name.target).expanduser() / "open_clip_config.json"
        try:
            found = json.loads(file.read_text(encoding="utf-8"))
            config = found["model_cfg"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise EncoderError(
                f"{name.text}: {file} cannot be read ({error}); name openclip:ARCH/TAG, openclip:ARCH/FILE, or a "
                "folder with open_clip_config.json"
            ) from error
        return config, {**prepared, **found.get("preprocess_cfg", {})}
    config = clip.get_model_config(name.target)
    if config is None:
        close = ", ".join(nearest(name.target, clip.list_models()))
        raise EncoderError(
            f"{name.text}: open_clip has no architecture {name.target}" + (f"; nearest: {close}" if close else "")
        )
    prepared["size"] = config["vision_cfg"].get("image_size", 224)
    if file_of(name) is not None:
        return config, prepared
    tags = clip.list_pretrained_tags_by_model(name.target)
    if name.part not in tags:
        raise EncoderError(
            f"{name.text}: open_clip has no weights {name.part!r} for {name.target}; it has {', '.join(tags) or 'none'}"
        )
    own = clip.get_pretrained_cfg(name.target, name.part)
    return config, prepared | {key: own[key] for key in ("mean", "std", "interpolation", "resize_mode") if key in own}


def build_openclip(
    name: EncoderName, *, layers: Layers, pool: str | None, img_size: int | None, progress: Callable[[str], None]
) -> "Encoder":
    """Load the model; its image tower and its own preprocessing make the encoder.

    Raises
    ------
    EncoderError if a file is missing or does not fit, or nothing may be downloaded.
    """
    from ssl_risk_rs.encoders.encoder import finish
    from ssl_risk_rs.encoders.networks.openclip import OpenClipFeatures
    from ssl_risk_rs.encoders.transforms import in_colour

    if img_size is not None:
        raise EncoderError(f"{name.text}: open_clip decides the size of images; leave out --img-size")
    spec, clip = describe_openclip(name), _library(name)
    config, _ = _configs(name, clip)
    file = file_of(name)
    if file is not None and not file.exists():
        raise EncoderError(f"{name.text}: no file {file}")
    if file is None and is_offline():
        raise EncoderError(
            f"{name.text}: the weights of a tag are downloaded by open_clip, and nothing is downloaded (--offline, "
            "SSL_RISK_OFFLINE); name the file: openclip:ARCH/FILE"
        )
    model_name, weights = (f"local-dir:{file}", None) if not name.part else (name.target, str(file or name.part))
    try:
        model, _, transform = clip.create_model_and_transforms(model_name, pretrained=weights, precision="fp32")
    except Exception as error:  # of many kinds: the hub's, torch's, a mismatch of names
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise EncoderError(f"{name.text}: open_clip cannot load it ({type(error).__name__}: {reason})") from error
    features = OpenClipFeatures(model)
    wanted = choose_features(features.offered(), layers, pool)
    features.wanted = wanted if layers is not None or pool is not None else wanted[:1]
    encoder = finish(replace(spec, features=features.wanted), features, in_colour(transform))
    progress(f"{name.text}: image tower of {name.target}, open_clip {version('open_clip_torch')}")
    facts = json.dumps(config["vision_cfg"], sort_keys=True, default=str) + str(config.get("quick_gelu", ""))
    digest = hashlib.sha256(f"{version('open_clip_torch')}\n{facts}".encode()).hexdigest()
    return replace(encoder, code_hash=f"sha256:{digest}", code_files=("vision_cfg",))

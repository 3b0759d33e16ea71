"""`hf:REPO[@REVISION]`, `hf:/folder`: a model of transformers with its own image processor. No code of a repository is
run; weights are read as safetensors, or by torch's reader of weights alone."""

import hashlib
import json
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ssl_risk_rs import _extras
from ssl_risk_rs._files import is_offline
from ssl_risk_rs.encoders.names import EncoderName
from ssl_risk_rs.encoders.spec import EncoderSpec, Layers, choose_features
from ssl_risk_rs.errors import EncoderError

if TYPE_CHECKING:
    from ssl_risk_rs.encoders.encoder import Encoder

__all__ = ["build_hf", "describe_hf", "find_folder"]

#: files of a repository that an encoder is made of; weights as pickles only where there are no others
_FACTS = ("config.json", "preprocessor_config.json", "processor_config.json")
_WEIGHTS = (("*.safetensors", "*.safetensors.index.json"), ("pytorch_model*.bin", "pytorch_model.bin.index.json"))


def describe_hf(name: EncoderName) -> EncoderSpec:
    """The spec of a folder, or of a repository in the hub's cache; of others only the name is known.

    Raises
    ------
    EncoderError for options, which these names have none of, or a folder without a model.
    """
    if name.options:
        raise EncoderError(f"{name.text}: hf: names take no options; the repository says how images are prepared")
    folder = find_folder(name, download=False)
    if folder is None:
        return EncoderSpec(name=name.text, architecture="transformers", source=name.target, features=("default",))
    return _spec(name, _read(folder / "config.json", name), _read_prepared(folder, name), folder)


def find_folder(name: EncoderName, *, download: bool) -> Path | None:
    """The folder with the files: the one that is named, or a snapshot in the hub's cache; None if it is not there.

    Raises
    ------
    EncoderError if there is no such folder, or nothing can be downloaded.
    """
    path = Path(name.target).expanduser()
    if path.is_dir():
        return path
    if name.target.startswith(("/", ".", "~")):
        raise EncoderError(f"{name.text}: no folder {path}; save_pretrained of transformers writes one")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    def snapshot(patterns: tuple[str, ...], *, local: bool) -> Path:
        found = snapshot_download(
            name.target, revision=name.part or None, allow_patterns=list(patterns), local_files_only=local
        )
        return Path(found)

    try:
        folder = snapshot(_FACTS, local=True)
        if any(folder.glob(pattern) for pattern in ("*.safetensors", "pytorch_model*.bin")) and _has_weights(folder):
            return folder
    except (LocalEntryNotFoundError, OSError, ValueError):
        pass
    if not download:
        return None
    where = f"{name.target}@{name.part}" if name.part else name.target
    if is_offline():
        raise EncoderError(
            f"{name.text}: {where} is not in the hub's cache, and nothing is downloaded (--offline, SSL_RISK_OFFLINE); "
            "run once with a network, or name a folder: hf:/path/to/folder"
        )
    try:
        for patterns in _WEIGHTS:
            folder = snapshot((*_FACTS, *patterns), local=False)
            if _has_weights(folder):
                return folder
    except Exception as error:  # anything that the hub or the network answers
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise EncoderError(
            f"{name.text}: {where} cannot be had ({type(error).__name__}: {reason}). Without a network: copy the "
            "repository elsewhere and name its folder, hf:/path/to/folder"
        ) from error
    raise EncoderError(f"{name.text}: {where} has neither safetensors nor pytorch_model.bin")


def _has_weights(folder: Path) -> bool:
    return any(True for pattern in ("*.safetensors", "pytorch_model*.bin") for _ in folder.glob(pattern))


def build_hf(
    name: EncoderName, *, layers: Layers, pool: str | None, img_size: int | None, progress: Callable[[str], None]
) -> "Encoder":
    """Load the model and its processor, and offer its features by name.

    Raises
    ------
    EncoderError if transformers is missing, or the folder holds no vision model that it knows.
    """
    transformers = _extras.require("transformers", "hf", f"{name.text} needs", error_type=EncoderError)
    from dataclasses import replace

    from ssl_risk_rs.encoders.encoder import finish
    from ssl_risk_rs.encoders.networks.hf import HELD_BY_ALL, HfFeatures
    from ssl_risk_rs.encoders.transforms import ProcessorTransform

    if img_size is not None:
        raise EncoderError(f"{name.text}: its processor decides the size of images; leave out --img-size")
    spec = describe_hf(name)
    folder = find_folder(name, download=True)
    assert folder is not None  # else it was raised
    config, prepared = _read(folder / "config.json", name), _read_prepared(folder, name)
    if "auto_map" in config:
        raise EncoderError(
            f"{name.text}: the model is code of its repository, which is not run; return it from a function of your "
            "own: file.py:function"
        )
    masked = {"mask_ratio": 0.0} if "mask_ratio" in config else {}  # masked autoencoders drop patches even in eval mode
    try:
        # float32: what half-precision weights say is kept, and products are not rounded further
        module, loading = transformers.AutoModel.from_pretrained(
            folder, trust_remote_code=False, dtype="float32", output_loading_info=True, **masked
        )
    except Exception as error:  # of many kinds, by model
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise EncoderError(f"{name.text}: transformers cannot load {folder} ({reason})") from error
    try:
        processor = transformers.AutoImageProcessor.from_pretrained(folder, backend="pil")
    except Exception:  # some processors have no Pillow backend
        processor = _default_processor(transformers, folder, name)
        progress(f"{name.text}: its processor has no Pillow backend, so images are resized by torchvision")
    spec = _spec(name, config, prepared, folder)
    try:
        features = HfFeatures(module)
        offered = features.offered()
        lacking = features.lacking(module, loading["missing_keys"], offered)
    except Exception as error:  # of many kinds, by model: one that reads text, or takes more than images
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise EncoderError(
            f"{name.text}: {type(module).__name__} of transformers cannot be run on images alone ({reason}); return it "
            "from a function of your own: file.py:function"
        ) from error
    if lacking:
        missing = sorted(loading["missing_keys"])
        said = f"{', '.join(missing[:3])}{f' and {len(missing) - 3} more' if len(missing) > 3 else ''}"
        if not HELD_BY_ALL.isdisjoint(lacking):
            raise EncoderError(
                f"{name.text}: {folder} lacks weights of {type(module).__name__} ({said}), for which transformers "
                "takes random numbers; take the whole file of its authors"
            )
        offered = tuple(feature for feature in offered if feature not in lacking)
        progress(f"{name.text}: the file lacks {said}; features that need them are not offered: {', '.join(lacking)}")
    wanted = choose_features(offered, layers, pool)
    features.wanted = wanted if layers is not None or pool is not None else wanted[:1]
    spec = replace(spec, features=features.wanted)
    encoder = finish(spec, features, ProcessorTransform(processor))
    progress(f"{name.text}: {type(module).__name__} of transformers {version('transformers')} from {folder}")
    facts = json.dumps({key: value for key, value in config.items() if key != "transformers_version"}, sort_keys=True)
    digest = hashlib.sha256(f"{version('transformers')}\n{facts}".encode()).hexdigest()
    return replace(encoder, code_hash=f"sha256:{digest}", code_files=("config.json",))


def _default_processor(transformers: Any, folder: Path, name: EncoderName) -> Any:
    try:
        return transformers.AutoImageProcessor.from_pretrained(folder)
    except Exception as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise EncoderError(
            f"{name.text}: {folder} does not say how images are prepared ({reason}); it needs the "
            "preprocessor_config.json of its authors"
        ) from error


def _read_prepared(folder: Path, name: EncoderName) -> dict[str, Any]:
    """How images are prepared: a file of its own, or a part of what a processor of images and text has written."""
    whole = folder / "processor_config.json"
    if not (folder / "preprocessor_config.json").is_file() and whole.is_file():
        found = _read(whole, name).get("image_processor")
        if isinstance(found, dict):
            return found
    return _read(folder / "preprocessor_config.json", name)


def _read(path: Path, name: EncoderName) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        if path.name == "config.json":
            raise EncoderError(
                f"{name.text}: {path.parent} has no config.json, so it is no model of transformers"
            ) from None
        raise EncoderError(
            f"{name.text}: {path.parent} has no {path.name}, so how its images were prepared is not known; copy it "
            "from the authors' repository"
        ) from None
    except (OSError, ValueError) as error:
        raise EncoderError(f"{path} cannot be read: {error}") from error
    if not isinstance(found, dict):
        raise EncoderError(f"{path} holds no settings by name")
    return found


def _spec(name: EncoderName, config: dict[str, Any], prepared: dict[str, Any], folder: Path) -> EncoderSpec:
    """What config.json and preprocessor_config.json tell."""
    crops = prepared.get("do_center_crop", False)
    crop, size = _side(prepared.get("crop_size")) if crops else None, _side(prepared.get("size"))
    side = crop or size or config.get("image_size")
    kinds = config.get("architectures") or [config.get("model_type", "transformers")]
    return EncoderSpec(
        name=name.text,
        architecture=str(kinds[0]),
        source=str(folder),
        features=("default",),
        img_size=side if isinstance(side, int) else None,
        resize=size,
        interpolation={0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic"}.get(prepared.get("resample", 2), "?"),
        mean=_numbers(prepared.get("image_mean", 0.5)),
        std=_numbers(prepared.get("image_std", 0.5)),
    )


def _side(size: object) -> int | None:
    """The short side, or the height, of a size as processors write it."""
    if isinstance(size, dict):
        size = size.get("shortest_edge", size.get("height"))
    return size if isinstance(size, int) else None


def _numbers(value: object) -> tuple[float, ...]:
    return tuple(float(v) for v in value) if isinstance(value, (list, tuple)) else (float(str(value)),) * 3

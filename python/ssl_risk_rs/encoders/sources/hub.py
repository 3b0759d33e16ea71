"""`hub:OWNER/REPO[:REF]:ENTRY`: an entry of a repository's hubconf.py through torch.hub. Its code is run."""

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ssl_risk_rs._files import OFFLINE, is_offline
from ssl_risk_rs.encoders.names import EncoderName
from ssl_risk_rs.encoders.sources.checkpoint import with_preprocessing
from ssl_risk_rs.encoders.spec import EncoderSpec, Layers, choose_features, usual_resize
from ssl_risk_rs.errors import EncoderError

if TYPE_CHECKING:
    from torch import nn

    from ssl_risk_rs.encoders.encoder import Encoder

__all__ = ["build_hub", "describe_hub"]

#: options of a name that are not the entry's
_OWN = ("mean", "std", "resize", "interpolation", "head")

#: where classifiers of torchvision, timm and the like lie
_HEADS = ("fc", "head", "classifier")


def describe_hub(name: EncoderName) -> EncoderSpec:
    """Spec of what an entry returns, as far as it is known before it runs: ImageNet's usual preprocessing."""
    spec = EncoderSpec(name=name.text, architecture=name.part, source="code", features=("output",))
    return with_preprocessing(spec, name)


def build_hub(
    name: EncoderName, *, layers: Layers, pool: str | None, img_size: int | None, progress: Callable[[str], None]
) -> "Encoder":
    """Run the entry and take the module it returns; a linear classifier on top is taken off and said.

    Raises
    ------
    EncoderError if the repository or the entry cannot be had, or if what it returns is no module.
    """
    from torch import nn

    from ssl_risk_rs.encoders.encoder import OutputModule, finish
    from ssl_risk_rs.encoders.transforms import Preprocess

    spec = describe_hub(name)
    choose_features(spec.features, layers, pool)
    if img_size is not None:
        spec = replace(spec, img_size=img_size, resize=usual_resize(img_size))
        spec = with_preprocessing(spec, name)
    progress(f"{name.text}: code of {name.target} is run")
    module = _load(name)
    if not isinstance(module, nn.Module):
        raise EncoderError(f"{name.text} returned {type(module).__name__}, no torch.nn.Module; name another entry")
    if note := _take_off_head(module, name):
        progress(note)
    if not set(_OWN[:4]) <= name.options.keys():
        progress(
            f"{name.text}: an entry does not say how images are prepared, so short side {spec.resize}, centre "
            f"{spec.img_size}, {spec.interpolation}, mean {spec.mean} and std {spec.std}; write ?mean=…&std=…&resize=…"
            "&interpolation=… for others"
        )
    encoder = finish(spec, OutputModule(module), Preprocess(spec))
    files, digest = _sources(name)
    return replace(encoder, code_hash=digest, code_files=files)


def _load(name: EncoderName) -> object:
    import torch

    options = {key: value for key, value in name.options.items() if key not in _OWN}
    if is_offline() and not (Path(torch.hub.get_dir()) / name.target.replace("/", "_").replace(":", "_")).is_dir():
        raise EncoderError(
            f"{name.text} is not on this machine, and nothing is downloaded (--offline, {OFFLINE}): name a tag or "
            f"commit that is in {torch.hub.get_dir()}, as in hub:OWNER/REPO:v1.0:ENTRY"
        )
    try:
        return torch.hub.load(
            name.target, name.part, source="github", trust_repo=True, skip_validation=True, verbose=False, **options
        )
    except Exception as error:  # anything: it is the repository's code
        lines = str(error).splitlines() or [type(error).__name__]
        raise EncoderError(
            f"{name.text} cannot be had ({type(error).__name__}: {lines[0]}). Without a network: name a tag or commit, "
            f"as in hub:OWNER/REPO:v1.0:ENTRY, run the line once where there is one, and copy {torch.hub.get_dir()}"
        ) from error


def _take_off_head(module: "nn.Module", name: EncoderName) -> str | None:
    """Replace a linear classifier by nothing, unless `?head=keep`; the sentence that says so."""
    from torch import nn

    if name.options.get("head") not in (None, "keep"):
        raise EncoderError(f"{name.text}: the one value of head is keep: what the entry returns as it is")
    if name.options.get("head") == "keep":
        return None
    for part in _HEADS:
        if isinstance(head := getattr(module, part, None), nn.Linear):
            setattr(module, part, nn.Identity())
            return (
                f"{name.text}: its last layer {part} ({head.in_features} to {head.out_features}) was taken off, so "
                "that the representation is what comes before; write ?head=keep if it belongs to the encoder"
            )
    return None


def _sources(name: EncoderName) -> tuple[tuple[str, ...], str]:
    """The repository's Python files, and a hash of their names and bytes, of the entry and its options."""
    import torch

    start = name.target.replace("/", "_").replace(":", "_")
    folder = Path(torch.hub.get_dir()) / start
    if not folder.is_dir():  # the default branch has a name that only the host knows
        found = sorted(Path(torch.hub.get_dir()).glob(f"{start}_*"), key=lambda path: path.stat().st_mtime)
        folder = found[-1] if found else folder
    digest = hashlib.sha256(name.text.encode())
    files = sorted(path for path in folder.rglob("*.py") if path.is_file())
    for path in files:
        content = path.read_bytes()
        digest.update(f"\0{path.relative_to(folder).as_posix()}\0{len(content)}\0".encode() + content)
    return tuple(path.relative_to(folder).as_posix() for path in files), f"sha256:{digest.hexdigest()}"

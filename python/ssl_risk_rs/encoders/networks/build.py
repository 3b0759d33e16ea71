"""Architecture name and options → network without a head: ours first, then timm's."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

import torch
from torch import nn

from ssl_risk_rs._files import OFFLINE, is_offline
from ssl_risk_rs.encoders.networks.codec import ClipCompressor
from ssl_risk_rs.encoders.networks.resnet import ResNet, ResNetOptions
from ssl_risk_rs.encoders.networks.small import SmallConvNet, TinyConvNet
from ssl_risk_rs.encoders.spec import nearest
from ssl_risk_rs.errors import EncoderError

__all__ = ["build_architecture", "build_network", "timm_network"]

#: seconds for the hub's first answer
HUB_TIMEOUT = 10

#: depths of the stages and the factor of all widths
_RESNETS = {
    "resnet50": ((3, 4, 6, 3), 1),
    "resnet50w2": ((3, 4, 6, 3), 2),
    "resnet50w4": ((3, 4, 6, 3), 4),
    "resnet50w5": ((3, 4, 6, 3), 5),
    "resnet101": ((3, 4, 23, 3), 1),
}
_SMALL = {"small_convnet": SmallConvNet, "tiny_convnet": TinyConvNet}

#: our compressors: the CLIP tower in timm, and the width of its projection
_COMPRESSORS = {"clip_vit_base_patch32_compressor": ("vit_base_patch32_clip_quickgelu_224", 512)}


def build_architecture(name: str, seed: int = 0, options: Mapping[str, object] | None = None) -> nn.Module:
    """Build one of our architectures with weights drawn from `seed`; the global generator is untouched.

    Raises
    ------
    KeyError if the name is not ours; EncoderError for options it does not take.
    """
    options = dict(options or {})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if name in _SMALL and not options:
            return _SMALL[name]()
        if name in _COMPRESSORS and options.keys() <= {"depth"}:
            tower, width = _COMPRESSORS[name]
            return ClipCompressor(timm_network(tower, {"num_classes": width, **options}), width)
        depths, multiplier = _RESNETS[name]
        chosen = _resnet_options(name, options)
        try:
            return ResNet(depths, multiplier, chosen)
        except ValueError as error:
            raise EncoderError(f"{name}: {error}") from error


def _resnet_options(name: str, options: Mapping[str, object]) -> ResNetOptions:
    """Options of our ResNets; any others are for timm's to take."""
    if unknown := options.keys() - {"padding", "expand"}:
        raise KeyError(min(unknown))
    padding, expand = options.get("padding", "both"), options.get("expand")
    if padding not in ("both", "same"):
        raise EncoderError(f"{name}: padding is both or same, not {padding!r}")
    if expand is not None and (not isinstance(expand, int) or isinstance(expand, bool) or expand < 1):
        raise EncoderError(f"{name}: expand is the width of the representation, a whole number, not {expand!r}")
    return ResNetOptions("same" if padding == "same" else "both", expand)


def build_network(architecture: str, options: Mapping[str, Any], *, seed: int = 0) -> nn.Module:
    """Build a network with random weights drawn from `seed`: one of ours, or timm's without classifier."""
    if "/" not in architecture:
        try:
            return build_architecture(architecture, seed, options)
        except KeyError:
            pass
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return timm_network(architecture, options)


def timm_network(name: str, options: Mapping[str, Any], *, pretrained: bool = False) -> nn.Module:
    """Build timm's model `name` without its classifier.

    Raises
    ------
    EncoderError for an unknown name (with the nearest), for options it does not take, and for weights
    that cannot be had (with what to do instead).
    """
    import timm

    base, _, tag = name.partition(".")
    if not timm.is_model(base):
        close = nearest(base, timm.list_models())
        hint = f"nearest: {', '.join(close)}" if close else "its names: timm.list_models()"
        raise EncoderError(f"timm {timm.__version__} has no model {base}; {hint}")
    tags = timm.list_pretrained(f"{base}*")
    tags = [t for t in tags if t.partition(".")[0] == base]
    if tag and name not in tags:
        raise EncoderError(f"timm has no weights {name}; it has {', '.join(tags) or 'none of ' + base}")
    if pretrained and not tags:
        raise EncoderError(f"timm has no pretrained weights of {base}; with random weights: random:{base}")
    try:
        if pretrained:
            return _with_weights(name, options)
        return timm.create_model(name, pretrained=False, **{"num_classes": 0, **options})
    except TypeError as error:
        sized = "img_size" in options and "img_size" in str(error)
        hint = "; it takes images of any side: --img-size (img_size=) says which" if sized else ""
        raise EncoderError(f"timm's {base} does not take the options {options}: {error}{hint}") from error
    except Exception as error:  # the hub's client has many ways to fail
        if not pretrained:
            raise EncoderError(f"timm cannot build {base} with the options {options}: {error}") from error
        raise EncoderError(
            f"the weights of timm:{name} cannot be had ({_first_line(error)}). Without a network: fetch them "
            f"on a machine with one (hf download timm/{name if tag else tags[0]}), copy its cache ($HF_HOME, "
            "default ~/.cache/huggingface) here and set HF_HUB_OFFLINE=1; or name a file: "
            f"ckpt:FILE@{base}; or take random weights: random:{base}"
        ) from error


def _with_weights(name: str, options: Mapping[str, Any]) -> nn.Module:
    """timm's model with its weights: from the local cache; else from the hub, if one request shows it can be reached.

    The hub's client tries each of several files six times, which takes a minute on a machine without a network.
    """
    import timm

    if is_offline() and (address := _address_elsewhere(name)):
        raise OSError(f"nothing is downloaded (--offline, {OFFLINE}), and {address} is not in torch's cache")
    with _hub_offline() as switched:
        try:
            return timm.create_model(name, pretrained=True, **{"num_classes": 0, **options})
        except TypeError:  # options that the model does not take
            raise
        except Exception:  # not in the cache: the client's errors differ between releases
            if not switched or is_offline():
                raise
    _reach_hub()
    return timm.create_model(name, pretrained=True, **{"num_classes": 0, **options})


def _address_elsewhere(name: str) -> str | None:
    """Where timm would download weights that are neither on the hub nor in torch's cache; None if it would not."""
    import timm
    import torch

    config = timm.get_pretrained_cfg(name)
    url = "" if config is None or config.hf_hub_id else str(config.url or "")
    held = Path(torch.hub.get_dir()) / "checkpoints" / PurePosixPath(urlsplit(url).path).name
    return url if url and not held.is_file() else None


@contextmanager
def _hub_offline() -> Iterator[bool]:
    """The hub's client reads its cache only; False if that is so anyway, or there is no client to tell."""
    try:
        from huggingface_hub import constants, utils
    except ImportError:
        yield False
        return
    if constants.HF_HUB_OFFLINE:
        yield False
        return
    constants.HF_HUB_OFFLINE = True
    try:
        yield True
    finally:
        constants.HF_HUB_OFFLINE = False
        # before release 1.0 the client kept the connection that refuses everything
        getattr(utils, "reset_sessions", lambda: None)()


def _reach_hub() -> None:
    """Raise OSError if the hub cannot be reached by one request; any answer will do."""
    import ssl
    import urllib.error
    import urllib.request

    from huggingface_hub import constants

    request = urllib.request.Request(constants.ENDPOINT, method="HEAD")
    try:
        urllib.request.urlopen(request, timeout=HUB_TIMEOUT).close()
    except urllib.error.HTTPError:
        return
    except urllib.error.URLError as error:
        if not isinstance(error.reason, ssl.SSLError):  # certificates are the client's business
            raise


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__

"""`ckpt:FILE@ARCH`: a file of weights and the architecture it is for, or the published encoder it is a copy of.

Where the architecture is code of the user's own, `ckpt:FILE@file.py:function`, sources/code.py makes it.
"""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ssl_risk_rs.encoders.catalogue.tables import published_entry
from ssl_risk_rs.encoders.facts import read_facts, spec_from_facts
from ssl_risk_rs.encoders.names import EncoderName
from ssl_risk_rs.encoders.sources.architecture import describe_architecture, is_our_resnet, network_options, query_of
from ssl_risk_rs.encoders.sources.published import Copy, describe_published
from ssl_risk_rs.encoders.spec import IMAGENET_MEAN, IMAGENET_STD, EncoderSpec, usual_resize
from ssl_risk_rs.errors import EncoderError

if TYPE_CHECKING:
    from ssl_risk_rs.encoders.weights.match import Choice

__all__ = [
    "PREPROCESSING", "chooses_resize", "chosen", "copies_of", "describe_checkpoint", "preprocessing_note",
    "with_preprocessing",
]  # fmt: skip

#: facts that a file of scripts/pretrain.py carries in its header
_OWN_FACTS = {"architecture", "img_size", "mean", "std", "channels", "objective", "pretraining_data"}

#: words for the usual means and standard deviations: ImageNet's, CLIP's, and pixels from −1 to 1
_NORMS = {
    "imagenet": (IMAGENET_MEAN, IMAGENET_STD),
    "clip": ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)),
    "half": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
}

PREPROCESSING = ("mean", "std", "resize", "interpolation")


def describe_checkpoint(name: EncoderName) -> EncoderSpec:
    """The spec of a file and its architecture; the file need not be there.

    Raises
    ------
    EncoderError if no architecture is named, or another one than the file says, or the preprocessing makes no sense.
    """
    path = Path(name.target)
    options = network_options(name)
    facts = read_facts(path)
    if facts.keys() >= _OWN_FACTS:
        if name.part in ("", facts["architecture"]):
            return with_preprocessing(spec_from_facts(name.text, path, facts), name)
        if not name.options and published_entry(name.part) is None:
            raise EncoderError(f"{path} says that it holds a {facts['architecture']}, not a {name.part}")
    if not name.part:
        raise EncoderError(f"{name.text}: name the architecture: ckpt:{path}@resnet50, or any timm model's name")
    if row := published_entry(name.part):  # the file of a published encoder, downloaded by hand
        if options:
            raise EncoderError(
                f"{name.text}: {row.name} has its own options of the architecture; leave out {', '.join(options)}, or "
                f"name the architecture: ckpt:{path}@{row.architecture}"
            )
        spec = replace(describe_published(row), name=name.text, source=str(path))
    else:
        spec = describe_architecture(name.part, options)
        query = query_of(options)
        random_twin = f"random:{name.part}" + (f"?{query}" if query else "")
        spec = replace(spec, name=name.text, source=str(path), options=query, random_twin=random_twin)
    return with_preprocessing(spec, name)


def with_preprocessing(spec: EncoderSpec, name: EncoderName) -> EncoderSpec:
    """The spec with the preprocessing that the name asks for."""
    mean, std = _norm(name, "mean", spec.channels), _norm(name, "std", spec.channels)
    resize, interpolation = name.options.get("resize"), name.options.get("interpolation")
    if resize is not None and (not isinstance(resize, int) or isinstance(resize, bool) or resize < 1):
        raise EncoderError(f"{name.text}: resize is the short side before the crop, in pixels, not {resize!r}")
    if interpolation not in (None, "bilinear", "bicubic"):
        raise EncoderError(f"{name.text}: interpolation is bilinear or bicubic, not {interpolation!r}")
    return replace(
        spec,
        mean=mean or spec.mean,
        std=std or spec.std,
        resize=resize if isinstance(resize, int) else spec.resize,
        interpolation=interpolation if isinstance(interpolation, str) else spec.interpolation,
    )


def _norm(name: EncoderName, key: str, channels: int) -> tuple[float, ...] | None:
    """Mean or standard deviation: a word, one number for all channels, or one for each."""
    value = name.options.get(key)
    if value is None:
        return None
    if isinstance(value, str) and value in _NORMS and channels == 3:
        return _NORMS[value][key == "std"]
    try:
        numbers = [float(part) for part in str(value).split(",")]
    except ValueError:
        numbers = []
    numbers = numbers * channels if len(numbers) == 1 else numbers
    least = 0.0 if key == "mean" else 1e-6
    if len(numbers) != channels or not all(least <= number <= 1 for number in numbers):
        raise EncoderError(
            f"{name.text}: {key} is {', '.join(_NORMS)}, one number for pixels in [0, 1], or {channels} of them "
            f"joined by commas, not {value!r}"
        )
    return tuple(numbers)


def chooses_resize(name: EncoderName) -> bool:
    """Whether the name says to which short side images are resized."""
    return name.kind == "checkpoint" and "resize" in name.options


def preprocessing_note(name: EncoderName, spec: EncoderSpec) -> str | None:
    """What to tell of preprocessing that the architecture's default stands for; None where it is known."""
    if published_entry(name.part) or not name.part or set(PREPROCESSING) <= name.options.keys():
        return None
    if read_facts(Path(name.target)).keys() >= _OWN_FACTS:
        return None
    unsaid = [key for key in PREPROCESSING if key not in name.options]
    whose = f"timm's for {spec.architecture}"
    if is_our_resnet(spec.architecture, network_options(name)):
        whose = "ImageNet's usual ones"
    elif spec.channels == 1:  # timm's networks see colours
        whose = f"the bundled ones of {spec.architecture}"
    values = {
        "mean": ",".join(f"{v:g}" for v in spec.mean), "std": ",".join(f"{v:g}" for v in spec.std),
        "resize": f"{spec.resize} for crops of {spec.img_size}", "interpolation": spec.interpolation,
    }  # fmt: skip
    shown = ", ".join(f"{key} {values[key]}" for key in unsaid)
    usual = "" if spec.img_size is None else f"&resize={usual_resize(spec.img_size)}"
    common = f" (mean=imagenet&std=imagenet{usual} suits most self-supervised ones)" if spec.channels == 3 else ""
    return (
        f"{name.text}: the file does not say how its images were prepared, so {shown} are {whose}; write "
        f"…?{'&'.join(f'{key}=…' for key in unsaid)} for others{common}"
    )


def copies_of(name: EncoderName) -> list[Copy]:
    """The files that a name gives, with the dialects of the encoder it says they are."""
    row = published_entry(name.part)
    path = Path(name.target)
    if row is None:
        return [Copy(path)]
    paths = [path] if path.exists() or len(row.files) == 1 else [Path(part) for part in name.target.split(",")]
    dialects = [*row.dialects, *["native"] * len(paths)]
    return [Copy(each, dialect) for each, dialect in zip(paths, dialects, strict=False)]


def chosen(name: EncoderName, choice: "Choice") -> "Choice":
    """The choice with what the options of a checkpoint's name say of its file.

    Raises
    ------
    EncoderError for other values than they have.
    """
    order = "order" in (_match_of(name), choice.match)
    return replace(choice, match="order" if order else "name", average=_average_of(name))


def _match_of(name: EncoderName) -> str | None:
    """`?match=name` or `?match=order`; None where neither is asked for.

    Raises
    ------
    EncoderError for another value.
    """
    asked = name.options.get("match")
    if asked not in (None, "name", "order"):
        raise EncoderError(f"{name.text}: match is name or order, not {asked!r}")
    return asked if isinstance(asked, str) else None


def _average_of(name: EncoderName) -> bool | None:
    """`?ema=true` or `?ema=false`: which of several copies of the encoder in the file.

    Raises
    ------
    EncoderError for another value.
    """
    asked = name.options.get("ema")
    if asked is not None and not isinstance(asked, bool):
        raise EncoderError(f"{name.text}: ema is true (the average over steps) or false, not {asked!r}")
    return asked

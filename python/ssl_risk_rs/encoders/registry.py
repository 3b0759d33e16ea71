"""The published encoders, read from `registry.json` without torch.

An entry holds an address and facts, never weights: files are downloaded from their authors' hosts, under
their authors' licences. Entries with `not_loadable` are recognised, so that their names get an answer
that helps.
"""

import json
from dataclasses import MISSING, dataclass, fields
from functools import cache
from importlib.resources import files

from ssl_risk_rs.encoders.spec import IMAGENET_MEAN, IMAGENET_STD, EncoderSpec
from ssl_risk_rs.errors import EncoderError

__all__ = ["EncoderEntry", "Registry", "published_entry", "published_names", "published_spec", "resolve_alias"]

#: blocks of each plain ViT in the registry, which name its inner layers
_VIT_DEPTH = {"small": 12, "base": 12, "large": 24, "huge": 32}

#: timm's supervised twin of an architecture: trained on ImageNet-1K labels, same preprocessing
_SUPERVISED = {"resnet50": "timm:resnet50.tv_in1k", "resnet101": "timm:resnet101.tv_in1k"}


@dataclass(frozen=True, slots=True)
class EncoderEntry:
    """One published encoder, as `registry.json` has it.

    Attributes
    ----------
    name, objective, pretraining_data, epochs, batch_size : how the weights came about
    architecture : one of ours, a timm model name, or words where it cannot be loaded
    feature : the feature its authors evaluate
    url : address of the weights; None where no address is published
    img_size, interpolation, mean, std : preprocessing of its authors' evaluation
    licence : of the weights, None where not recorded
    notes : anything a user of the numbers should know
    not_loadable : why it cannot be loaded by name, None if it can
    """

    name: str
    objective: str
    architecture: str
    feature: str
    pretraining_data: str
    epochs: int
    batch_size: int
    url: str | None = None
    img_size: int = 224
    interpolation: str = "bilinear"
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    licence: str | None = None
    notes: str | None = None
    not_loadable: str | None = None

    @classmethod
    def read(cls, record: object) -> "EncoderEntry":
        """Check one record of the file.

        Raises
        ------
        EncoderError that names the entry and the field.
        """
        if not isinstance(record, dict):
            raise EncoderError(f"the registry of encoders has an entry that is {type(record).__name__}, no object")
        name = record.get("name", "an entry")
        values: dict[str, object] = {}
        for key, value in record.items():
            if key not in _KINDS:
                raise EncoderError(f"{name} in the registry of encoders has an unknown field {key!r}")
            if key in ("mean", "std"):
                fits = isinstance(value, list) and len(value) == 3 and all(isinstance(v, float) for v in value)
                values[key] = tuple(value) if fits else value
            else:
                fits = type(value) is _KINDS[key]
                values[key] = value
            if not fits:
                raise EncoderError(
                    f"{name} in the registry of encoders has {key} {value!r}; it is {_KINDS[key].__name__}"
                )
        missing = [f.name for f in fields(cls) if f.default is MISSING and f.name not in values]
        if missing or ("url" not in values and "not_loadable" not in values):
            raise EncoderError(f"{name} in the registry of encoders lacks {', '.join(missing) or 'url'}")
        return cls(**values)  # type: ignore[arg-type]  # each value's type is checked above


#: JSON type of each field of the file
_KINDS: dict[str, type] = {
    **dict.fromkeys(("name", "objective", "architecture", "feature", "pretraining_data", "url"), str),
    **dict.fromkeys(("interpolation", "licence", "notes", "not_loadable"), str),
    **dict.fromkeys(("epochs", "batch_size", "img_size"), int),
    **dict.fromkeys(("mean", "std"), list),
}


@dataclass(frozen=True, slots=True)
class Registry:
    """The file: entries by name in lower case, in its order, and aliases."""

    entries: dict[str, EncoderEntry]
    aliases: dict[str, str]

    @classmethod
    def read(cls, text: str) -> "Registry":
        """Check the file's text.

        Raises
        ------
        EncoderError for a wrong entry, a name that occurs twice, or an alias of nothing.
        """
        content = json.loads(text)
        entries: dict[str, EncoderEntry] = {}
        for record in content["encoders"]:
            entry = EncoderEntry.read(record)
            if entries.setdefault(entry.name.lower(), entry) is not entry:
                raise EncoderError(f"the registry of encoders has {entry.name} twice")
        aliases = {str(alias): str(name) for alias, name in content["aliases"].items()}
        lost = [f"{alias} → {name}" for alias, name in aliases.items() if name.lower() not in entries]
        if lost:
            raise EncoderError(f"the registry of encoders has an alias of nothing: {lost[0]}")
        return cls(entries, aliases)


@cache
def _registry() -> Registry:
    return Registry.read((files(__package__) / "registry.json").read_text(encoding="utf-8"))


def resolve_alias(name: str) -> str:
    """The name an alias stands for; any other name unchanged."""
    return _registry().aliases.get(name, name)


def published_names(*, loadable_only: bool = False) -> list[str]:
    """Names in the registry, sorted."""
    return [e.name for e in _registry().entries.values() if not (loadable_only and e.not_loadable)]


def published_entry(name: str) -> EncoderEntry | None:
    """The registry's record of `name` (any case, aliases allowed), or None."""
    return _registry().entries.get(resolve_alias(name).lower())


def published_spec(entry: EncoderEntry) -> EncoderSpec:
    """Make the spec of a registry entry that can be loaded.

    Raises
    ------
    EncoderError for an entry that is only recognised; it says why and what to do.
    """
    if entry.not_loadable is not None or entry.url is None:
        where = f"; its published address is {entry.url}" if entry.url else ""
        raise EncoderError(
            f"{entry.name} is a published encoder that cannot be loaded by name yet: {entry.not_loadable}{where}"
        )
    supervised = _SUPERVISED.get(entry.architecture)
    return EncoderSpec(
        name=entry.name,
        architecture=entry.architecture,
        source=entry.url,
        features=published_features(entry.architecture, entry.feature),
        img_size=entry.img_size,
        resize=round(entry.img_size * 256 / 224),
        interpolation=entry.interpolation,
        mean=entry.mean,
        std=entry.std,
        objective=entry.objective,
        pretraining_data=entry.pretraining_data,
        epochs=entry.epochs,
        batch_size=entry.batch_size,
        licence=entry.licence,
        supervised_twin=supervised,
        twin_labels="ImageNet-1K" if supervised else None,
        random_twin=f"random:{entry.architecture}",
        notes=entry.notes,
    )


def published_features(architecture: str, default: str = "") -> tuple[str, ...]:
    """Feature names of the ResNets and plain ViTs of the registry, `default` first."""
    if architecture.startswith("resnet"):
        return resnet_features()
    depth = _VIT_DEPTH[architecture.split("_")[1]]
    return vit_features(depth, default or "cls")


def resnet_features() -> tuple[str, ...]:
    """Global average pools: of the last stage, then of the three before it."""
    return ("avgpool", *(f"layer{stage}:avgpool" for stage in (1, 2, 3)))


def vit_features(depth: int, default: str = "cls") -> tuple[str, ...]:
    """Class token, mean patch token, both, class tokens of the last four blocks; then of inner blocks.

    All tokens have passed the final LayerNorm (as in DINO's evaluation; Caron et al. 2021).
    """
    last = [f for f in ("cls", "avg", "cls+avg", "4xcls") if depth >= 4 or f != "4xcls"]
    last.sort(key=lambda f: f != default)
    inner = [f"blocks.{b}:{p}" for b in range(depth - 1) for p in ("cls", "avg", "cls+avg")]
    return (*last, *inner)

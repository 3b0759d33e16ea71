"""What a sweep is about: patterns become pairs of an encoder and data, each with what is known before it starts."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from ssl_risk_rs.bank.store import FeatureStore, bank_key
from ssl_risk_rs.datasets.dataset import ImageDataset
from ssl_risk_rs.encoders import describe_encoder, list_encoders
from ssl_risk_rs.encoders.catalogue import Address, Status, catalogue, published_entry
from ssl_risk_rs.encoders.facts import BUNDLED, read_facts
from ssl_risk_rs.encoders.names import Kind, Preparation, expand_names, is_pattern, parse_name
from ssl_risk_rs.encoders.sources import check_at_hand
from ssl_risk_rs.encoders.spec import nearest
from ssl_risk_rs.encoders.weights.download import cached_path
from ssl_risk_rs.errors import EncoderError, ParameterError, SslRiskError
from ssl_risk_rs.extraction.cached import request_of
from ssl_risk_rs.extraction.facts import library_versions
from ssl_risk_rs.extraction.settings import Encoding
from ssl_risk_rs.workflow.banks import others_facts
from ssl_risk_rs.workflow.others import choose_others
from ssl_risk_rs.workflow.question import Question
from ssl_risk_rs.workflow.sweep_records import Record

__all__ = ["Job", "Pair", "Plan", "SweepSettings", "expand_models", "plan_sweep", "preview", "run_key"]

#: bytes of a stored number where features fit float16
_BYTES = 2


@dataclass(frozen=True, slots=True)
class SweepSettings:
    """What is done with every encoder on all data, for each of the layers, which `question` does not name.

    data_named : False where the bundled digits stand in, because no data were named
    """

    question: Question = field(default_factory=Question)
    store: str | None = None
    layers: tuple[str, ...] | None = None
    data_named: bool = True

    @property
    def encoding(self) -> Encoding:
        """Which images are encoded, and how."""
        return self.question.encoding


@dataclass(frozen=True, slots=True, eq=False)
class Pair:
    """One run: an encoder's layer on data.

    id : hash of what was typed; key : hash of what that stood for when it was looked at, files' sizes and times
    included; None where only the built encoder tells (`hub:…`, `file.py:function`)
    """

    encoder: str
    data: str
    layer: str | None
    id: str
    key: str | None
    request: Mapping[str, object] | None


@dataclass(frozen=True, slots=True, eq=False)
class Job:
    """What one process does: an encoder on data, its layers from one pass."""

    encoder: str
    data: str
    data_name: str
    n_images: int
    pairs: tuple[Pair, ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """The jobs, in the order of data and encoders; what was merged or left out, in sentences."""

    jobs: tuple[Job, ...]
    notes: tuple[str, ...] = ()
    #: encoders that match a pattern and whose published address is dead
    dead: tuple[str, ...] = ()


def plan_sweep(
    models: Sequence[str],
    data: Sequence[str],
    asked: SweepSettings,
    preparation: Preparation | None = None,
) -> Plan:
    """The jobs of all encoders on all data.

    Parameters
    ----------
    models : names, shell patterns, several joined by commas; `ckpt:runs/ep*.pth@ARCH` alone; `@FILE` has one of these
        on each line
    data : URIs as `create_dataset` takes them
    preparation : of images, for files of weights

    Raises
    ------
    EncoderError for a pattern that nothing matches, with the nearest names; those of `create_dataset`, now.
    """
    encoders, notes, dead = expand_models(models)
    encoders = [(preparation or Preparation()).named(encoder) for encoder in encoders]
    notes += [
        f"{encoder} pools images of any size to its grid; --img-size is that of the others."
        for encoder in encoders
        if asked.encoding.for_encoder(encoder) != asked.encoding
    ]
    sets: dict[str, ImageDataset] = {}
    for uri in data:
        dataset = asked.encoding.images(uri, asked.question.group)
        len(dataset)  # what is not there, or empty, is told now
        if dataset.uri in sets:
            notes.append(f"{uri} is named twice; it is used once.")
        sets.setdefault(dataset.uri, dataset)
    jobs = []
    for dataset in sets.values():
        # looks at every file: once for all encoders
        fingerprint = dataset.fingerprint(asked.encoding.settings.hash_content)
        jobs += [_job(encoder, dataset, fingerprint, asked) for encoder in encoders]
    return Plan(tuple(jobs), tuple(notes), dead)


def _job(encoder: str, dataset: ImageDataset, fingerprint: str, asked: SweepSettings) -> Job:
    pairs = []
    others = _others_facts(encoder, dataset, asked.question)
    for layer in asked.layers or (None,):
        encoding = asked.encoding.for_encoder(encoder)
        request = request_of(encoder, dataset, layer, encoding, fingerprint=fingerprint)
        if request is not None:  # a new release of a library makes other banks, not other questions
            del request["versions"]
        typed = {"encoder": encoder, "data": dataset.uri, "layer": layer, **_asked(asked)}
        key = None
        if request is not None and others is not None:
            key = run_key({**request, **({"others": others} if others else {})}, asked)
        pairs.append(Pair(encoder, dataset.uri, layer, bank_key(typed)[:16], key, request))
    return Job(encoder, dataset.uri, dataset.name, len(dataset), tuple(pairs))


def _others_facts(encoder: str, dataset: ImageDataset, question: Question) -> dict[str, object] | None:
    """As `others_facts`, of the twin and the control that this encoder will have."""
    name, spec = parse_name(encoder), {}
    if name.kind == "checkpoint" and read_facts(Path(name.target)):  # no other encoder names files as its twin
        with suppress(SslRiskError):  # what is wrong with it is said when it is built
            spec = describe_encoder(encoder).to_dict()
    names = choose_others(
        spec, dataset.uri, question, data_id=dataset.identity.kind, n_images=len(dataset), say=lambda _: None
    )
    return others_facts(names)


def run_key(subject: Mapping[str, object], asked: SweepSettings) -> str:
    """Hash of what a run is of (a request, or a bank) and of everything that changes its numbers."""
    return bank_key({"subject": dict(subject), **_asked(asked)})


def _asked(asked: SweepSettings) -> dict[str, object]:
    content = asked.encoding.content()
    del content["layers"]  # a run is of one of them
    return {**asked.question.content(), "encoding": content}


# --- names


def expand_models(models: Sequence[str]) -> tuple[list[str], list[str], tuple[str, ...]]:
    """Names of encoders in the order given, sentences on what was merged, and matches whose address is dead."""
    found: dict[str, str] = {}
    notes: list[str] = []
    dead: list[str] = []
    for text in _words(models):
        names = _matches(text)
        if names is None:
            names = [_canonical(text)]
            if names[0] in found:
                notes.append(f"{text} is named twice; it is run once.")
        else:
            gone = [name for name in names if _status(name) is Status.ADDRESS_DEAD and not _at_hand(name)]
            dead += [name for name in gone if name not in dead]
            names = [name for name in names if name not in gone]
        for name in names:
            found.setdefault(name, text)
    dead = [name for name in dead if name not in found]
    if not found:
        raise EncoderError(f"all {len(dead)} encoders that match have dead addresses ({', '.join(dead[:5])}): "
                           "give a file as ckpt:FILE@NAME")  # fmt: skip
    return list(found), notes, tuple(dead)


def _words(models: Sequence[str]) -> list[str]:
    words: list[str] = []
    for text in models:
        if text.startswith("@"):
            words += _words(_lines(Path(text[1:]).expanduser()))
        elif text.startswith("ckpt:"):  # a file's name may hold a comma
            words.append(text)
        else:
            words += [word.strip() for word in text.split(",") if word.strip()]
    if not words:
        raise ParameterError("no encoder is named; -m 'swav*,dino*' names those of two patterns")
    return words


def _lines(path: Path) -> list[str]:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ParameterError(f"the list of encoders {path} cannot be read: {error}") from error
    lines = [line.partition("#")[0].strip() for line in text.splitlines()]
    if not any(lines):
        raise ParameterError(f"the list {path} names no encoder; it has one name or pattern on each line")
    return [line for line in lines if line and not line.startswith("@")]


def _matches(text: str) -> list[str] | None:
    """Encoders, or files of weights, that match a pattern; None for a name."""
    if text.startswith("ckpt:") and is_pattern(text):
        return expand_names([text])
    timm = text.startswith("timm:")
    if (":" in text and not timm) or not set("*[" if timm else "*?[") & set(text):
        return None
    names = list_encoders(text, recognised=True)
    if not names:
        word = "".join(c for c in text if c not in "*?[]")
        every = list_encoders(recognised=True)
        families = sorted({f"{name.partition('_')[0]}*" for name in every})
        close = [] if timm else nearest(word, [*families, *every])
        hint = f"nearest: {', '.join(close)}" if close else "ssl-risk-rs models list shows all names"
        raise EncoderError(f"no encoder matches {text!r}; {hint}")
    return names


def _canonical(text: str) -> str:
    name = parse_name(text)
    if name.kind in ("checkpoint", "code"):
        check_at_hand(text)
    if name.kind != "registry":
        return text
    row = published_entry(name.target)
    if row is not None:
        return row.name  # whatever its case, or an alias
    describe_encoder(text)  # a bundled one; else it raises, with the nearest names
    return name.target


def _status(name: str) -> Status | None:
    row = published_entry(name)
    return None if row is None else catalogue().status(row)


# --- what is known before anything runs


@dataclass(frozen=True, slots=True)
class Preview:
    """What a job would take. `passes` over the images; `gigabytes` of features, None where the dimension is unknown;
    `rate` of images that an earlier run of this encoder in the same folder measured, None without one."""

    job: Job
    weights: str
    download: int | None
    passes: int
    gigabytes: float | None
    rate: float | None

    @property
    def minutes(self) -> float | None:
        """Of encoding, at the measured rate."""
        if self.passes == 0:
            return 0.0
        return None if not self.rate else self.passes * self.job.n_images / self.rate / 60


def preview(job: Job, asked: SweepSettings, records: Sequence[Record], open_pairs: Sequence[Pair]) -> Preview:
    """What a job takes of which `open_pairs` are not finished; `records` are those of the folder."""
    weights, download = _weights(job.encoder)
    missing = [pair for pair in open_pairs if not _has_bank(pair, asked)]
    rates = [r.images_per_second for r in records if r.encoder == job.encoder and r.images_per_second]
    width = _dimension(job.encoder) if asked.layers is None and asked.encoding.pool is None else None
    return Preview(
        job=job,
        weights=weights,
        download=download if missing else None,
        passes=1 if missing else 0,
        gigabytes=0.0 if not missing else None if width is None else job.n_images * width * _BYTES / 1e9,
        rate=rates[-1] if rates else None,
    )


def _has_bank(pair: Pair, asked: SweepSettings) -> bool:
    if pair.request is None:
        return False
    bank = FeatureStore(asked.store).find({**pair.request, "versions": library_versions()})
    return bank is not None and bank.complete and asked.encoding.settings.allows(bank.header.precision)


def _dimension(encoder: str) -> int | None:
    """Features of the default representation, where the catalogue tells."""
    name = parse_name(encoder)
    if name.kind == "pixels":
        return None
    row = published_entry(encoder)
    text = catalogue().corrected(row.name).get("z_dim", "") if row and row.name in catalogue().published else ""
    return int(float(text)) if text.replace(".", "", 1).isdigit() else None


def _places(name: str) -> "list[tuple[Address, ...]]":
    row = published_entry(name)
    return [] if row is None else [catalogue().files[file] for file in row.files]


def _at_hand(name: str) -> bool:
    places = _places(name)
    return bool(places) and all(any(cached_path(place).is_file() for place in each) for each in places)


#: where the weights of each kind of name but the published ones are
_WEIGHTS: dict[Kind, str] = {
    "timm": "timm's cache or download", "hub": "repository", "code": "own code", "hf": "the hub's cache or download",
    "openclip": "file, or open_clip's cache or download", "checkpoint": "own file", "random": "none needed",
    "pixels": "none needed",
}  # fmt: skip


def _weights(encoder: str) -> tuple[str, int | None]:
    """The state of an encoder's weights in words, and the bytes to download where they are known."""
    name = parse_name(encoder)
    if name.kind == "registry":
        if name.target in BUNDLED:
            return "bundled", None
        if _at_hand(name.target):
            return "cached", None
        status = _status(name.target)
        if status is Status.ADDRESS_DEAD:
            return "address dead", None
        if status is Status.NEEDS_EXTRA:
            return f"needs {', '.join(catalogue().missing_packages()) or 'an extra'}", None
        row = published_entry(name.target)
        sizes = [catalogue().usable(file)[0].n_bytes for file in row.files] if row else []
        return "to download", None if None in sizes else sum(size or 0 for size in sizes)
    if name.kind in ("hf", "openclip") and Path(name.target).expanduser().is_dir():
        return "own folder", None
    return _WEIGHTS[name.kind], None

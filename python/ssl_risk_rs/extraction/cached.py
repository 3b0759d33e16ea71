"""The bank of an encoder on a data set by name: found in the store, or made.

A request is what was typed, with what can be learnt without opening weights or images: sizes and times of
files, releases of libraries. The store remembers which bank answered it, so that a second run needs neither
torch nor an image. A request it does not know costs building the encoder; the bank's key then decides
whether there is anything left to encode.
"""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from ssl_risk_rs.encoders import create_encoder
from ssl_risk_rs.encoders.names import EncoderName, parse_name
from ssl_risk_rs.encoders.sources import check_name
from ssl_risk_rs.encoders.sources.files import file_facts, weights_files
from ssl_risk_rs.encoders.spec import choose_features, may_be_several
from ssl_risk_rs.events import Event, torch_is_loading
from ssl_risk_rs.extraction.decoding import count_images
from ssl_risk_rs.extraction.facts import FACTS_VERSION, library_versions
from ssl_risk_rs.extraction.job import extract
from ssl_risk_rs.extraction.settings import Encoding, ExtractionSettings
from ssl_risk_rs.extraction.shard import Shard, missing_in

if TYPE_CHECKING:
    from ssl_risk_rs.bank import FeatureBank
    from ssl_risk_rs.bank.store import FeatureStore
    from ssl_risk_rs.datasets import ImageDataset
    from ssl_risk_rs.encoders import Encoder
    from ssl_risk_rs.extraction.forecast import Forecast

__all__ = [
    "Check", "KeptEncoder", "ensure_bank", "ensure_banks", "forecast_banks", "request_of", "told_by_files",
]  # fmt: skip

#: seconds after which a silent step says what it does
PATIENCE = 1.0


class Check(NamedTuple):
    """What raises where images are no good for what comes after they are encoded.

    Attributes
    ----------
    images : called with them before anything is read of them
    overlap : called with the number of test images that are training images too, before a bank of them is begun
    """

    images: "Callable[[ImageDataset], None]"
    overlap: "Callable[[int], None]"


class KeptEncoder:
    """The encoder of several calls: built by the first that needs it, and kept for those that ask for the same."""

    def __init__(self) -> None:
        self._asked: tuple[object, ...] | None = None
        self._encoder: Encoder | None = None

    def create(self, model: str, encoding: Encoding, say: Callable[[str], None]) -> "Encoder":
        """See `create_encoder`."""
        asked = (model, encoding.layers or (), encoding.pool, encoding.img_size)
        if self._encoder is None or asked != self._asked:
            self._encoder = None  # its memory is free for the next
            self._encoder = create_encoder(
                model, layers=encoding.layers or None, pool=encoding.pool, img_size=encoding.img_size, progress=say
            )
            self._asked = asked
        return self._encoder


def ensure_bank(
    model: str,
    data: str,
    *,
    store: "FeatureStore | Path | str | None" = None,
    feature: str | None = None,
    pool: str | None = None,
    img_size: int | None = None,
    limit: str | int | None = None,
    group: str | None = None,
    split: str | None = None,
    settings: ExtractionSettings | None = None,
    shard: Shard | None = None,
    say: Callable[[str], None] | None = None,
    progress: Callable[[Event], None] | None = None,
) -> "FeatureBank":
    """The complete bank of one feature.

    Parameters
    ----------
    model, data, store, group, shard, say, progress : as for `ensure_banks`
    feature, pool, img_size, limit, split, settings : which feature of which images, and how; see `Encoding`

    Raises
    ------
    Those of `create_encoder`, `create_dataset` and `extract`.
    """
    encoding = Encoding(
        layers=None if feature is None else (feature,),
        pool=pool,
        img_size=img_size,
        limit=None if limit is None else str(limit),
        split=split,
        settings=settings or ExtractionSettings(),
    )
    banks = ensure_banks(model, data, encoding, store=store, group=group, shard=shard, say=say, progress=progress)
    return next(iter(banks.values()))


def ensure_banks(
    model: str,
    data: str,
    encoding: Encoding | None = None,
    *,
    store: "FeatureStore | Path | str | None" = None,
    group: str | None = None,
    shard: Shard | None = None,
    kept: KeptEncoder | None = None,
    check: Check | None = None,
    say: Callable[[str], None] | None = None,
    progress: Callable[[Event], None] | None = None,
) -> "dict[str, FeatureBank]":
    """The complete banks of an encoder's features on a data set, encoding only what is missing.

    Parameters
    ----------
    model, data : names, as `create_encoder` and `create_dataset` take them
    encoding : which features of which images, and how; default: the encoder's default feature (all those of a
        `file.py:function`) of all images
    store : a store or its folder; None is the default store
    group : column whose groups a limit, and a test part that is set aside, keep whole, as for `create_dataset`
    shard : encode this shard's rows only, as for `extract`
    kept : where the encoder is kept for further calls
    check : what the images are no good for, before any of them is encoded
    say : called with sentences for the user (a split that was made up, what is about to happen)
    progress : as for `extract`

    Returns
    -------
    dict: feature name → `FeatureBank` with all rows (of the shard). If the store knows them, torch is not imported.

    Raises
    ------
    Those of `create_encoder`, `create_dataset` and `extract`.
    """
    encoding = encoding or Encoding()
    say = say or (lambda _: None)
    asked = _look_up(model, data, encoding, store, group, say)
    if all(bank is not None and not len(missing_in(bank, shard)) for bank in asked.found):
        there = {bank.header.feature or "": bank for bank in asked.found if bank is not None}
        _say_whose(model, asked.dataset, there, say)
        return there
    asked.store.make_folder()
    encoder = _encoder(model, asked, encoding, shard, kept or KeptEncoder(), check, say)
    names = encoder.spec.features  # exactly what was asked for
    banks = extract(
        encoder, asked.dataset, store=asked.store, features=names, shard=shard, settings=encoding.settings,
        check_overlap=None if check is None else check.overlap, say=say, progress=progress,
    )  # fmt: skip
    for layer, request in zip(asked.typed, asked.requests, strict=True):
        if request is not None:
            feature = names[0] if layer is None else choose_features(names, [layer], encoding.pool)[0]
            try:
                asked.store.remember(request, banks[feature].path.name)
            except OSError as error:  # the bank is there all the same
                say(
                    f"{asked.store.root} cannot be written to ({error.strerror}): the next run has to build {model} "
                    "again to find this bank."
                )
    _say_whose(model, asked.dataset, banks, say)
    return banks


def _say_whose(
    model: str, dataset: "ImageDataset", banks: "Mapping[str, FeatureBank]", say: Callable[[str], None]
) -> None:
    """Say that a bank was made from other files, whose content is the same."""
    of_file = parse_name(model).kind in ("checkpoint", "code")
    for bank in banks.values():
        header = bank.header
        if header.data not in (None, dataset.uri):
            say(f"{bank.path} was made from {header.data}, whose images are those of {dataset.uri}: it is used.")
        elif of_file and header.encoder not in (None, model):
            say(f"{bank.path} was made by {header.encoder}, whose weights are those of {model}: it is used.")


def forecast_banks(
    model: str,
    data: str,
    encoding: Encoding | None = None,
    *,
    store: "FeatureStore | Path | str | None" = None,
    group: str | None = None,
    shard: Shard | None = None,
    kept: KeptEncoder | None = None,
    check: Check | None = None,
    say: Callable[[str], None] | None = None,
) -> "list[Forecast]":
    """What `ensure_banks` would take with these arguments; nothing is written, and some batches are encoded."""
    encoding = encoding or Encoding()
    say = say or (lambda _: None)
    asked = _look_up(model, data, encoding, store, group, say)
    from ssl_risk_rs.extraction.forecast import forecast, nothing_to_do

    if all(bank is not None and not len(missing_in(bank, shard)) for bank in asked.found):
        return [nothing_to_do(bank, shard) for bank in asked.found if bank is not None]
    encoder = _encoder(model, asked, encoding, shard, kept or KeptEncoder(), check, say)
    return forecast(
        encoder, asked.dataset, store=asked.store, features=encoder.spec.features, settings=encoding.settings,
        shard=shard, say=say,
    )  # fmt: skip


class _Asked(NamedTuple):
    """What was asked for, and what the store has of it."""

    store: "FeatureStore"
    dataset: "ImageDataset"
    typed: Sequence[str | None]  # layers; None is the default feature
    requests: list[dict[str, object] | None]
    found: "list[FeatureBank | None]"


def _look_up(
    model: str,
    data: str,
    encoding: Encoding,
    store: "FeatureStore | Path | str | None",
    group: str | None,
    say: Callable[[str], None],
) -> _Asked:
    from ssl_risk_rs.bank.store import FeatureStore

    store = store if isinstance(store, FeatureStore) else FeatureStore(store)
    typed: Sequence[str | None] = encoding.layers or (None,)
    with _said_if_slow(say, f"Looking through the images of {data} …"):
        dataset = encoding.images(data, group)
        requests = [request_of(model, dataset, layer, encoding) for layer in typed]
    found = [None if r is None else store.find(r) for r in requests]
    allows = encoding.settings.allows
    return _Asked(
        store, dataset, typed, requests, [b if b is not None and allows(b.header.precision) else None for b in found]
    )


def _encoder(
    model: str,
    asked: _Asked,
    encoding: Encoding,
    shard: Shard | None,
    kept: KeptEncoder,
    check: Check | None,
    say: Callable[[str], None],
) -> "Encoder":
    """The encoder, after a line that says what it will do: torch takes up to 20 seconds to load."""
    check_name(model)
    say(_what_is_done(model, asked.dataset, asked.found, shard))
    for note in asked.dataset.notes:
        say(note)
    if check is not None:
        check.images(asked.dataset)
    return kept.create(model, encoding, say)


@contextmanager
def _said_if_slow(say: Callable[[str], None], sentence: str) -> Iterator[None]:
    """Say the sentence if what is done in the block takes longer than PATIENCE."""
    timer = threading.Timer(PATIENCE, say, [sentence])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _what_is_done(
    model: str, dataset: "ImageDataset", found: "Sequence[FeatureBank | None]", shard: Shard | None
) -> str:
    """Encoder, data and rows, as a sentence."""
    total = len(dataset)
    rows = total if shard is None else len(shard.span(total))
    missing = max(rows if bank is None or bank.n_rows != total else len(missing_in(bank, shard)) for bank in found)
    images = f"{missing:,} of {count_images(total)}" if missing < total else count_images(total)
    part = "" if shard is None else f"Shard {shard}: "
    return f"{part}{model} encodes {images} of {dataset.uri}{torch_is_loading()}"


def request_of(
    model: str,
    dataset: "ImageDataset",
    layer: str | None,
    encoding: Encoding,
    *,
    fingerprint: str | None = None,
) -> dict[str, object] | None:
    """What was asked for of one layer, JSON-ready; None where files cannot tell whether the encoder is still the same.

    fingerprint : of the data, where it is known already: it looks at every file
    """
    name = parse_name(model)
    if not told_by_files(name):
        return None
    if may_be_several(layer, encoding.pool):  # which features these are is known when the encoder is built
        return None
    files = [file_facts(file) for file in weights_files(name)]
    return {
        "version": FACTS_VERSION,
        "model": model,
        "model_file": None if not files else files[0] if len(files) == 1 else files,
        "layer": layer,
        "pool": encoding.pool,
        "img_size": encoding.img_size,
        "data": dataset.uri,
        "fingerprint": fingerprint or dataset.fingerprint(encoding.settings.hash_content),
        "limit": None if dataset.limit is None else str(dataset.limit),
        "group": dataset.drawing_group,
        "settings": encoding.settings.content(),
        "versions": library_versions(),
        **_changed_since(name),
    }


def told_by_files(name: EncoderName) -> bool:
    """Whether its files tell that an encoder is still the same: code may read anything, and other libraries keep their
    files themselves, so that those weights are hashed each time."""
    return name.code is None and name.kind not in ("hub", "hf", "openclip")


def _changed_since(name: EncoderName) -> dict[str, int]:
    """Of names whose features are others than those of older releases; the key of a bank tells by itself."""
    if "distilled" in name.text:  # `cls` was the mean of two tokens
        return {"prepared": 3}
    return {"prepared": 2} if name.kind in ("timm", "checkpoint") else {}

"""The bank of an encoder on a data set by name: found in the store, or made.

A request is what was typed, with what can be learnt without opening weights or images: sizes and times of
files, releases of libraries. The store remembers which bank answered it, so that a second run needs neither
torch nor an image. A request it does not know costs building the encoder; the bank's key then decides
whether there is anything left to encode.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from ssl_risk_rs.events import Event
from ssl_risk_rs.extraction.facts import FACTS_VERSION, library_versions
from ssl_risk_rs.extraction.settings import ExtractionSettings

if TYPE_CHECKING:
    from ssl_risk_rs.bank import FeatureBank
    from ssl_risk_rs.bank.store import FeatureStore
    from ssl_risk_rs.datasets import ImageDataset

__all__ = ["ensure_bank", "ensure_banks"]

#: settings that change how fast a bank is made, not what is in it
_HOW = ("device", "batch_size", "workers")


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
    settings: ExtractionSettings | None = None,
    say: Callable[[str], None] | None = None,
    progress: Callable[[Event], None] | None = None,
) -> "FeatureBank":
    """The complete bank of one feature; the arguments are those of `ensure_banks`."""
    layers = None if feature is None else [feature]
    banks = ensure_banks(
        model, data, store=store, layers=layers, pool=pool, img_size=img_size, limit=limit, group=group,
        settings=settings, say=say, progress=progress,
    )  # fmt: skip
    return next(iter(banks.values()))


def ensure_banks(
    model: str,
    data: str,
    *,
    store: "FeatureStore | Path | str | None" = None,
    layers: Sequence[str] | None = None,
    pool: str | None = None,
    img_size: int | None = None,
    limit: str | int | None = None,
    group: str | None = None,
    settings: ExtractionSettings | None = None,
    say: Callable[[str], None] | None = None,
    progress: Callable[[Event], None] | None = None,
) -> "dict[str, FeatureBank]":
    """The complete banks of an encoder's features on a data set, encoding only what is missing.

    Parameters
    ----------
    model, data : names, as `create_encoder` and `create_dataset` take them
    store : a store or its folder; None is the default store
    layers : layers or feature names, one pass for all; None is the encoder's default feature (all those of
        a `file.py:function`)
    pool : pooling of layers that name none
    img_size : side of the images the encoder sees; None is the encoder's own
    limit, group : `N` or `"N/class"`, and the column whose groups it keeps whole, as for `create_dataset`
    settings : how to encode
    say : called with sentences for the user (a split that was made up, what is about to happen)
    progress : as for `extract`

    Returns
    -------
    dict: feature name → complete `FeatureBank`. If the store knows them, torch is not imported.

    Raises
    ------
    Those of `create_encoder`, `create_dataset` and `extract`.
    """
    from ssl_risk_rs.bank.store import FeatureStore
    from ssl_risk_rs.datasets import create_dataset

    settings = settings or ExtractionSettings()
    say = say or (lambda _: None)
    store = store if isinstance(store, FeatureStore) else FeatureStore(store)
    dataset = create_dataset(data, limit=limit, group=group, exif_orientation=settings.exif_orientation)
    typed: Sequence[str | None] = layers if layers else [None]
    requests = [_request(model, dataset, layer, pool, img_size, settings) for layer in typed]
    found = [None if request is None else store.find(request) for request in requests]
    if all(bank is not None and bank.complete for bank in found):
        return {bank.header["feature"]: bank for bank in found if bank is not None}

    from ssl_risk_rs.encoders import create_encoder
    from ssl_risk_rs.encoders.spec import choose_features
    from ssl_risk_rs.extraction.loop import extract

    for note in dataset.notes:
        say(note)
    encoder = create_encoder(model, layers=list(layers) if layers else None, pool=pool, img_size=img_size, progress=say)
    names = encoder.spec.features  # exactly what was asked for
    banks = extract(encoder, dataset, store=store, features=names, say=say, progress=progress, **asdict(settings))
    for layer, request in zip(typed, requests, strict=True):
        if request is not None:
            feature = names[0] if layer is None else choose_features(names, [layer], pool)[0]
            store.remember(request, banks[feature].path.name)
    return banks


def _request(
    model: str,
    dataset: "ImageDataset",
    layer: str | None,
    pool: str | None,
    img_size: int | None,
    settings: ExtractionSettings,
) -> dict[str, object] | None:
    """What was asked for, JSON-ready; None where files cannot tell whether the encoder is still the same."""
    from ssl_risk_rs.encoders.facts import BUNDLED, bundled_path
    from ssl_risk_rs.encoders.names import parse_name
    from ssl_risk_rs.encoders.sources.published import published_file
    from ssl_risk_rs.encoders.spec import may_be_several

    name = parse_name(model)
    # code may read anything, and other libraries keep their files themselves: those weights are hashed each time
    if name.kind in ("code", "hub", "hf", "openclip"):
        return None
    if may_be_several(layer, pool):  # which features these are is known when the encoder is built
        return None
    file = Path(name.target) if name.kind == "checkpoint" else None
    if name.kind == "registry":
        file = bundled_path(name.target) if name.target in BUNDLED else published_file(name.target)
    how = {key: value for key, value in asdict(settings).items() if key not in _HOW}
    return {
        "version": FACTS_VERSION,
        "model": model,
        "model_file": None if file is None else _file_facts(file),
        "layer": layer,
        "pool": pool,
        "img_size": img_size,
        "data": dataset.uri,
        "fingerprint": dataset.fingerprint(settings.hash_content),
        "limit": None if dataset.limit is None else str(dataset.limit),
        "group": None if dataset.limit is None else dataset.group,
        "settings": how,
        "versions": library_versions(),
    }


def _file_facts(path: Path) -> list[str | int | None]:
    """Where a file is, its size and its time; a missing file is `create_encoder`'s error to explain."""
    path = path.absolute()
    if not path.is_file():
        return [str(path), None, None]
    stat = path.stat()
    return [str(path), stat.st_size, stat.st_mtime_ns]

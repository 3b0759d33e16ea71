"""From the name of an encoder and of a data set to decompositions: the main job."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ssl_risk_rs.decomposition import Decomposition, Settings, decompose
from ssl_risk_rs.errors import SslRiskError
from ssl_risk_rs.results import Provenance

if TYPE_CHECKING:
    from ssl_risk_rs.bank import FeatureBank

#: data sets whose images are few and small: a control encoder costs seconds there
CHEAP_DATA = ("digits", "idx:", "npz:")
#: the control where an encoder names none: mean pixels, which cannot have memorized anything
PIXELS = "pixels:8"


def evaluate(
    model: str,
    data: str,
    *,
    probes: tuple[str, ...] = ("logistic",),
    supervised: str = "auto",
    control: str = "auto",
    store: "str | Path | None" = None,
    say: Callable[[str], None] = lambda _: None,
    progress: Any = None,
    extraction: dict[str, Any] | None = None,
    settings: dict[str, Any] | None = None,
) -> tuple[list[Decomposition], Provenance]:
    """Encode what is missing, then decompose with each probe.

    Parameters
    ----------
    model, data : names, as `create_encoder` and `create_dataset` take them
    probes : "logistic", "ridge"
    supervised, control : "auto", "none" or an encoder's name. `auto` takes the twin that the encoder names if
        the data's labels trained it, and a control encoder where one is cheap.
    store : folder of the feature banks
    say, progress : receive sentences and extraction progress
    extraction : keyword arguments of `ensure_banks`
    settings : fields of `Settings` but the probe

    Returns
    -------
    one Decomposition for each probe, and where they come from
    """
    from ssl_risk_rs.extraction.cached import ensure_banks

    def bank_of(name: str, **options: Any) -> "FeatureBank":
        banks = ensure_banks(name, data, store=store, say=say, progress=progress, **((extraction or {}) | options))
        return next(iter(banks.values()))

    bank = bank_of(model)
    spec = bank.header.get("encoder_spec", {})
    own = {"layers": None, "pool": None}  # twin and control choose their own features
    twin_name = _twin(spec, bank, supervised, say)
    twin = None if twin_name is None else bank_of(twin_name, **own)
    control_name = _control(spec, data, control)
    any_size = {"img_size": None} if control_name is not None and control_name.startswith("pixels") else {}
    blind = None if control_name is None else bank_of(control_name, **own, **any_size)
    fields = settings or {}
    results = []
    for probe in probes:
        say(f"decomposing with the {probe} probe")
        results.append(
            decompose(
                bank,
                supervised=twin,
                control=blind,
                name=str(bank.header["encoder"]),
                settings=Settings(probe=probe, **fields),  # type: ignore[arg-type]
                progress=lambda step: None,
            )
        )
    used = {"encoder": bank, "supervised": twin, "control": blind}
    provenance = Provenance(
        encoder=str(bank.header["encoder"]),
        data=str(bank.header["data_name"]),
        supervised=twin_name,
        control=control_name,
        pretraining_data=bank.header.get("pretraining_data"),
        saw_training_images=_saw(bank.header.get("pretraining_data"), str(bank.header["data_name"])),
        banks={role: {"path": str(b.path), **_facts(b)} for role, b in used.items() if b is not None},
        notes=tuple(bank.header.get("data_notes") or ()),
    )
    return results, provenance


def _facts(bank: "FeatureBank") -> dict[str, Any]:
    keys = ("encoder", "weights_hash", "feature", "precision", "data", "data_fingerprint", "versions")
    return {key: bank.header.get(key) for key in keys} | {"dtype": bank.dtype, "n_features": bank.n_features}


def _twin(spec: dict[str, Any], bank: "FeatureBank", asked: str, say: Callable[[str], None]) -> str | None:
    if asked == "none":
        return None
    if asked != "auto":
        return asked
    name, labels = spec.get("supervised_twin"), spec.get("twin_labels")
    if name is None or not _saw(labels, str(bank.header["data_name"])):
        return None
    from ssl_risk_rs.encoders import describe_encoder

    try:
        describe_encoder(name)
    except SslRiskError as error:
        say(f"no supervised twin: {error}")
        return None
    return str(name)


def _control(spec: dict[str, Any], data: str, asked: str) -> str | None:
    if asked == "none":
        return None
    if asked != "auto":
        return asked
    if not data.startswith(CHEAP_DATA):
        return None
    random_twin = spec.get("random_twin")
    return random_twin if random_twin and spec.get("source") == "bundled" else PIXELS


def _saw(pretraining: str | None, data_name: str) -> bool | None:
    """Whether data of one name holds data of another, as far as names tell."""
    if not pretraining:
        return None
    mine, theirs = (re.sub(r"[^a-z0-9]", "", name.lower()) for name in (data_name, pretraining))
    return bool(mine) and (theirs.startswith(mine) or mine.startswith(theirs))

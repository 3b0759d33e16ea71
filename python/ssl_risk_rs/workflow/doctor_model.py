"""Whether an encoder is fit to be judged: in eval mode, deterministic, each image for itself, prepared as the catalogue
says, the same as before, and what half precision costs."""

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ssl_risk_rs.decomposition.decomposing import decompose
from ssl_risk_rs.decomposition.paired import compare
from ssl_risk_rs.encoders import create_encoder
from ssl_risk_rs.encoders.golden import (
    IMAGES_DIGEST,
    GoldenFacts,
    golden_path,
    images_digest,
    read_golden,
    write_golden,
)
from ssl_risk_rs.encoders.names import parse_name
from ssl_risk_rs.encoders.sources import check_name
from ssl_risk_rs.events import Report, once, torch_is_loading
from ssl_risk_rs.extraction.cached import ensure_banks
from ssl_risk_rs.extraction.facts import library_versions
from ssl_risk_rs.extraction.settings import Encoding
from ssl_risk_rs.report.numbers import rounded
from ssl_risk_rs.workflow.doctor import Finding

if TYPE_CHECKING:
    from ssl_risk_rs.encoders import Encoder
    from ssl_risk_rs.encoders.examine import Behaviour, Prepared

__all__ = ["autocast_finding", "examine_encoder", "examine_model"]

#: largest difference of features, relative to the largest, that float32 sums in another order make: of two equal
#: passes, of batches of another size or order (other kernels are chosen), of another machine or release
REPEATED, BATCH, GOLDEN = 1e-6, 1e-4, 1e-4
#: measured means and standard deviations are of float32 pixels
NORM = 1e-4
#: grey levels of 255 that rounding of float32 pixels makes
LEVELS = 1e-3
#: drift of the aggregated risk, in points, below which half precision is harmless whatever its interval
DRIFT = 0.1


def examine_model(
    model: str,
    data: str | None = None,
    *,
    store: "Path | str | None" = None,
    encoding: Encoding | None = None,
    say: Callable[[str], None] = lambda _: None,
    report: Report | None = None,
) -> Iterator[Finding]:
    """Build an encoder and examine it; with data, measure in risk points what half precision changes.

    Parameters
    ----------
    model, data : names, as `create_encoder` and `create_dataset` take them
    encoding : which images, and how

    Raises
    ------
    Those of `create_encoder` and of `ensure_banks`.
    """
    check_name(model)
    say(f"{model} is built and examined{torch_is_loading()}")
    encoding = encoding or Encoding()
    encoder = create_encoder(model, img_size=encoding.img_size, progress=say)
    yield from examine_encoder(encoder, img_size=encoding.img_size)
    if data is None:
        yield Finding(
            "half precision", "note", "It was not measured what half precision changes.", "Name data: -d URI."
        )
        return
    yield autocast_finding(model, data, store=store, encoding=encoding, say=say, report=report)


def examine_encoder(encoder: "Encoder", *, img_size: int | None = None) -> Iterator[Finding]:
    """The findings of everything but half precision; `img_size` is the one that was asked for, if any."""
    from ssl_risk_rs.encoders.examine import examine_module, examine_transform

    found = examine_module(encoder)
    seen = [_eval_mode(found), _finite(found)]
    yield from seen
    compared = not found.not_finite
    for check, difference, limit, between, do in (
        ("determinism", found.repeated, REPEATED, "two passes of the same eight images",
         "Dropout or noise is on: turn it off in the module's forward pass."),
        ("batch order", found.order, BATCH, "a batch and the same images in reverse",
         "A feature depends on its neighbours in the batch: pool and normalize each image for itself."),
        ("batch size", found.size, BATCH, "a batch of eight and the images one by one",
         "A feature depends on the batch: look for BatchNorm in training mode, or a mean over images."),
    ):  # fmt: skip
        seen.append(_alike(check, difference, limit, between, do) if compared else _not_compared(check))
        yield seen[-1]
    yield _transform(encoder, examine_transform(encoder))
    name = encoder.spec.name if img_size is None else f"{encoder.spec.name} at {img_size}"
    yield _golden(encoder, found, golden_path(name), sound=all(finding.status != "fault" for finding in seen))


def _eval_mode(found: "Behaviour") -> Finding:
    values: dict[str, int | float | str] = {"training": len(found.training), "changed": len(found.changed)}
    if not found.training and not found.changed:
        return Finding(
            "eval mode", "ok", "Every module is in eval mode, and no tensor of its state is changed by a pass.",
            values=values,
        )  # fmt: skip
    parts = []
    if found.training:
        parts.append(f"{len(found.training)} modules are in training mode")
    if found.changed:
        parts.append(f"a pass changes {len(found.changed)} tensors of the state")
    return Finding(
        "eval mode", "fault", f"{' and '.join(parts)}.".capitalize(),
        "Let the module's train(False) reach all of its parts; BatchNorm must use its stored statistics.",
        values, (*found.training, *found.changed),
    )  # fmt: skip


def _finite(found: "Behaviour") -> Finding:
    if not found.not_finite:
        return Finding("finite features", "ok", "The features of eight images are finite.")
    images = ", ".join(str(image + 1) for image in found.not_finite)
    return Finding(
        "finite features", "fault",
        f"Features of {len(found.not_finite)} of eight images are NaN or infinite (number {images}).",
        "Look for a division by zero, or a logarithm or root of what can be negative, in the forward pass, and for NaN "
        "in the weights.", {"not_finite": len(found.not_finite)},
    )  # fmt: skip


def _not_compared(check: str) -> Finding:
    return Finding(check, "note", "It was not measured: features are NaN or infinite.", "Mend that first.")


def _alike(check: str, difference: float, limit: float, between: str, do: str) -> Finding:
    passed = difference <= limit
    return Finding(
        check,
        "ok" if passed else "fault",
        f"The features of {between} differ by {difference:.1e} of the largest (limit {limit:.0e})."
        if difference < float("inf")
        else f"The features of {between} cannot be compared: the module fails, or gives no numbers.",
        "" if passed else do,
        {"difference": difference, "limit": limit},
    )


def _transform(encoder: "Encoder", found: "Prepared") -> Finding:
    spec = encoder.spec
    said = f"mean {_list(found.mean)}, std {_list(found.std)}, {' × '.join(map(str, found.shape))}"
    values: dict[str, int | float | str] = {"mean": _list(found.mean), "std": _list(found.std)}
    if found.levels is not None:
        values["grey_levels"] = found.levels
    if parse_name(spec.name).code is not None:
        from ssl_risk_rs.encoders.transforms import Preprocess

        whose = "Your own transform"
        if isinstance(encoder.transform, Preprocess):
            asked = parse_name(spec.name).options
            whose = "Your code gives no transform, so " + ("that of its name" if asked else "ImageNet's usual one")
        return Finding(
            "transform", "note", f"{whose} gives the network images of {said}.",
            "Compare these with what its authors used.", values,
        )  # fmt: skip
    wrong = []
    for what, measured, stated in (("mean", found.mean, spec.mean), ("std", found.std, spec.std)):
        if len(measured) != len(stated) or not np.allclose(measured, stated, rtol=0, atol=NORM):
            wrong.append(f"{what} is {_list(measured)} and not {_list(stated)}")
    if spec.img_size is not None and found.shape != (spec.channels, spec.img_size, spec.img_size):
        wrong.append(f"images are {' × '.join(map(str, found.shape))} and not {spec.img_size} pixels wide")
    if found.levels is not None and found.levels > LEVELS:
        wrong.append(f"pixels differ from the catalogue's by up to {found.levels:.2f} grey levels")
    if wrong:
        return Finding(
            "transform", "fault", f"The transform is not the one of its description: {'; '.join(wrong)}.",
            "Take the transform of the encoder's own name, or say how images are prepared: ?mean=…&std=…&resize=….",
            values,
        )  # fmt: skip
    against = "bit for bit that of the catalogue" if found.levels == 0 else "the one of its description"
    return Finding("transform", "ok", f"The transform is {against}: {said}.", values=values)


def _golden(encoder: "Encoder", found: "Behaviour", path: Path, *, sound: bool) -> Finding:
    """Features of the golden images beside those that were stored at first in the file; those of an encoder with a
    fault, which nothing could be compared with, are not stored."""
    check = "golden vectors"
    if (digest := images_digest()) != IMAGES_DIGEST:
        return Finding(check, "fault", "The golden images are drawn otherwise than by the release that knows them.",
                       "Try another release of numpy or Pillow.", {"images": digest})  # fmt: skip
    facts = GoldenFacts(
        encoder.spec.name, encoder.weights_hash, encoder.code_hash, digest, found.pixels, time.strftime("%Y-%m-%d"),
        library_versions(),
    )  # fmt: skip
    stored = read_golden(path)
    if stored is None and not sound:
        return Finding(
            check, "note", "The features of eight images are not stored: a check above found a fault.",
            "Mend it first.",
        )  # fmt: skip
    if stored is None:
        write_golden(path, facts, found.features)
        return Finding(
            check, "ok", "The features of eight images are stored, to be compared from now on.",
            values={"path": str(path), "weights_hash": facts.weights_hash},
        )  # fmt: skip
    before, features = stored
    anew = f"If that is as it should be, delete {path}: the next call stores the new ones."
    values: dict[str, int | float | str] = {"path": str(path), "date": before.date}
    if before.weights_hash != facts.weights_hash:
        return Finding(check, "fault", f"The weights are not those of {before.date}.", anew, values)
    if features.keys() != found.features.keys():
        then, now = ", ".join(features), ", ".join(found.features)
        return Finding(check, "fault", f"The features were {then} on {before.date}, and are {now} now.", anew, values)
    apart = max(_apart(features[name], value) for name, value in found.features.items())
    values |= {"difference": apart, "limit": GOLDEN}
    moved = [
        f"{k} {before.versions.get(k, 'absent')} → {v}"
        for k, v in facts.versions.items()
        if before.versions.get(k) != v
    ]
    since = f" Since then these libraries changed: {', '.join(moved)}." if moved else ""
    if apart > GOLDEN:
        cause = "" if before.pixels == facts.pixels else " The network sees other pixels."
        text = f"The features of eight images differ from those of {before.date} by {apart:.1e} of the largest."
        return Finding(check, "fault", f"{text}{cause}{since}", anew, values)
    return Finding(check, "ok", f"The features of eight images are those of {before.date} ({apart:.1e} apart).{since}",
                   values=values)  # fmt: skip


def _apart(stored: np.ndarray, now: np.ndarray) -> float:
    if stored.shape != now.shape:
        return float("inf")
    found = float(np.abs(stored - now).max() / max(float(np.abs(stored).max()), 1e-30))
    return found if found == found else float("inf")


def _list(values: tuple[float, ...]) -> str:
    return ",".join(f"{value:.4g}" for value in values)


def autocast_finding(
    model: str,
    data: str,
    *,
    store: "Path | str | None",
    encoding: Encoding,
    say: Callable[[str], None],
    report: Report | None,
) -> Finding:
    """What products in bfloat16 change: the aggregated risk of a ridge probe, paired by row."""
    say_once = once(say)  # both banks are of the same images
    runs = []
    for amp in ("off", "bf16"):
        asked = replace(encoding, settings=replace(encoding.settings, amp=amp))
        (bank, *_) = ensure_banks(model, data, asked, store=store, say=say_once, progress=report).values()
        runs.append(decompose(bank, probe="ridge", overlap="warn", name=amp, report=report))
    d = compare(runs, names=["float32", "bfloat16"]).difference("bfloat16", "agg_risk")
    drift, low, high = 100 * d.difference, 100 * d.low, 100 * d.high
    significant = low > 0 or high < 0
    fault = significant and abs(drift) >= DRIFT
    return Finding(
        "half precision",
        "fault" if fault else "ok",
        f"Products in bfloat16 move the aggregated risk of a ridge probe by {rounded(drift):+.2f} points "
        f"([{rounded(low):.2f}, {rounded(high):.2f}], {d.discordant} of {d.n:,} test rows are judged otherwise).",
        "Encode in float32: --amp off." if fault else "",
        {"drift_points": drift, "low_points": low, "high_points": high, "discordant": d.discordant, "test_rows": d.n},
    )

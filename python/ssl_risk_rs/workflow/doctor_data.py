"""Whether a data set is what a run needs: labels, parts, groups, and every image or a sample of them."""

import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from ssl_risk_rs._names import counted
from ssl_risk_rs.datasets import ImageDataset, find_duplicates
from ssl_risk_rs.datasets.sources import GROUP
from ssl_risk_rs.encoders import create_encoder
from ssl_risk_rs.errors import DataError, ParameterError, SslRiskError
from ssl_risk_rs.events import Event, Report
from ssl_risk_rs.workflow.before import checker
from ssl_risk_rs.workflow.doctor import Finding
from ssl_risk_rs.workflow.question import Question

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["check_data", "examine_data"]

#: images that are named of a set of equal ones
NAMED = 5

#: images a thread decodes at a time
CHUNK = 64

#: images of the sample that `doctor data` decodes, spread over the rows; and those that go through a transform
SAMPLE, TRANSFORMED = 256, 16

#: from here on the largest class is called many times the smallest, and a class small
IMBALANCE, FEW = 10, 5


@dataclass(slots=True)
class _Decoded:
    """What decoding some rows has shown."""

    rows: Sequence[int]
    sizes: list[tuple[int, int]] = field(default_factory=list)
    modes: Counter[str] = field(default_factory=Counter)
    corrupt: list[str] = field(default_factory=list)
    n_oriented: int = 0
    seconds: float = 0.0

    def add(self, other: "_Decoded") -> None:
        self.sizes += other.sizes
        self.modes += other.modes
        self.corrupt += other.corrupt
        self.n_oriented += other.n_oriented
        self.seconds += other.seconds


def check_data(
    dataset: ImageDataset, *, group: str | None = None, workers: int = 1, report: Report = lambda _: None
) -> list[Finding]:
    """Look at every image and every row of a data set.

    Parameters
    ----------
    group : column of groups that must not be on both sides; default: `group`, where the data have it
    workers : threads that decode
    """
    rows = range(len(dataset))
    decoded = _decode(dataset, rows, workers, lambda done: report(Event("scan", done, len(rows))))
    same = find_duplicates(dataset, progress=lambda done: report(Event("compare", done, len(rows))))
    return [
        *_row_findings(dataset, group),
        *_image_findings(decoded),
        *_duplicate_findings(dataset, same),
    ]


def examine_data(
    dataset: ImageDataset,
    *,
    group: str | None = None,
    model: str | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> list[Finding]:
    """Look at the rows of a data set and at a sample of its images, and measure how fast they decode.

    Parameters
    ----------
    model : name of an encoder whose transform some of the images go through
    say : receives sentences while the encoder is built
    """
    n = len(dataset)
    rows = np.unique(np.linspace(0, n - 1, min(SAMPLE, n)).round().astype(np.int64)).tolist()
    _decode(dataset, rows[:1], 1)  # the first image loads the decoder
    decoded = _decode(dataset, rows, 1)
    found = [*_row_findings(dataset, group), *_image_findings(decoded, n)]
    if decoded.sizes:
        found.append(_speed_finding(decoded, n))
        if model is not None:
            found.append(_transform_finding(dataset, model, rows, say))
    return found


def _speed_finding(decoded: "_Decoded", n: int) -> Finding:
    """How fast the images of a sample that can be decoded are."""
    n_decoded, seconds = len(decoded.sizes), max(decoded.seconds, 1e-9)
    pixels = sum(width * height for width, height in decoded.sizes)
    rate = n_decoded / seconds
    return Finding(
        "decoding", "ok",
        f"{rate:,.0f} images/s ({pixels / 1e6 / seconds:,.0f} megapixels/s) in one thread; all "
        f"{counted(n, 'image')} take one thread {_duration(n / rate)}",
        values={"images_per_second": rate, "n_decoded": n_decoded},
    )  # fmt: skip


def _decode(
    dataset: ImageDataset, rows: Sequence[int], workers: int, tell: Callable[[int], None] = lambda _: None
) -> _Decoded:
    """Decode rows by threads: Pillow lets go of the interpreter while it decodes."""

    def some(chunk: Sequence[int]) -> _Decoded:
        found = _Decoded(chunk)
        clock = time.perf_counter()
        for row in chunk:
            try:
                picture = dataset.picture(row)
            except SslRiskError as error:  # a sentence
                found.corrupt.append(f"{dataset.where(row)}: {error}")
            except Exception as error:  # decoders raise almost anything on a damaged file
                found.corrupt.append(f"{dataset.where(row)}: {type(error).__name__}: {error}")
            else:
                found.sizes.append(picture.image.size)
                found.modes[picture.mode or picture.image.mode] += 1
                found.n_oriented += picture.orientation != 1
        found.seconds = time.perf_counter() - clock
        return found

    whole = _Decoded(rows)
    done = 0
    with ThreadPoolExecutor(max(workers, 1), thread_name_prefix="check") as pool:
        for part in pool.map(some, (rows[i : i + CHUNK] for i in range(0, len(rows), CHUNK))):
            whole.add(part)
            done += len(part.rows)
            tell(done)
    return whole


def _row_findings(dataset: ImageDataset, group: str | None) -> list[Finding]:
    """What labels, parts and groups say, and whether a run would refuse them: by the check that it makes itself, of all
    rows."""
    found = [*_label_findings(dataset), *_group_findings(dataset, group)]
    if any(finding.status == "fault" for finding in found):  # said already
        return found
    try:
        checker(Question(group=group)).images(dataset.unlimited())
    except (DataError, ParameterError) as error:
        return [*found, Finding("run", "fault", f"a run refuses these rows: {error}")]
    return [*found, Finding("run", "ok", "a run takes these labels, parts and ids")]


def _label_findings(dataset: ImageDataset) -> list[Finding]:
    samples, names = dataset.samples, dataset.class_names
    is_test = (samples["split"] == "test").to_numpy()
    labels = samples["label"].to_numpy()
    train = np.bincount(labels[~is_test], minlength=len(names))
    test = np.bincount(labels[is_test], minlength=len(names))
    n_train, n_test = int(train.sum()), int(test.sum())
    rows: dict[str, int | float | str] = {"train": n_train, "test": n_test, "classes": len(names)}
    if not n_train or not n_test:
        empty = Finding("rows", "fault", f"{n_train:,} train + {n_test:,} test images", "both parts need images", rows)
        return [empty]
    found = [Finding("rows", "ok", f"{n_train:,} train + {n_test:,} test images, {len(names):,} classes", values=rows)]
    present = np.flatnonzero(train)
    least, most = present[np.argmin(train[present])], int(np.argmax(train))
    ratio = float(train[most] / train[least])
    uneven, few = ratio >= IMBALANCE, bool(train[least] < FEW)
    found.append(
        Finding(
            "class sizes", "note" if uneven or few else "ok",
            f"{train[least]:,} ({names[least]}) to {train[most]:,} ({names[most]}) train images, ratio {ratio:.3g}",
            "classes are weighted by their size; --limit N/class evens them out" if uneven else "",
            {"smallest_class": int(train[least]), "largest_class": int(train[most]), "imbalance": ratio},
        )
    )  # fmt: skip
    for part, sizes in (("train", train), ("test", test)):
        empty_classes = [names[code] for code in np.flatnonzero(sizes == 0)]
        if empty_classes:
            found.append(
                Finding(
                    "empty classes", "note", f"{len(empty_classes):,} of {len(names):,} classes have no {part} image",
                    values={f"classes_without_{part}": len(empty_classes)}, examples=empty_classes,
                )
            )  # fmt: skip
    return found


def _group_findings(dataset: ImageDataset, group: str | None) -> list[Finding]:
    samples = dataset.samples
    column = group or (GROUP if GROUP in samples.columns else None)
    if column is None:
        return []
    sides = [set(samples.filter(samples["split"] == part)[column].to_list()) for part in ("train", "test")]
    both, every = sorted(map(str, sides[0] & sides[1])), sides[0] | sides[1]
    found = f"{counted(len(every), 'group')} in column {column!r}, {len(both):,} of them on both sides"
    values: dict[str, int | float | str] = {"groups": len(every), "groups_on_both_sides": len(both)}
    if not both:
        return [Finding("groups", "ok", found, values=values)]
    advice = f"a run with --group {column} refuses them; move each to one side, or give --shared-groups warn"
    return [Finding("groups", "fault", found, advice, values, both)]


def _image_findings(decoded: _Decoded, of: int | None = None) -> list[Finding]:
    n, corrupt = len(decoded.rows), decoded.corrupt
    what = counted(n, "image") if of is None else f"a sample of {n:,} of {counted(of, 'image')}"
    found = [
        Finding(
            "decoding" if of is None else "sample", "fault" if corrupt else "ok",
            f"{what} decoded" + (f", of which {len(corrupt):,} cannot be" if corrupt else ""),
            "repair them, or leave them out with --skip-corrupt" if corrupt else "",
            {"decoded": n - len(corrupt), "corrupt": len(corrupt)}, corrupt,
        )
    ]  # fmt: skip
    if decoded.sizes:
        sizes = sorted(decoded.sizes, key=lambda size: size[0] * size[1])
        three = [sizes[0], sizes[len(sizes) // 2], sizes[-1]]
        said = [f"{name} {width} x {height}" for name, (width, height) in zip(_THREE, three, strict=True)]
        values: dict[str, int | float | str] = {
            f"{name}_{side}": size[i] for name, size in zip(_THREE, three, strict=True)
            for i, side in enumerate(("width", "height"))
        }  # fmt: skip
        found.append(Finding("pixels", "ok", ", ".join(said), values=values))
        modes = ", ".join(f"{mode} {count:,}" for mode, count in decoded.modes.most_common())
        found.append(Finding("modes", "ok", modes, values=dict(decoded.modes)))
    if decoded.n_oriented:
        found.append(
            Finding(
                "orientation", "note", f"{counted(decoded.n_oriented, 'image')} with another EXIF orientation than the "
                "stored one", "they are used as stored, as torchvision does; --exif-orientation turns them",
                {"oriented": decoded.n_oriented},
            )
        )  # fmt: skip
    return found


_THREE = ("smallest", "median", "largest")


def _duplicate_findings(dataset: ImageDataset, same: Sequence[Sequence[int]]) -> list[Finding]:
    """Exact duplicates within a part, across the parts, and of different classes."""
    test = (dataset.samples["split"] == "test").to_list()
    labels = dataset.samples["label"].to_list()
    across = [rows for rows in same if len({test[row] for row in rows}) == 2]
    within = [rows for rows in same if len({test[row] for row in rows}) == 1]
    n_test = sum(test[row] for rows in across for row in rows)
    n_more = sum(len(rows) - 1 for rows in within)
    conflicts = sum(len({labels[row] for row in rows}) > 1 for rows in same)
    values: dict[str, int | float | str] = {
        "test_images_in_train": n_test, "repeated_within_a_part": n_more, "sets_with_several_labels": conflicts,
    }  # fmt: skip
    if not same:
        return [Finding("duplicates", "ok", "no two images have equal bytes", values=values)]

    def lines(sets: Sequence[Sequence[int]]) -> list[str]:
        return [_equal(dataset, rows) for rows in sets]

    found = []
    if across:
        found.append(
            Finding(
                "duplicates", "fault", f"{counted(n_test, 'test image')} with the bytes of a training image",
                "the test error is too low by what they add; remove them from one part", values, lines(across),
            )
        )  # fmt: skip
    if within:
        repeats = counted(n_more, "image") + (" repeats another" if n_more == 1 else " repeat another")
        found.append(Finding("duplicates", "note", f"{repeats} of the same part", "", values, lines(within)))
    if conflicts:
        sets = counted(conflicts, "set")
        found.append(
            Finding("labels", "note", f"{sets} of equal images with different labels", "correct the labels", values)
        )
    return found


def _equal(dataset: ImageDataset, rows: Sequence[int]) -> str:
    """A set of equal images on a line: of a placeholder that stands for thousands, the first few."""
    named = " = ".join(dataset.where(row) for row in rows[:NAMED])
    more = len(rows) - NAMED
    return named if more <= 0 else f"{named} = {more:,} more"


def _transform_finding(dataset: ImageDataset, model: str, rows: Sequence[int], say: Callable[[str], None]) -> Finding:
    """What an encoder's transform makes of some of the images."""
    encoder = create_encoder(model, progress=say)
    images: list[Image] = []
    for row in rows:
        try:
            images.append(dataset.load(row))
        except Exception:  # counted among the corrupt ones
            continue
        if len(images) == TRANSFORMED:
            break
    shapes: Counter[tuple[int, ...]] = Counter()
    clock = time.perf_counter()
    for image in images:
        try:
            shapes[tuple(encoder.transform(image).shape)] += 1
        except Exception as error:  # a transform may be the user's own
            return Finding("transform", "fault", f"{model} fails on an image of {image.size}: {error}", "correct it")
    seconds = (time.perf_counter() - clock) / max(len(images), 1)
    said = ", ".join(" x ".join(map(str, shape)) for shape in shapes)
    values: dict[str, int | float | str] = {"transform_seconds": seconds, "shapes": len(shapes)}
    if len(shapes) > 1:
        return Finding(
            "transform", "fault", f"{model} makes inputs of different sizes: {said}", "set --img-size", values
        )
    return Finding("transform", "ok", f"{model} makes inputs of {said}, {1000 * seconds:.1f} ms each", values=values)


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"

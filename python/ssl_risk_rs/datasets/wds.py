"""Images in tar shards, as webdataset lays them out: `KEY.jpg` beside `KEY.cls`."""

import io
import itertools
import math
import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from glob import escape, glob
from pathlib import Path

import numpy as np

from ssl_risk_rs._identity import DataIdentity
from ssl_risk_rs._labels import encode_labels, has_unlabelled
from ssl_risk_rs._limits import whole_number
from ssl_risk_rs._names import counted
from ssl_risk_rs.datasets.pixels import IMAGE_SUFFIXES, open_picture
from ssl_risk_rs.datasets.sources import DataFile, Listing, Picture, some, split_options, text
from ssl_risk_rs.datasets.tar_index import LABELS, ShardIndex, index_of
from ssl_risk_rs.errors import DataError, SslRiskError

__all__ = ["WdsSource", "expand"]

#: last bytes of an image that are looked at before all of it is
TAIL = 64

#: threads that read indexes: they wait for the disk
THREADS = 4

#: the only wildcard: a question mark begins options
_STAR = "*"

_RANGE = re.compile(r"(\d+)\.\.(\d+)")
_BRACES = re.compile(r"\{([^}]*)\}")

#: shards of a pattern: the largest public sets have some hundred thousand
MOST_SHARDS = 1_000_000


@dataclass(frozen=True, slots=True)
class _Samples:
    """Where the bytes of each image of the listing are: a shard's number, offset and size in it."""

    shard: np.ndarray
    offset: np.ndarray
    size: np.ndarray
    listing: Listing
    class_names: list[str]


class WdsSource:
    """`wds:TRAIN[,TEST]` or `wds:TRAIN?test=TEST`, patterns of tar files: `/data/train-{000..099}.tar`.

    Patterns hold ranges `{000..099}`, choices `{a,b}` and `*`. A sample is the files of one key, the
    name up to the first dot of its last part: an image, and a label as `.cls` (a number), `.json` (its field `label`,
    `cls` or `class`) or `.txt`. Ids of samples are `train/KEY` and `test/KEY`, or `all/KEY` without a test pattern;
    where a key occurs in several shards of a part, the shard's name stands before it.

    Shards are read in place by offset; nothing is unpacked, so that the names in them are only names.
    """

    scheme = "wds"
    wanted = "tar files, such as wds:/data/train-{000..099}.tar,/data/val-{00..09}.tar"

    def __init__(self, location: str) -> None:
        place, options = split_options(location)
        patterns = [pattern for pattern in _split_at_commas(place) if pattern]
        test = options.pop("test", None)
        if test:
            patterns.append(test)
        if options or test == "" or not 1 <= len(patterns) <= 2:
            raise DataError(
                f"wds:{location}: write one pattern, or two for the training and the test shards, divided by a comma "
                "or as ?test=PATTERN; braces hold further commas"
            )
        first = Path(patterns[0]).expanduser()
        folder = first.absolute().parent
        patterns = [str(folder / Path(pattern).expanduser()) if os.sep not in pattern else
                    str(Path(pattern).expanduser().absolute()) for pattern in patterns]  # fmt: skip
        self.location = ",".join(patterns)
        self.parts = [_shards(pattern) for pattern in patterns]
        if not all(self.parts):
            raise DataError(f"wds:{self.location} names no shard; give {self.wanted}")
        if len(self.parts) == 2 and (shared := set(self.parts[0]) & set(self.parts[1])):
            raise DataError(
                f"wds:{self.location}: {counted(len(shared), 'shard')} in both parts: {some(sorted(map(str, shared)))}"
            )
        self.shards = [shard for part in self.parts for shard in part]
        self.name = re.sub(r"[^A-Za-z0-9]+$", "", first.name.split("{")[0].split("*")[0].removesuffix(".tar")) or "wds"
        if self.name in ("train", "training"):
            self.name = folder.name or self.name
        self._notes: list[str] = []
        self._loaded: _Samples | None = None

    def class_names(self) -> list[str]:
        return self._samples().class_names

    def listing(self) -> Listing:
        return self._samples().listing

    def notes(self) -> list[str]:
        self._samples()
        return list(self._notes)

    def identity(self) -> DataIdentity:
        return DataIdentity(self.name)

    def files(self) -> Iterator[DataFile]:
        for number, part in enumerate(self.parts):
            for shard in part:
                yield DataFile(f"{number}/{shard.name}", shard)

    def content(self, index: int) -> bytes:
        samples = self._samples()
        shard = self.shards[samples.shard[index]]
        with shard.open("rb") as file:
            file.seek(int(samples.offset[index]))
            found: bytes = file.read(int(samples.size[index]))
        if len(found) != samples.size[index]:
            raise DataError(f"{shard} has become shorter since its index was made; copy the shard again")
        return found

    def glance(self, index: int) -> bytes:
        """Size and last bytes of an image, where compressed pixels are."""
        samples = self._samples()
        size = int(samples.size[index])
        with self.shards[samples.shard[index]].open("rb", buffering=0) as file:
            file.seek(int(samples.offset[index]) + max(size - TAIL, 0))
            end: bytes = file.read(min(size, TAIL))
        return b"%d " % size + end

    def load(self, index: int) -> Picture:
        return open_picture(io.BytesIO(self.content(index)))

    def _samples(self) -> _Samples:
        if self._loaded is None:
            indexes = self._indexes()
            names = ["train", "test"] if len(self.parts) == 2 else ["all"]
            part_of = np.repeat(np.arange(len(self.parts)), [len(part) for part in self.parts]).tolist()
            keys: list[tuple[int, int, bytes]] = []  # part, shard, key
            labels: list[str] = []
            offsets, sizes = [], []
            faults: dict[str, list[str]] = {}
            for number, index in enumerate(indexes):
                images = []
                for key, image, label, fault in _grouped(index):
                    if fault:
                        faults.setdefault(fault, []).append(f"{text(key)} in {self.shards[number].name}")
                        continue
                    keys.append((part_of[number], number, key))
                    labels.append(label)
                    images.append(image)
                offsets.append(index.offset[images])
                sizes.append(index.size[images])
            if has_unlabelled(set(labels)):
                faults["with label -1, which stands for none"] = [
                    f"{text(key)} in {self.shards[number].name}"
                    for (_, number, key), label in zip(keys, labels, strict=True) if label == "-1"
                ]  # fmt: skip
            self._refuse(faults, len(keys))
            n_special = sum(int(index.n_special[0]) for index in indexes)
            if n_special:
                self._notes.append(f"{counted(n_special, 'link')} or special files in the shards are not used")
            shard = np.array([number for _, number, _ in keys], np.int64)
            encoded = encode_labels({"all": np.array(labels)}, where=f"wds:{self.location}: the labels")
            codes = encoded.codes["all"]
            n_train = sum(part == 0 for part, _, _ in keys) if len(self.parts) == 2 else None
            listing = Listing(np.array(self._ids(keys, names)), codes, n_train)
            class_names = encoded.class_names or [str(code) for code in range(int(codes.max()) + 1)]
            self._loaded = _Samples(shard, np.concatenate(offsets), np.concatenate(sizes), listing, class_names)
        return self._loaded

    def _indexes(self) -> list[ShardIndex]:
        """The index of every shard; DataError that names all shards without one."""

        def index(shard: Path) -> "ShardIndex | SslRiskError":
            try:
                return index_of(shard)
            except SslRiskError as error:
                return error

        with ThreadPoolExecutor(THREADS, thread_name_prefix="index") as pool:
            found = list(pool.map(index, self.shards))
        wrong = [each for each in found if isinstance(each, SslRiskError)]
        if wrong:
            more = f"\n… and {len(wrong) - 5:,} more" if len(wrong) > 5 else ""
            what = f"{counted(len(wrong), 'shard')} of {len(found):,} cannot be used:\n"
            raise DataError(what + "\n".join(str(error) for error in wrong[:5]) + more)
        return [each for each in found if isinstance(each, ShardIndex)]

    def _refuse(self, faults: dict[str, list[str]], n: int) -> None:
        if faults:
            said = "; ".join(f"{counted(len(keys), 'sample')} {fault}: {some(keys)}" for fault, keys in faults.items())
            raise DataError(f"wds:{self.location}: {said}. A sample is an image and a label, KEY.jpg and KEY.cls")
        if not n:
            raise DataError(f"wds:{self.location}: the shards hold no image; give {self.wanted}")

    def _ids(self, keys: Sequence[tuple[int, int, bytes]], names: list[str]) -> list[bytes]:
        """Id of each sample: its part and key, behind the shard's name where keys repeat."""
        ids = [f"{names[part]}/".encode() + key for part, _, key in keys]
        repeated = sum(count - 1 for count in Counter(ids).values())
        if not repeated:
            return ids
        self._notes.append(
            f"{counted(repeated, 'key')} of {len(ids):,} occur in several shards: ids of samples hold the shard's name"
        )
        ids = [
            f"{names[part]}/{self.shards[shard].name.removesuffix('.tar')}/".encode(errors="surrogateescape") + key
            for part, shard, key in keys
        ]
        twice = [text(name) for name, count in Counter(ids).items() if count > 1]
        if twice:
            raise DataError(f"wds:{self.location}: {counted(len(twice), 'key')} occur twice in a shard: {some(twice)}")
        return ids


def _grouped(index: ShardIndex) -> Iterator[tuple[bytes, int, str, str]]:
    """Each sample of a shard: key, position of its image, its label, and what is wrong with it ("" if nothing).

    Files of one key follow each other, as webdataset wants them too.
    """
    images = {suffix[1:].encode() for suffix in IMAGE_SUFFIXES}
    endings, found = index.ending.tolist(), index.label.tolist()
    label_endings = [ending.encode() for ending in LABELS]
    members = zip(index.key.tolist(), itertools.count(), strict=False)
    for key, run in itertools.groupby(members, key=lambda member: member[0]):
        rows = [row for _, row in run]
        pictures = [row for row in rows if endings[row] in images]
        labels = {endings[row]: found[row] for row in rows if endings[row] in label_endings}
        if not pictures:
            if b"cls" in labels:
                yield key, -1, "", "with a label and no image"
            continue
        label = next((labels[ending] for ending in label_endings if labels.get(ending)), b"").decode()
        fault = "with several images" if len(pictures) > 1 else "" if label else "without label"
        yield key, pictures[0], label, fault


def expand(pattern: str) -> list[str]:
    """`a-{00..02}.{x,y}` → a-00.x, a-00.y, a-01.x, …, as a shell expands braces.

    Raises
    ------
    DataError for a pattern of more than `MOST_SHARDS` names, or ends of a range that are no usual numbers.
    """
    count = math.prod(map(_n_choices, _BRACES.findall(pattern)))
    if count > MOST_SHARDS:
        raise DataError(
            f"wds:{pattern} names {count:,} shards, more than {MOST_SHARDS:,}; write the range of those that are there"
        )
    return _expanded(pattern)


def _n_choices(inside: str) -> int:
    numbers = _RANGE.fullmatch(inside)
    if numbers is None:
        return inside.count(",") + 1
    first, last = (whole_number(end) for end in numbers.groups())
    if first is None or last is None:
        raise DataError(
            f"wds: {{{inside[:40]}…}} is a range whose ends have more than 18 digits; write the range of those "
            "that are there"
        )
    return max(0, last - first + 1)


def _expanded(pattern: str) -> list[str]:
    start = pattern.find("{")
    end = pattern.find("}", start)
    if start < 0 or end < 0:
        return [pattern]
    inside = pattern[start + 1 : end]
    numbers = _RANGE.fullmatch(inside)
    if numbers is None:
        choices = inside.split(",")
    else:
        first, last = numbers.groups()
        padded = any(len(end) > 1 and end.startswith("0") for end in (first, last))
        width = max(len(first), len(last)) if padded else 0
        choices = [f"{number:0{width}}" for number in range(int(first), int(last) + 1)]
    return [pattern[:start] + choice + rest for choice in choices for rest in _expanded(pattern[end + 1 :])]


def _split_at_commas(location: str) -> list[str]:
    """Parts divided by commas outside braces."""
    return re.split(r",(?![^{}]*\})", location)


def _shards(pattern: str) -> list[Path]:
    """Existing files of a pattern, in its order; DataError that names those that are missing."""
    if os.path.isfile(pattern):  # Path.is_file raises for a pattern that is longer than a name may be
        return [Path(pattern)]
    paths: list[str] = []
    missing: list[str] = []
    for name in expand(pattern):
        found = sorted(glob(_STAR.join(map(escape, name.split(_STAR))))) if _STAR in name else [name]
        present = [path for path in found if os.path.isfile(path)]
        paths += present
        if not present:
            missing.append(name)
    if missing:
        raise DataError(
            f"wds:{pattern}: {counted(len(missing), 'shard')} of {len(missing) + len(paths):,} cannot be found: "
            f"{some(missing)}; give {WdsSource.wanted}"
        )
    return [Path(path) for path in dict.fromkeys(paths)]

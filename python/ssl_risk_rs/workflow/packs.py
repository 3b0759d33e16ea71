"""A pack: run folders, and what their numbers can be computed again from, in one file whose every byte is hashed.

The file is a zip archive of stored members. `manifest.json` names them with their SHA-256; the archive's comment, its
last bytes, is the SHA-256 of all bytes before it. Equal runs give equal packs.
"""

import json
import re
import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from enum import Enum
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from ssl_risk_rs._files import check_outputs, publish, remove_left, sha256_of
from ssl_risk_rs.decomposition.cells import Cells
from ssl_risk_rs.decomposition.task import Task
from ssl_risk_rs.errors import PackError, ResultError, SslRiskError
from ssl_risk_rs.probes.kernel_solver import KernelSolver
from ssl_risk_rs.results._json import from_json
from ssl_risk_rs.results.run import Run
from ssl_risk_rs.workflow.features import Reading, open_features
from ssl_risk_rs.workflow.targets import task_of_run

__all__ = ["Evidence", "Pack", "PackedRun", "hash_of", "open_pack", "tasks_of", "write_pack"]

FORMAT = 1
_COMMENT = b"sha256:"
#: what a member may be called: nothing leads out of the folder that it is unpacked into
_NAME = re.compile(r"manifest\.json|runs/\d+/[A-Za-z0-9_][A-Za-z0-9_.%-]*")
_FOLDER = re.compile(r"runs/\d+")
#: what every run in a pack has
_OWN = ("run.json", "outcomes.npz")
#: dates would make two packs of the same runs differ
_DATE = (1980, 1, 1, 0, 0, 0)


class Evidence(str, Enum):
    """What a pack holds beside run folders, from which numbers can be computed again."""

    #: nothing more: what every probe did on every judged row is in the run folders
    OUTCOMES = "outcomes"
    #: sums of the training rows by cell, and the features of held-out rows: ridge probes can be solved and judged again
    MOMENTS = "moments"
    #: features of all rows: everything can be fitted and judged again
    FEATURES = "features"


@dataclass(frozen=True, slots=True)
class PackedRun:
    """A run in a pack: its folder (`runs/0`), its files' SHA-256 by name, and what it is evidence of."""

    folder: str
    name: str
    encoder: str
    data: str
    evidence: Evidence
    files: Mapping[str, str]
    weights_hash: str | None = None
    data_fingerprint: str | None = None
    licence: str | None = None


@dataclass(frozen=True, slots=True)
class Pack:
    """An open pack, whose hashes hold; `folder` has its files as long as it is open."""

    sha256: str
    runs: tuple[PackedRun, ...]
    created_by: str
    folder: Path = field(repr=False)

    def run(self, packed: PackedRun) -> Run:
        """The run as it was saved.

        Raises
        ------
        PackError if it cannot be read.
        """
        try:
            return Run.load(self.folder / packed.folder)
        except ResultError as error:  # the folder is a temporary one
            said = str(error).replace(f"{self.folder / packed.folder}", packed.folder)
            raise PackError(f"the pack's run {packed.name!r} cannot be read: {said}") from error

    def file(self, packed: PackedRun, name: str) -> Path:
        """One of its files."""
        return self.folder / packed.folder / name


def tasks_of(
    runs: Sequence["str | Path"], features: Sequence[str] = (), store: "str | Path | None" = None
) -> list[Task]:
    """Features and rows of runs: from banks or files in their order, else from the banks that the runs name.

    Raises
    ------
    PackError if a run names no bank; DataError if its bank holds other features now; what opening a bank or file
    raises.
    """
    if features:
        reading = Reading(drop_unlabelled=True, store=store)  # rows are found by their ids
        return [open_features(path, reading).task for path in features]
    found = []
    for folder in map(Path, runs):
        run = Run.load(folder.expanduser())
        if "encoder" not in run.provenance.banks:
            raise PackError(f"{folder} names no feature bank: give its features with --features PATH")
        found.append(task_of_run(run, str(folder)))
    return found


def write_pack(
    runs: Sequence["str | Path"],
    target: "str | Path",
    *,
    evidence: Evidence = Evidence.OUTCOMES,
    tasks: Sequence[Task] = (),
    force: bool = False,
) -> str:
    """Write a pack and return its SHA-256.

    Parameters
    ----------
    runs : run folders of schema version 2
    target : new file; force : replace one that is there
    evidence : what is packed beside the run folders; tasks : the features and rows of each run, in their order

    Raises
    ------
    ResultError if a run cannot be read; PackError if it holds no outcomes, is not of these features, or if the file
    exists; ParameterError as `check_outputs`.
    """
    path = Path(target).expanduser()
    check_outputs([path], force=force, inputs=runs)
    with tempfile.TemporaryDirectory(prefix="ssl-risk-pack-") as scratch:
        files: dict[str, Path] = {}
        packed = []
        for i, folder in enumerate(map(Path, runs)):
            run, place = Run.load(folder.expanduser()), f"runs/{i}"
            _check_outcomes(run, folder)
            own = {file.name: file for file in sorted(folder.expanduser().iterdir()) if file.is_file()}
            if evidence is not Evidence.OUTCOMES:
                extra = Path(scratch) / f"{i}"
                extra.mkdir()
                own |= _evidence(run, folder, tasks[i], evidence, extra)
            hashes = {name: sha256_of(file) for name, file in own.items()}
            if bad := [name for name in own if not _NAME.fullmatch(f"{place}/{name}")]:
                raise PackError(f"{folder} holds {bad[0]!r}, a name that no pack may hold: move that file away")
            files |= {f"{place}/{name}": file for name, file in own.items()}
            bank = run.provenance.banks.get("encoder")
            packed.append(
                PackedRun(
                    place, folder.name, run.provenance.encoder, run.provenance.data, evidence, hashes,
                    *((bank.weights_hash, bank.data_fingerprint, bank.licence) if bank else ()),
                )
            )  # fmt: skip
        document = {
            "format": FORMAT,
            "created_by": f"ssl-risk-rs {version('ssl-risk-rs')}",
            "runs": [{**asdict(p), "evidence": p.evidence.value} for p in packed],
        }
        remove_left(path)  # packs are large
        publish(path, lambda temporary: _write(temporary, document, files))
    return _declared(path)


def _check_outcomes(run: Run, folder: Path) -> None:
    for d in run.decompositions:
        if d.judgements is None:
            raise PackError(
                f"{folder} holds no outcomes of its {d.method.probe} probe (an older release wrote it): run it again"
            )
        if not d.predicts_classes:
            raise PackError(f"{folder} is of a target that is no class; packs hold runs of classes only")


def _evidence(run: Run, folder: Path, task: Task, evidence: Evidence, scratch: Path) -> dict[str, Path]:
    """Files of features or moments of a run, made in `scratch`."""
    judged, sizes = run.decompositions[0].judgements, run.decompositions[0].sizes
    assert judged is not None  # checked before
    if task.features.n_features != sizes.features:
        raise PackError(
            f"{folder} was judged on {sizes.features:,} features, and these are {task.features.n_features:,}: give the "
            "features that the run was made of"
        )
    train = _positions(judged.train_ids, task, task.train_rows, folder)
    test = _positions(judged.test_ids, task, task.test_rows, folder)
    if evidence is Evidence.FEATURES:
        return {"features.npz": _save_rows(task, train, test, scratch)}
    found = {"features.npz": _save_rows(task, train[judged.in_subset], test, scratch)}
    for i, d in enumerate(run.decompositions):
        if d.method.probe == "ridge" and d.method.protocol == "strict":
            found[f"moments_{i}.bin"] = scratch / f"moments_{i}.bin"
            solver = KernelSolver(task.features, n_threads=d.method.n_threads)
            cells, labels = np.zeros(len(task.labels), np.uint8), np.zeros(len(task.labels), np.uint32)
            # by the run's own labels: those of the features may be another column than the run's target
            cells[train], labels[train] = Cells.of(judged, d.sizes.folds).of_row, judged.train_labels
            moments = solver.moments(train, labels, len(judged.class_names), cells=cells)
            moments.save(str(found[f"moments_{i}.bin"]))
    if len(found) == 1:
        raise PackError(f"{folder} has no ridge probe under the strict protocol: moments are evidence of these only")
    return found


def _positions(ids: np.ndarray, task: Task, rows: np.ndarray, folder: Path) -> np.ndarray:
    """Rows of the task in the order of the run's ids, uint32."""
    place = {task.sample_ids[row].encode(): row for row in rows.tolist()}
    found = [place.get(name) for name in ids.tolist()]
    if missing := [name for name, row in zip(ids.tolist(), found, strict=True) if row is None]:
        raise PackError(
            f"{folder} was judged on {missing[0].decode()!r}, which these features do not hold ({len(missing):,} rows "
            "are missing): give the features that the run was made of"
        )
    return np.array(found, np.uint32)


def _save_rows(task: Task, train: np.ndarray, test: np.ndarray, scratch: Path) -> Path:
    arrays = {name: task.features.read(rows) for name, rows in (("train", train), ("test", test))}
    np.savez(scratch / "features.npz", allow_pickle=False, **arrays)
    return scratch / "features.npz"


def _write(path: Path, document: Mapping[str, Any], files: Mapping[str, Path]) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        text = json.dumps(document, indent=1, ensure_ascii=False, sort_keys=True).encode()
        archive.writestr(zipfile.ZipInfo("manifest.json", _DATE), text)
        for name, file in files.items():
            with archive.open(zipfile.ZipInfo(name, _DATE), "w", force_zip64=True) as out, file.open("rb") as source:
                while block := source.read(1 << 22):
                    out.write(block)
        archive.comment = _COMMENT + b"0" * 64
    digest = sha256_of(path, leave=64)
    with path.open("r+b") as written:
        written.seek(-64, 2)
        written.write(digest.encode())


@contextmanager
def open_pack(path: "str | Path") -> Iterator[Pack]:
    """Check every byte of a pack and unpack it into a temporary folder.

    Raises
    ------
    PackError if the file is no pack, was changed or cut off, or a later release wrote it; OSError.
    """
    path = Path(path).expanduser()
    declared = _declared(path)
    if declared != sha256_of(path, leave=64):
        raise PackError(
            f"{path} was changed or damaged after it was written: its bytes do not have the hash it ends with"
        )
    with tempfile.TemporaryDirectory(prefix="ssl-risk-pack-") as scratch:
        folder = Path(scratch)
        try:
            with zipfile.ZipFile(path) as archive:
                _check_members(path, archive.infolist())
                archive.extractall(folder)
                document = json.loads(archive.read("manifest.json"))
            if document["format"] != FORMAT:
                raise PackError(f"{path} has format {document['format']}; this release reads {FORMAT}: upgrade it")
            runs = tuple(from_json(PackedRun, run) for run in document["runs"])
            _check_files(path, folder, runs)
            created_by = str(document["created_by"])
        except (
            zipfile.BadZipFile, zlib.error, AttributeError, KeyError, RuntimeError, TypeError, ValueError
        ) as error:  # fmt: skip
            if isinstance(error, SslRiskError):
                raise
            raise PackError(f"{path} is no pack: {type(error).__name__} {error}") from error
        yield Pack(declared, runs, created_by, folder)


def _check_members(path: Path, members: Sequence[zipfile.ZipInfo]) -> None:
    """Before anything is unpacked: names, and that no member takes more room than it has in the archive."""
    for member in members:
        if not _NAME.fullmatch(member.filename):
            raise PackError(f"{path} holds a file {member.filename!r}, which no pack holds")
        if member.compress_type != zipfile.ZIP_STORED or member.file_size != member.compress_size:
            raise PackError(f"{path}: {member.filename} is compressed; members of a pack are stored as they are")
    if sum(member.file_size for member in members) > path.stat().st_size:  # members that share their bytes
        raise PackError(f"{path} is no pack: its members are larger than the file")


def _check_files(path: Path, folder: Path, runs: Sequence[PackedRun]) -> None:
    """Each run lies in the pack, and whoever writes the last hash anew must write those of the manifest as well."""
    for run in runs:
        if not _FOLDER.fullmatch(run.folder):
            raise PackError(f"{path}: its manifest names a folder {run.folder!r}, which is none of a pack's")
        needed = _OWN if run.evidence is Evidence.OUTCOMES else (*_OWN, "features.npz")
        if missing := [name for name in needed if name not in run.files]:
            raise PackError(f"{path}: its manifest lists no {missing[0]} of {run.folder}: pack the run again")
    listed = {f"{run.folder}/{name}": digest for run in runs for name, digest in run.files.items()}
    there = {f"{file.relative_to(folder)}" for file in folder.rglob("*") if file.is_file()} - {"manifest.json"}
    if there != set(listed):
        raise PackError(f"{path}: its manifest and its files differ in {sorted(there ^ set(listed))[0]!r}")
    for name, digest in listed.items():
        if sha256_of(folder / name) != digest:
            raise PackError(f"{path}: {name} does not have the hash of the manifest")


def _declared(path: Path) -> str:
    with path.open("rb") as file:
        length = len(_COMMENT) + 64
        file.seek(0, 2)
        if file.tell() <= length:
            raise PackError(f"{path} is no pack: it is too short")
        file.seek(-length, 2)
        end = file.read()
    if not re.fullmatch(_COMMENT + rb"[0-9a-f]{64}", end):
        raise PackError(f"{path} is no pack, or its end was changed or cut off: it does not end with its hash")
    return end[len(_COMMENT) :].decode()


def hash_of(text: str) -> str:
    """The hash that a text names, `HEX` or `sha256:HEX`.

    Raises
    ------
    PackError unless it has 64 hexadecimal digits.
    """
    digits = text.strip().lower().removeprefix("sha256:").strip()
    if not re.fullmatch(r"[0-9a-f]{64}", digits):
        raise PackError(f"{text!r} is no SHA-256, which has 64 hexadecimal digits; `pack` prints it")
    return digits

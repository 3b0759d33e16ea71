"""Signatures of the Rust extension."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, final

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "Bank",
    "BankDamage",
    "BankPart",
    "BankVerification",
    "BankWriter",
    "__version__",
]

__version__: str

@final
class Bank:
    """Rows of a feature bank, mapped from disk; a snapshot of the moment it was opened.

    Solvers accept one in place of an array. `FeatureBank` adds samples and header.
    """

    @staticmethod
    def open(path: str | os.PathLike[str]) -> Bank:
        """Open the bank in the folder `path`: check manifest, journals, row indexes and sizes, map payloads.

        Raises
        ------
        BankError if there is no bank, a file is damaged, or a row is there twice.
        """

    @property
    def path(self) -> Path:
        """The folder."""

    @property
    def n_rows(self) -> int:
        """Rows of the complete bank."""

    @property
    def n_features(self) -> int:
        """Features of each row."""

    @property
    def dtype(self) -> Literal["float16", "float32"]:
        """Type of the stored features."""

    @property
    def complete(self) -> bool:
        """Whether every row is there."""

    def missing_rows(self) -> NDArray[np.uint64]:
        """Rows that are not there yet, ascending."""

    def parts(self) -> list[BankPart]:
        """The parts, in storage order."""

    def read(self, rows: NDArray[np.uint64]) -> NDArray[np.float32]:
        """Copy rows, in the order asked for.

        Parameters
        ----------
        rows : uint64 array of shape (m,)

        Returns
        -------
        float32 array of shape (m, n_features)

        Raises
        ------
        BankError if the bank is incomplete or a file has shrunk; ParameterError for a row beyond it.
        """

    def verify(self, progress: Callable[[int], Any] | None = None) -> BankVerification:
        """Read every committed block again and compare it with the hashes of its journal.

        Parameters
        ----------
        progress : called now and then with the number of rows visited, each row once for payload and once
            for index

        Raises
        ------
        BankError for a damaged manifest, header or journal. Damaged blocks are listed in the result.
        """

@final
class BankPart:
    """A part of a bank: `<name>.npy`, `<name>.rows.npy` and `<name>.journal`."""

    @property
    def name(self) -> str:
        """Its name."""

    @property
    def rows(self) -> int:
        """Committed rows, those of the journal."""

    @property
    def blocks(self) -> int:
        """Committed blocks."""

    @property
    def header_behind(self) -> bool:
        """Whether an `.npy` header shows fewer rows than are committed; the part's next writer repairs it."""

    def __eq__(self, other: object, /) -> bool: ...
    def __ne__(self, other: object, /) -> bool: ...

@final
class BankDamage:
    """A block whose bytes are not those that were committed."""

    @property
    def part(self) -> str:
        """Name of the part."""

    @property
    def block(self) -> int:
        """Number of the block in its journal, from 0."""

    @property
    def start(self) -> int:
        """First row of the block in the part's files."""

    @property
    def stop(self) -> int:
        """One past its last row there."""

    @property
    def path(self) -> Path:
        """The damaged file."""

@final
class BankVerification:
    """What `Bank.verify` read, and what it found."""

    @property
    def parts(self) -> int:
        """Parts."""

    @property
    def blocks(self) -> int:
        """Committed blocks."""

    @property
    def rows(self) -> int:
        """Committed rows."""

    @property
    def bytes(self) -> int:
        """Bytes hashed."""

    @property
    def damage(self) -> list[BankDamage]:
        """Damaged blocks; empty for a sound bank."""

@final
class BankWriter:
    """The one writer of a part; a context manager. Safe to share between threads."""

    @staticmethod
    def open(path: str | os.PathLike[str], part: str) -> BankWriter:
        """Open the part `part` of the bank in `path`, or make it. What was committed is kept.

        Raises
        ------
        BankError if the part has a writer already; ParameterError unless the name is 1 to 100 letters,
        digits, `_` and `-`.
        """

    @staticmethod
    def open_free(path: str | os.PathLike[str], prefix: str) -> BankWriter:
        """Open the first of the parts `<prefix>-0`, `<prefix>-1`, … that has no writer."""

    @property
    def part(self) -> str:
        """Name of the part."""

    @property
    def committed(self) -> int:
        """Rows committed in this part."""

    def append(self, rows: NDArray[np.uint64], features: NDArray[np.float16 | np.float32]) -> None:
        """Commit a block: on disk when it returns; when it fails, nothing of it counts.

        Waits for the disk three times: give it a few MB at a time.

        Parameters
        ----------
        rows : uint64 array of shape (m,)
            Row of the bank for each line of `features`.
        features : float16 or float32 array of shape (m, n_features)
            Rounded to the bank's dtype.

        Raises
        ------
        ShapeError; ParameterError for NaN, infinity, more than float16 holds (naming the row), a row beyond
        the bank, or one that is there already; OSError, after which the part must be opened again.
        """

    def close(self) -> None:
        """Bring the `.npy` headers to disk and release the part. A writer that dies loses no block."""

    def __enter__(self) -> BankWriter: ...
    def __exit__(self, *_exception: object) -> None: ...

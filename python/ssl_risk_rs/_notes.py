"""Notes: what was guessed, left out or converted, as a code with values; the sentence is made where it is read."""

from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["Note"]

#: code → sentence; its fields are the values of the note
_TEMPLATES = {
    "cut_made": (
        "{file} does not tell train from test: {n_test:,} of {n:,} rows ({share:.0%} of each class, seed {seed}) "
        "are set aside as test rows."
    ),
    "cut_made_by_group": (
        "{file} does not tell train from test: {n_test:,} of {n:,} rows, in whole groups of {group!r} (about "
        "{share:.0%}, seed {seed}), are set aside as test rows."
    ),
    "columns_not_features": (
        "{file}: the {n_features:,} features are {features}. Columns of numbers that are no features are kept beside "
        "the rows ({count:,}): {columns}."
    ),
    "columns_left_out": "{file} has columns that are not used ({count:,}): {columns}.",
    "arrays_left_out": "{file} has arrays that are not used ({count:,}): {arrays}.",
    "unlabelled_dropped": "{where}: {count:,} of {n:,} rows have no label and are left out.",
    "train_only_classes": "{where}: {count:,} of {n_classes:,} classes have no test row ({examples}).",
    "classes_without_rows": "{where}: {count:,} of {n_classes:,} class names have no row ({examples}).",
    "class_names_nearly_equal": (
        "{where}: {count:,} pairs of classes have names that differ only in blanks, in case or in the way a letter "
        "is encoded ({examples}); they are counted as different classes."
    ),
    "minus_one_is_a_class": "{where}: the labels are -1 and 1; both are taken for classes, none for a missing label.",
}


@dataclass(frozen=True, slots=True)
class Note:
    """Something a reader of the result should know.

    >>> Note("unlabelled_dropped", {"where": "f.npz: y_train", "count": 3, "n": 90}).sentence()
    'f.npz: y_train: 3 of 90 rows have no label and are left out.'
    """

    code: str
    values: Mapping[str, str | int | float] = field(default_factory=dict)

    def sentence(self) -> str:
        """What the note says."""
        return _TEMPLATES[self.code].format(**self.values)

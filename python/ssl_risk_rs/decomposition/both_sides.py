"""What is on both sides of train and test: groups, identifiers, images, and rows that are equal in every feature."""

import numpy as np

from ssl_risk_rs._notes import Note
from ssl_risk_rs.decomposition.repeats import repeated_rows
from ssl_risk_rs.decomposition.task import Task
from ssl_risk_rs.errors import ParameterError
from ssl_risk_rs.probes.parts import PartedFeatures
from ssl_risk_rs.results.record import Overlap

__all__ = ["overlap_of", "repeated", "shared_groups", "shared_ids"]

#: rows of images up to which features are compared although no images have equal bytes: less than a second
COMPARED_ROWS = 200_000


def shared_groups(task: Task) -> list[Note]:
    """Groups that have training and test rows."""
    if task.groups is None:
        return []
    both = np.intersect1d(task.groups[task.train_rows], task.groups[task.test_rows])
    if not len(both):
        return []
    return [Note("shared_groups", {"count": len(both), "example": task.group_names[int(both[0])]})]


def shared_ids(task: Task) -> list[Note]:
    """Identifiers that a training row and a test row have."""
    ids = task.sample_ids
    shared = {ids[row] for row in task.test_rows.tolist()}.intersection(ids[row] for row in task.train_rows.tolist())
    return [Note("shared_ids", {"count": len(shared), "example": min(shared)})] if shared else []


def overlap_of(task: Task, *, refuse: bool) -> tuple[Overlap | None, list[Note]]:
    """Test rows that are training rows too: by the bytes of their images where all these differ, else in every feature,
    since images that are equal may not be among the task's rows; None where this process holds no rows. And notes: on
    training rows that repeat others, of other groups where rows have groups, and on images of other bytes whose
    features are equal, as those of an image that was saved anew are.

    Raises
    ------
    ParameterError for test rows that are equal to a training row in every feature, where they are to be refused.
    """
    by_images = Overlap("images", 0) if task.overlap == 0 else None
    notes = []
    if by_images and task.repeats and task.groups is None:
        notes.append(Note("repeated_training_images", {"count": task.repeats}))
    known = by_images is not None and (task.repeats == 0 or bool(notes))
    n_rows = len(task.train_rows) + len(task.test_rows)
    if isinstance(task.features, PartedFeatures) or (known and n_rows > COMPARED_ROWS):
        return by_images, notes
    repeats = repeated_rows(task.features, task.train_rows, task.test_rows, task.groups)
    if repeats.apart and not known:
        notes.append(Note("repeated_training_rows", {"count": repeats.apart, "total": len(task.train_rows)}))
    count, total = repeats.test, len(task.test_rows)
    if by_images:
        if count:
            notes.append(Note("equal_features", {"count": count, "total": total}))
        return by_images, notes
    if count and refuse:
        raise ParameterError(
            f"{count:,} of {total:,} test rows are equal to a training row in every feature: the test error would "
            "be too low if they are the same images. Remove them, or give --overlap warn"
        )
    return Overlap("features", count), notes


def repeated(overlap: Overlap | None, task: Task) -> list[Note]:
    """The note on test rows that are training rows too, or on why that is not known."""
    if task.overlap:  # of images there is a note, or an error, before any fit
        return []
    if overlap is None:
        return [Note("not_compared")]
    if not overlap.rows:
        return []
    return [Note("repeated_rows", {"count": overlap.rows, "total": len(task.test_rows)})]

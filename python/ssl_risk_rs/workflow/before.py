"""What would be refused once images are encoded, refused before: labels, ids, groups, names and copies tell it."""

import numpy as np

from ssl_risk_rs.bank.samples import groups_of
from ssl_risk_rs.datasets import ImageDataset
from ssl_risk_rs.decomposition.decomposing import check_plan, refuse_overlap
from ssl_risk_rs.decomposition.targets import chosen, retargeted
from ssl_risk_rs.decomposition.task import task_of_rows
from ssl_risk_rs.encoders.sources import check_at_hand
from ssl_risk_rs.extraction.cached import Check
from ssl_risk_rs.probes.features import Features
from ssl_risk_rs.workflow.probes import settings_of
from ssl_risk_rs.workflow.question import Question

__all__ = ["checker"]


def checker(question: Question) -> Check:
    """What complains about a question that cannot be answered of images, once: encoder, twin and control see the same.

    It raises EncoderError for a twin or a control that is not there; DataError and ParameterError as `decompose_task`.
    """
    checked = False

    def check(images: ImageDataset) -> None:
        nonlocal checked
        if not checked:
            _check(question, images)
        checked = True

    return Check(check, lambda n_test: refuse_overlap(n_test, question.settings))


def _check(question: Question, images: ImageDataset) -> None:
    """Look at names, labels, ids and groups; no image is read."""
    for name in (question.supervised, question.control):
        if name not in ("auto", "none"):
            check_at_hand(name)
    columns = list(images.source.listing().columns)
    names = [] if question.target is None else chosen(question.target, columns, images.uri)
    if question.encoding.settings.skip_corrupt:  # which rows there will be is known when all images are decoded
        return
    samples, n = images.samples, len(images)
    rows, is_train = np.arange(n, dtype=np.uint32), (samples["split"] == "train").to_numpy()
    task = task_of_rows(
        Features.of_arrays(np.zeros((n, 1), np.float32)),  # nothing looks at them
        samples["label"].to_numpy(),
        images.class_names,
        (rows[is_train], rows[~is_train]),
        samples["sample_id"].to_list(),
        groups=None if question.group is None else groups_of(samples, question.group),
        where=images.uri,
    )
    if question.target is not None:
        values = {name: np.array(samples[name].to_list(), dtype=object) for name in names}
        task = retargeted(task, values, question.target, drop_unlabelled=question.drop_unlabelled)
    settings, _ = settings_of(question.probes, question.settings)[0]  # where a later probe fails, the first is kept
    check_plan(task, settings)

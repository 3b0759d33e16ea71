"""Edges of rules: ranks and notes of comparisons."""

import math
from types import SimpleNamespace

import numpy as np
from ssl_risk_rs.decomposition.paired import _notes, _ranks
from ssl_risk_rs.results.quantities import QUANTITIES


def test_a_difference_without_an_interval_excludes_no_rank():
    encoders = [SimpleNamespace(value=lambda quantity, v=v: v) for v in (0.1, 0.2)]
    pair = SimpleNamespace(measure=lambda quantity, confidence: SimpleNamespace(p=math.nan, value=0.1))
    ranks = _ranks(encoders, ["a", "b"], {(0, 1): pair}, QUANTITIES["agg_risk"], 0.95)
    assert [(r.rank, r.low, r.high) for r in ranks] == [(1, 1, 2), (2, 1, 2)]


def test_of_several_encoders_the_one_whose_difference_one_group_decides_is_named():
    floor = SimpleNamespace(separable=False)
    chosen = [SimpleNamespace(supervised=False, converged=True, floor=floor, provenance=None, judgements=None)] * 3
    pairs = {
        (0, i): SimpleNamespace(varied=True, largest_share=lambda quantity, of, share=share: share)
        for i, share in ((1, 0.1), (2, 0.9))
    }
    rows = SimpleNamespace(judged=SimpleNamespace(train_ids=np.array([b"a"])), notes=(), grouped=True)
    (note,) = _notes(chosen, chosen, ["a", "b", "c"], rows, pairs)
    assert note.code == "one_group_decides_difference" and note.values == {"encoder": "c", "percent": 90.0}

"""Rows that are equal to others in every feature, and which of them no group keeps together."""

import numpy as np
import pytest
from ssl_risk_rs.decomposition.repeats import repeated_rows
from ssl_risk_rs.probes.features import Features


@pytest.mark.parametrize(
    ("groups", "apart"),
    [("AAA", 0), ("AAB", 1), ("ABB", 2), ("ABA", 2), ("ABC", 2), ("AABA", 2), ("ABABB", 4)],
)
def test_copies_are_apart_from_any_earlier_one_of_another_group(groups, apart):
    rng = np.random.default_rng(0)
    copies = len(groups)
    x = rng.standard_normal((copies + 7, 5)).astype(np.float32)
    x[:copies] = x[0]
    x[copies + 1] = x[copies]  # two of one group
    of_rows = np.array([*map(ord, groups), 1, 1, 2, 3, 4, 5, 6])
    train = np.arange(copies + 5, dtype=np.uint32)
    test = np.arange(copies + 5, copies + 7, dtype=np.uint32)
    found = repeated_rows(Features.of_arrays(x), train, test, of_rows)
    # by the definition: an earlier equal row has another group
    slow = sum(any((x[i] == x[j]).all() and of_rows[i] != of_rows[j] for j in range(i)) for i in train.tolist())
    assert (found.train, found.apart) == (copies, apart) == (copies, slow)

"""The search for a batch size, on a clock of its own."""

import pytest
from ssl_risk_rs.extraction.batches import STEPS, BatchSize


def sizes_tried(rate_of, first=16, most=256, **more) -> list[int]:
    """Sizes in the order of their trial, and the one that is kept."""
    batch = BatchSize(first, most=most, search=True, **more)
    tried = [batch.size]
    while batch.searching:
        for _ in range(STEPS):
            batch.observe(batch.size, batch.size / rate_of(batch.size))
        tried.append(batch.size)
    assert batch.size == batch.best
    return tried


@pytest.mark.parametrize(
    ("rate_of", "expected"),
    [
        (lambda size: 100.0, [16, 32, 8, 16]),  # nothing pays: the first stays
        (lambda size: min(size, 64), [16, 32, 64, 128, 64]),  # larger pays up to 64
        (lambda size: size, [16, 32, 64, 128, 256, 256]),  # up to the largest there is
        (lambda size: 100 / max(size, 4), [16, 32, 8, 4, 2, 4]),  # smaller pays down to 4
        (lambda size: 100 / size, [16, 32, 8, 4, 2, 1, 1]),
    ],
)
def test_the_largest_size_that_pays_is_kept(rate_of, expected):
    assert sizes_tried(rate_of) == expected


def test_a_first_size_beyond_half_of_the_largest_is_not_doubled():
    assert sizes_tried(lambda size: size, first=200) == [200, 100, 200]


def test_first_batch_of_a_size_and_remainders_do_not_count():
    batch = BatchSize(16, most=256, search=True)
    batch.observe(16, 100.0)  # a slow start
    batch.observe(3, 100.0)  # the last batch of a data set
    for _ in range(STEPS - 1):
        batch.observe(16, 1.0)
    assert batch.size == 32 and batch.searching


def test_a_given_size_and_one_that_the_memory_chose_stay():
    batch = BatchSize(16, most=256, search=False)
    for _ in range(10):
        batch.observe(16, 1.0)
    assert batch.size == 16
    batch = BatchSize(16, most=256, search=True)
    batch.settle(4)
    batch.observe(16, 1.0)
    assert batch.size == 4 and not batch.searching

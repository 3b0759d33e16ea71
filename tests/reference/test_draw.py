"""Properties of the rule that draws cells of whole groups."""

import numpy as np
import pytest

from reference.draw import draw


def one_class_groups(n_groups, rows=20, classes=5):
    groups = np.repeat(np.arange(n_groups), rows)
    return groups, groups % classes


def mixed_groups(rng, n_groups, classes=5):
    sizes = rng.integers(5, 40, n_groups)
    groups = np.repeat(np.arange(n_groups), sizes)
    return groups, rng.integers(0, classes, len(groups))


def unequal_classes(rng):
    groups = np.repeat(np.arange(90), rng.integers(2, 30, 90))
    return groups, np.where(groups < 50, 0, np.where(groups < 70, 1, 2))


WORLDS = {
    "150 of one class": one_class_groups(150),
    "40 of one class": one_class_groups(40),
    "20 of one class": one_class_groups(20),
    "150 mixed": mixed_groups(np.random.default_rng(0), 150),
    "40 mixed": mixed_groups(np.random.default_rng(1), 40),
    "unequal": unequal_classes(np.random.default_rng(2)),
}


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("seed", range(3))
def test_whole_groups_and_balanced_subsets(world, seed):
    groups, labels = WORLDS[world]
    got = draw(groups, labels, len(groups) // 15, seed=seed)
    for g in np.unique(groups):
        assert len(set(got.cells[groups == g])) == 1
    assert set(got.cells) == set(range(5 + got.n_subsets))
    assert not got.folds_lack_classes
    for j in range(got.n_subsets):
        assert set(labels[got.cells == 5 + j]) == set(labels), "a subset lacks a class"
    aside = np.mean(got.cells >= 5)
    largest = np.bincount(groups).max() / len(groups)
    # the nearest that whole groups of every class allow
    assert abs(aside - 0.2) <= max(largest * len(set(labels)) / 2, 0.02)
    if world.startswith(("150", "unequal")):
        assert got.n_subsets == 3
        assert got.class_shift < 0.05


def test_fewer_groups_make_fewer_subsets():
    # four classes: 8 and 4 pooled groups are 2 and 1 of each class
    assert [draw(*one_class_groups(n, classes=4), n * 20 // 15).n_subsets for n in (160, 40, 20)] == [3, 2, 1]
    # five classes: 8 pooled groups are 1 of some class
    assert draw(*one_class_groups(40), 53).n_subsets == 1


@pytest.mark.parametrize("world", WORLDS)
def test_row_order_and_class_numbers_change_nothing(world):
    groups, labels = WORLDS[world]
    got = draw(groups, labels, len(groups) // 15)
    order = np.random.default_rng(3).permutation(len(groups))
    np.testing.assert_array_equal(draw(groups[order], labels[order], len(groups) // 15).cells, got.cells[order])
    renamed = np.array([7, 3, 9, 1, 4])[labels]
    np.testing.assert_array_equal(draw(groups, renamed, len(groups) // 15).cells, got.cells)


def test_the_seed_and_the_names_of_groups_decide():
    groups, labels = one_class_groups(150)
    first = draw(groups, labels, 200).cells
    assert (draw(groups, labels, 200, seed=1).cells != first).any()
    assert (draw(groups + 1000, labels, 200).cells != first).any()


def test_a_class_of_one_group_is_refused():
    groups = np.array([0, 0, 1, 1, 2, 2])
    with pytest.raises(ValueError, match="class 1 lies in one group only"):
        draw(groups, np.array([0, 0, 0, 0, 1, 1]), 1)

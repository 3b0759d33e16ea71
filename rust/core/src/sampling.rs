//! Which training row goes to which cell: folds and held-out subsets, stratified by class and a function of
//! (sample id, seed) only: never of row order, class numbering or encoder. [`groups`] draws whole groups.

pub mod groups;

use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::error::{Error, Result};

/// Cell of rows that belong to none.
pub const NO_CELL: u8 = u8::MAX;

/// A pseudo-random key for each sample: a function of (sample id, seed) only.
pub fn sample_keys<S: AsRef<str>>(ids: &[S], seed: u64) -> Vec<u64> {
    ids.iter().map(|id| xxh3_64_with_seed(id.as_ref().as_bytes(), seed)).collect()
}

/// Cut `rows` into `n_folds` folds (cells 0 …) and `n_subsets` held-out subsets of `subset_size` rows each
/// (the cells after them). Classes keep their shares: subsets by largest remainder, folds dealt in turn. A class of two
/// or more rows that is too small for a row in each subset gives one row to one of them, beyond its `subset_size` rows.
/// What remains to be settled between classes (equal remainders, where dealing goes on) is settled by the keys of
/// their rows, so that numbering the classes anew changes nothing.
///
/// `keys` and `labels` are indexed by row, as is the result ([`NO_CELL`] outside `rows`).
///
/// # Errors
/// [`Error::Parameter`] if the subsets would take more than half of the rows, or all rows of some class, or there are
/// more than 254 cells.
pub fn assign_cells(
    keys: &[u64],
    rows: &[u32],
    labels: &[u32],
    n_folds: usize,
    n_subsets: usize,
    subset_size: usize,
) -> Result<Vec<u8>> {
    check_cells(n_folds, n_subsets, subset_size, rows.len())?;
    let n_classes = rows.iter().map(|&r| labels[r as usize] as usize + 1).max().unwrap_or(0);
    let mut members = vec![Vec::new(); n_classes];
    for &row in rows {
        members[labels[row as usize] as usize].push(row);
    }
    members.retain(|class| !class.is_empty());
    for class in &mut members {
        class.sort_unstable_by_key(|&row| (keys[row as usize], row));
    }
    // the order of the classes: by their smallest key
    members.sort_unstable_by_key(|class| (keys[class[0] as usize], class[0]));
    let quotas = quotas(&members, subset_size, n_subsets)?;
    let mut cells = vec![NO_CELL; labels.len()];
    let (mut dealt, mut single) = (0, 0);
    for (class, quota) in members.iter().zip(quotas) {
        let alone = n_subsets > 0 && quota == 0 && class.len() > 1;
        for (i, &row) in class.iter().enumerate() {
            cells[row as usize] = if i < quota * n_subsets {
                (n_folds + i % n_subsets) as u8
            } else if alone && i == 0 {
                single += 1;
                (n_folds + (single - 1) % n_subsets) as u8
            } else {
                dealt += 1;
                ((dealt - 1) % n_folds) as u8
            };
        }
    }
    Ok(cells)
}

fn check_cells(n_folds: usize, n_subsets: usize, subset_size: usize, n_rows: usize) -> Result<()> {
    if n_folds == 0 || n_folds + n_subsets >= usize::from(NO_CELL) {
        return Err(Error::Parameter(format!(
            "{n_folds} folds and {n_subsets} subsets: between 1 and 254 cells"
        )));
    }
    if n_subsets.saturating_mul(subset_size).saturating_mul(2) > n_rows {
        return Err(Error::Parameter(format!(
            "{n_subsets} subsets of {subset_size} rows would take more than half of the {n_rows} training rows"
        )));
    }
    Ok(())
}

/// Rows of each class in one subset: largest remainders of its share, equal ones in the order of `members`. A class keeps
/// a row outside of the subsets: what it has not for them is taken from those with the next remainders.
fn quotas(members: &[Vec<u32>], subset_size: usize, n_subsets: usize) -> Result<Vec<usize>> {
    let n: usize = members.iter().map(Vec::len).sum();
    let share = |c: usize| members[c].len() * subset_size;
    let most = |c: usize| (members[c].len() - 1) / n_subsets.max(1);
    let mut quotas: Vec<usize> = (0..members.len()).map(|c| (share(c) / n.max(1)).min(most(c))).collect();
    let mut order: Vec<usize> = (0..members.len()).collect();
    order.sort_by_key(|&c| (std::cmp::Reverse(share(c) % n.max(1)), c));
    let mut missing = subset_size.min(n) - quotas.iter().sum::<usize>();
    while missing > 0 {
        let before = missing;
        for &c in &order {
            if missing > 0 && quotas[c] < most(c) {
                quotas[c] += 1;
                missing -= 1;
            }
        }
        if missing == before {
            return Err(Error::Parameter(format!(
                "{n} rows of {} classes give no {n_subsets} held-out subsets of {subset_size} rows that leave a row of \
                 each class; use fewer or smaller ones",
                members.len()
            )));
        }
    }
    Ok(quotas)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn cells_are_disjoint_complete_stratified_and_blind_to_row_order(
            n in 60usize..400, k in 2u32..6, seed in 0u64..1000,
        ) {
            let ids: Vec<String> = (0..n).map(|i| format!("image-{i}")).collect();
            let labels: Vec<u32> = (0..n as u32).map(|i| i % k).collect();
            let rows: Vec<u32> = (0..n as u32).collect();
            let keys = sample_keys(&ids, seed);
            let size = (n / 15).max(k as usize);
            let cells = assign_cells(&keys, &rows, &labels, 5, 3, size).unwrap();
            for subset in 5..8u8 {
                prop_assert_eq!(cells.iter().filter(|&&c| c == subset).count(), size);
                for class in 0..k {
                    let count = (0..n).filter(|&i| cells[i] == subset && labels[i] == class).count();
                    prop_assert!(count.abs_diff(size / k as usize) <= 1);
                }
            }
            let folds: Vec<usize> = (0..5).map(|f| cells.iter().filter(|&&c| c == f).count()).collect();
            prop_assert!(folds.iter().max().unwrap() - folds.iter().min().unwrap() <= 1);
            // the same samples in another order
            let order: Vec<usize> = (0..n).rev().collect();
            let ids: Vec<&str> = order.iter().map(|&i| ids[i].as_str()).collect();
            let shuffled: Vec<u32> = order.iter().map(|&i| labels[i]).collect();
            let other = assign_cells(&sample_keys(&ids, seed), &rows, &shuffled, 5, 3, size).unwrap();
            for (new, &old) in order.iter().enumerate() {
                prop_assert_eq!(other[new] >= 5, cells[old] >= 5);
                prop_assert_eq!(other[new], cells[old]);
            }
            // the same classes under other numbers
            let renumbered: Vec<u32> = labels.iter().map(|&l| 2 * (k - 1 - l) + 1).collect();
            prop_assert_eq!(assign_cells(&keys, &rows, &renumbered, 5, 3, size).unwrap(), cells);
        }
    }

    #[test]
    fn every_class_of_two_rows_has_one_in_a_subset() {
        // 40, 10, 10, … rows, then 2 of each of 30 classes and 1 of each of 5
        let sizes = [vec![40], vec![10; 20], vec![2; 30], vec![1; 5]].concat();
        let labels: Vec<u32> = sizes.iter().enumerate().flat_map(|(c, &n)| vec![c as u32; n]).collect();
        let ids: Vec<String> = (0..labels.len()).map(|i| format!("image-{i}")).collect();
        let (keys, rows) = (sample_keys(&ids, 0), (0..labels.len() as u32).collect::<Vec<_>>());
        for n_subsets in 1..4 {
            let cells = assign_cells(&keys, &rows, &labels, 5, n_subsets, 12).unwrap();
            let held = |c: u32| (0..labels.len()).filter(|&i| labels[i] == c && cells[i] >= 5).count();
            let of_subsets: Vec<usize> =
                (0..n_subsets).map(|j| cells.iter().filter(|&&c| usize::from(c) == 5 + j).count()).collect();
            let without_quota =
                sizes.iter().zip(0..).filter(|&(&n, c)| n > 1 && held(c) < n_subsets.max(2)).count();
            assert!((0..51).all(|c| held(c) > 0) && (51..56).all(|c| held(c) == 0));
            assert!(sizes.iter().zip(0..).all(|(&n, c)| held(c) < n));
            assert!(of_subsets.iter().max().unwrap() - of_subsets.iter().min().unwrap() <= 1);
            assert!(of_subsets.iter().sum::<usize>() <= 12 * n_subsets + without_quota);
        }
        assert!(assign_cells(&keys, &rows, &labels, 5, 0, 0).unwrap().iter().all(|&c| c < 5));
    }

    #[test]
    fn small_classes_are_spread_and_small_sets_are_named() {
        let labels = [vec![0; 50], vec![1; 2]].concat();
        let rows: Vec<u32> = (0..52).collect();
        let keys = vec![0; 52];
        let cells = assign_cells(&keys, &rows, &labels, 5, 3, 8).unwrap();
        assert_ne!(cells[50], cells[51]);
        let error = assign_cells(&keys, &rows, &labels, 5, 3, 20).unwrap_err();
        assert!(error.to_string().contains("52"), "{error}");
        assert!(assign_cells(&keys, &rows, &labels, 0, 3, 2).is_err());
    }

    #[test]
    fn subsets_may_take_half_of_the_rows_and_no_more() {
        let (keys, rows): (Vec<u64>, Vec<u32>) = ((0..16).collect(), (0..16).collect());
        let labels = [0, 1].repeat(8);
        assert!(assign_cells(&keys, &rows, &labels, 2, 2, 4).is_ok());
        assert!(assign_cells(&keys, &rows, &labels, 2, 2, 5).is_err());
    }

    #[test]
    fn a_class_keeps_a_row_outside_of_the_subsets() {
        // 3 of 12 rows are of a class, whose remainder is that of the other
        let (rows, labels) = ((0..12).collect::<Vec<u32>>(), [vec![0; 9], vec![1; 3]].concat());
        for keys in [(0..12).collect::<Vec<u64>>(), (0..12).rev().collect()] {
            let cells = assign_cells(&keys, &rows, &labels, 3, 3, 2).unwrap();
            for class in 0..2 {
                assert!((0..12).any(|i| labels[i] == class && cells[i] < 3), "{cells:?}");
            }
        }
    }
}

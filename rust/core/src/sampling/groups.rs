//! Cells of whole groups (patients, slides, scenes), stratified by class as well as sizes allow.
//!
//! Groups are visited from the largest on, equals by their keys, and each goes to the cell whose class counts and
//! size then come nearest to their targets: the least increase of Σ_c (n_c − t_c)²/t_c + (n − t)²/t. Costs within a
//! relative 1e-9 are equal, so that the order in which classes are summed decides nothing; equals go to the
//! smaller cell.

use std::cmp::Reverse;

use super::{NO_CELL, check_cells};
use crate::error::{Error, Result};

/// Rows of one group: how many of each class it holds, ascending by class.
#[derive(Debug, Clone)]
struct Group {
    key: u64,
    size: usize,
    counts: Vec<(usize, usize)>,
}

/// Cells `0 ..` that hold about these shares of each class of `rows`, groups whole; [`NO_CELL`] outside `rows`.
///
/// `group_of` and `labels` are indexed by row, `keys` by group.
///
/// # Errors
/// [`Error::Parameter`] if there are fewer groups than cells.
pub fn cut(keys: &[u64], group_of: &[u32], rows: &[u32], labels: &[u32], shares: &[f64]) -> Result<Vec<u8>> {
    let groups = collect(keys, group_of, rows, labels);
    let present: Vec<usize> = (0..groups.len()).filter(|&g| groups[g].size > 0).collect();
    if present.len() < shares.len() || shares.len() >= usize::from(NO_CELL) {
        return Err(Error::Parameter(format!(
            "{} groups cannot fill {} cells whole",
            present.len(),
            shares.len()
        )));
    }
    let cell_of = deal(&groups, &present, shares, false);
    Ok(spread(group_of, rows, labels.len(), |g| cell_of[g]))
}

/// Folds (cells `0 .. n_folds`) and held-out subsets (the cells after them) of whole groups, and how many subsets
/// there are: as many as `n_subsets`, if each can have a group of every class, else fewer.
///
/// The subsets together hold about `n_subsets · subset_size` rows. A class that would have no group there gets its
/// smallest one. Groups are dealt among the subsets so that each has every class; among folds by class and size.
///
/// # Errors
/// [`Error::Parameter`] if a class has a single group, which cannot be on both sides, if the subsets would take more
/// than half of the rows, or for too many cells.
pub fn assign(
    keys: &[u64],
    group_of: &[u32],
    rows: &[u32],
    labels: &[u32],
    n_folds: usize,
    n_subsets: usize,
    subset_size: usize,
) -> Result<(Vec<u8>, usize)> {
    check_cells(n_folds, n_subsets, subset_size, rows.len())?;
    let groups = collect(keys, group_of, rows, labels);
    let present: Vec<usize> = (0..groups.len()).filter(|&g| groups[g].size > 0).collect();
    let holders = groups_by_class(&groups, &present);
    if let Some((class, _)) = holders.iter().enumerate().find(|(_, held)| held.len() == 1) {
        return Err(Error::Parameter(format!(
            "class {class} has training rows of one group only: it cannot be fitted and held out"
        )));
    }
    let share = (n_subsets * subset_size) as f64 / rows.len().max(1) as f64;
    let side = deal(&groups, &present, &[share, 1.0 - share], false);
    let mut held_out: Vec<bool> = (0..groups.len()).map(|g| side[g] == 0).collect();
    // whether a class would have no group left on the side that this one leaves
    let strands = |g: usize, held_out: &[bool]| {
        let is_alone = |class: usize| holders[class].iter().all(|&o| o == g || held_out[o] != held_out[g]);
        groups[g].counts.iter().any(|&(class, _)| is_alone(class))
    };
    // twice: what one class gets may be what another had
    for (held, side) in holders.iter().chain(&holders).flat_map(|held| [(held, true), (held, false)]) {
        if held.iter().all(|&g| held_out[g] != side) {
            let smallest = |&g: &usize| (strands(g, &held_out), groups[g].size, groups[g].key);
            if let Some(group) = held.iter().copied().min_by_key(smallest) {
                held_out[group] = side;
            }
        }
    }
    let (outside, inside): (Vec<usize>, Vec<usize>) = present.iter().partition(|&&g| held_out[g]);
    let fewest =
        groups_by_class(&groups, &outside).iter().map(Vec::len).filter(|&n| n > 0).min().unwrap_or(1);
    let subsets = n_subsets.min(fewest).max(1);
    let in_subsets = deal(&groups, &outside, &vec![1.0 / subsets as f64; subsets], true);
    let in_folds = deal(&groups, &inside, &vec![1.0 / n_folds as f64; n_folds], false);
    let cells = spread(group_of, rows, labels.len(), |g| {
        if held_out[g] { n_folds as u8 + in_subsets[g] } else { in_folds[g] }
    });
    Ok((cells, subsets))
}

fn collect(keys: &[u64], group_of: &[u32], rows: &[u32], labels: &[u32]) -> Vec<Group> {
    let mut classes: Vec<Vec<usize>> = vec![Vec::new(); keys.len()];
    for &row in rows {
        classes[group_of[row as usize] as usize].push(labels[row as usize] as usize);
    }
    let groups = classes.into_iter().zip(keys).map(|(mut classes, &key)| {
        classes.sort_unstable();
        let counts = classes.chunk_by(|a, b| a == b).map(|run| (run[0], run.len())).collect();
        Group { key, size: classes.len(), counts }
    });
    groups.collect()
}

/// For each class, the groups among `chosen` that hold it.
fn groups_by_class(groups: &[Group], chosen: &[usize]) -> Vec<Vec<usize>> {
    let k = groups.iter().flat_map(|g| &g.counts).map(|&(c, _)| c + 1).max().unwrap_or(0);
    let mut found = vec![Vec::new(); k];
    for &g in chosen {
        for &(class, _) in &groups[g].counts {
            found[class].push(g);
        }
    }
    found
}

/// Cell of each group among `chosen`; with `cover`, a cell that lacks more of a group's classes comes first.
fn deal(groups: &[Group], chosen: &[usize], shares: &[f64], cover: bool) -> Vec<u8> {
    let k = groups.iter().flat_map(|g| &g.counts).map(|&(c, _)| c + 1).max().unwrap_or(0);
    let mut totals = vec![0_usize; k];
    for &g in chosen {
        for &(class, count) in &groups[g].counts {
            totals[class] += count;
        }
    }
    let n: usize = totals.iter().sum();
    let mut counts = vec![vec![0_usize; k]; shares.len()];
    let mut sizes = vec![0_usize; shares.len()];
    let mut order = chosen.to_vec();
    order.sort_unstable_by_key(|&g| (Reverse(groups[g].size), groups[g].key, g));
    let mut cell_of = vec![0_u8; groups.len()];
    for &g in &order {
        let group = &groups[g];
        // the increase of (x − t)²/t when `more` rows are added
        let rise = |x: usize, more: usize, target: f64| {
            more as f64 * (2.0 * (x as f64 - target) + more as f64) / target.max(1e-9)
        };
        let cost = |cell: usize| {
            let classes: f64 = group
                .counts
                .iter()
                .map(|&(c, count)| rise(counts[cell][c], count, shares[cell] * totals[c] as f64))
                .sum();
            classes + rise(sizes[cell], group.size, shares[cell] * n as f64)
        };
        let lacking = |cell: usize| group.counts.iter().filter(|&&(c, _)| counts[cell][c] == 0).count();
        let mut best = 0;
        for cell in 1..shares.len() {
            let (new, old) = (cost(cell), cost(best));
            let equal = (new - old).abs() <= 1e-9 * (new.abs() + old.abs());
            let covers = if cover { lacking(cell).cmp(&lacking(best)) } else { std::cmp::Ordering::Equal };
            let better = covers.is_gt()
                || (covers.is_eq() && (if equal { sizes[cell] < sizes[best] } else { new < old }));
            if better {
                best = cell;
            }
        }
        cell_of[g] = best as u8;
        sizes[best] += group.size;
        for &(class, count) in &group.counts {
            counts[best][class] += count;
        }
    }
    // no cell stays empty while another has groups to spare: it gets the smallest
    for cell in 0..shares.len() {
        let members = |c: usize| order.iter().filter(|&&g| usize::from(cell_of[g]) == c).count();
        if members(cell) == 0
            && let Some(&g) = order.iter().rev().find(|&&g| members(usize::from(cell_of[g])) > 1)
        {
            cell_of[g] = cell as u8;
        }
    }
    cell_of
}

fn spread(group_of: &[u32], rows: &[u32], n: usize, cell: impl Fn(usize) -> u8) -> Vec<u8> {
    let mut cells = vec![NO_CELL; n];
    for &row in rows {
        cells[row as usize] = cell(group_of[row as usize] as usize);
    }
    cells
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sampling::sample_keys;
    use proptest::prelude::*;

    /// group of each row, class of each row, keys of the groups
    fn world(n_groups: usize, k: u32, pure: bool, seed: u64) -> (Vec<u32>, Vec<u32>, Vec<u64>) {
        let (mut group_of, mut labels) = (Vec::new(), Vec::new());
        for g in 0..n_groups as u32 {
            for i in 0..5 + (g * 7) % 11 {
                group_of.push(g);
                labels.push(if pure { g % k } else { (g + i) % k });
            }
        }
        let names: Vec<String> = (0..n_groups).map(|g| format!("patient {g}")).collect();
        (group_of, labels, sample_keys(&names, seed))
    }

    proptest! {
        #[test]
        fn groups_stay_whole_and_classes_keep_their_shares(
            n_groups in 40usize..120, k in 2u32..5, pure: bool, seed in 0u64..1000,
        ) {
            let (group_of, labels, keys) = world(n_groups, k, pure, seed);
            let rows: Vec<u32> = (0..labels.len() as u32).collect();
            let size = rows.len() / 15;
            let (cells, subsets) = assign(&keys, &group_of, &rows, &labels, 5, 3, size).unwrap();
            for g in 0..n_groups as u32 {
                let mut of_group: Vec<u8> =
                    (0..rows.len()).filter(|&i| group_of[i] == g).map(|i| cells[i]).collect();
                of_group.dedup();
                prop_assert_eq!(of_group.len(), 1);
            }
            for class in 0..k {
                for subset in 0..subsets {
                    let held = (0..rows.len()).any(|i| labels[i] == class && cells[i] == 5 + subset as u8);
                    prop_assert!(held, "subset {subset} has no row of class {class}");
                }
                prop_assert!((0..rows.len()).any(|i| labels[i] == class && cells[i] < 5));
            }
            let outside = cells.iter().filter(|&&c| c >= 5).count() as f64 / rows.len() as f64;
            prop_assert!((outside - 0.2).abs() < 0.12, "{outside} of the rows are held out");
            // classes under other numbers, rows and groups in another order
            let renumbered: Vec<u32> = labels.iter().map(|&l| k - 1 - l).collect();
            prop_assert_eq!(&assign(&keys, &group_of, &rows, &renumbered, 5, 3, size).unwrap().0, &cells);
            let last = n_groups as u32 - 1;
            let swapped: Vec<u32> = group_of.iter().rev().map(|&g| last - g).collect();
            let reversed: Vec<u32> = labels.iter().rev().copied().collect();
            let other_keys: Vec<u64> = keys.iter().rev().copied().collect();
            let (other, _) = assign(&other_keys, &swapped, &rows, &reversed, 5, 3, size).unwrap();
            prop_assert!(other.iter().rev().eq(cells.iter()));
        }
    }

    #[test]
    fn a_cut_takes_its_share_and_never_nothing() {
        let (group_of, labels, keys) = world(60, 3, false, 4);
        let rows: Vec<u32> = (0..labels.len() as u32).collect();
        let cells = cut(&keys, &group_of, &rows, &labels, &[0.2, 0.8]).unwrap();
        let share = cells.iter().filter(|&&c| c == 0).count() as f64 / rows.len() as f64;
        assert!((share - 0.2).abs() < 0.03, "{share}");
        let cells = cut(&[5, 9], &[0, 0, 0, 1], &[0, 1, 2, 3], &[0, 1, 0, 1], &[0.2, 0.8]).unwrap();
        assert!(cells.contains(&0) && cells.contains(&1));
        assert!(cut(&[5], &[0, 0], &[0, 1], &[0, 1], &[0.2, 0.8]).is_err());
    }

    #[test]
    fn a_class_of_one_group_is_refused() {
        let error = assign(&[1, 2, 3], &[0, 1, 2], &[0, 1, 2], &[0, 0, 1], 2, 1, 1).unwrap_err();
        assert!(error.to_string().contains("class 1"), "{error}");
    }

    /// Groups of these sizes by class: group and class of each row, and their rows.
    fn rows_of(groups: &[&[usize]]) -> (Vec<u64>, Vec<u32>, Vec<u32>, Vec<u32>) {
        let (mut group_of, mut labels) = (Vec::new(), Vec::new());
        for (g, sizes) in groups.iter().enumerate() {
            for (class, &size) in sizes.iter().enumerate() {
                group_of.extend(vec![g as u32; size]);
                labels.extend(vec![class as u32; size]);
            }
        }
        let rows = (0..labels.len() as u32).collect();
        ((0..groups.len() as u64).collect(), group_of, rows, labels)
    }

    #[test]
    fn a_class_on_one_side_gives_its_smallest_group_to_the_other() {
        // a tenth held out: large groups of a rare class go where most rows are
        let groups: Vec<&[usize]> = [[&[10, 0][..]; 12].to_vec(), vec![&[0, 8], &[0, 6]]].concat();
        let (keys, group_of, rows, labels) = rows_of(&groups);
        let (cells, _) = assign(&keys, &group_of, &rows, &labels, 2, 1, 13).unwrap();
        let is_held_out = |g: u32| cells[group_of.iter().position(|&of| of == g).unwrap()] >= 2;
        assert!(!is_held_out(12) && is_held_out(13));
        for size in [68, 1000, usize::MAX] {
            let error = assign(&keys, &group_of, &rows, &labels, 2, 1, size).unwrap_err();
            assert!(error.to_string().contains("more than half of the 134 training rows"), "{error}");
        }
    }

    #[test]
    fn what_a_class_gives_to_a_side_leaves_no_other_class_without() {
        // the smallest group of class 1 is one of the two of class 0, of which the other is held out
        let (keys, group_of, rows, labels) = rows_of(&[&[2, 1], &[0, 3], &[0, 3], &[1, 0]]);
        let (cells, _) = assign(&keys, &group_of, &rows, &labels, 2, 1, 1).unwrap();
        for class in 0..2 {
            let of_class = || cells.iter().zip(&labels).filter(|&(_, &label)| label == class);
            assert!(
                of_class().any(|(&cell, _)| cell < 2) && of_class().any(|(&cell, _)| cell >= 2),
                "{cells:?}"
            );
        }
    }

    #[test]
    fn a_cell_that_lacks_a_class_comes_before_a_smaller_one() {
        let (keys, group_of, rows, labels) = rows_of(&[&[20, 1], &[20, 0], &[19, 0], &[10, 1]]);
        let groups = collect(&keys, &group_of, &rows, &labels);
        let of = |cover| deal(&groups, &[0, 1, 2, 3], &[0.5, 0.5], cover);
        assert_eq!((of(false), of(true)), (vec![0, 1, 1, 0], vec![0, 1, 1, 1]));
    }

    #[test]
    fn every_class_is_in_the_folds_and_in_each_subset() {
        // groups of both classes go where one is lacking, though another subset is smaller
        let mixed: &[&[usize]] = &[&[1, 1], &[0, 3], &[1, 1], &[1, 1], &[2, 1]];
        // the balance of sizes alone would hold out both groups of class 1
        let rare: &[&[usize]] = &[&[0, 1], &[3, 0], &[1, 1]];
        for (groups, n_subsets, size) in [(mixed, 2, 3), (rare, 1, 1)] {
            let (keys, group_of, rows, labels) = rows_of(groups);
            let (cells, subsets) = assign(&keys, &group_of, &rows, &labels, 2, n_subsets, size).unwrap();
            assert_eq!(subsets, n_subsets);
            for class in 0..2 {
                let of_class = || cells.iter().zip(&labels).filter(|&(_, &label)| label == class);
                assert!(of_class().any(|(&cell, _)| cell < 2), "{cells:?}");
                assert!((2..2 + subsets as u8).all(|subset| of_class().any(|(&cell, _)| cell == subset)));
            }
        }
    }

    #[test]
    fn a_small_cell_gets_a_group_though_all_are_too_large_for_it() {
        let (keys, group_of, rows, labels) = rows_of(&[&[10], &[10]]);
        let cells = cut(&keys, &group_of, &rows, &labels, &[0.05, 0.95]).unwrap();
        assert!(cells.contains(&0) && cells.contains(&1));
    }

    #[test]
    fn large_groups_are_dealt_first_so_that_small_ones_even_out() {
        let (keys, group_of, rows, labels) = rows_of(&[&[1], &[2], &[2], &[3], &[3], &[5]]);
        let cells = cut(&keys, &group_of, &rows, &labels, &[0.5, 0.5]).unwrap();
        assert_eq!(cells.iter().filter(|&&c| c == 0).count(), 8);
    }
}

//! Round trips, crashes in each window, and hostile files.

use std::fs;
use std::path::{Path, PathBuf};

use half::f16;
use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::control::Control;
use crate::error::Error;
use crate::rows::{Values, ValuesMut};

mod power;

struct Made {
    _folder: TempDir,
    path: PathBuf,
}

fn create(n_rows: u64, n_features: u64, dtype: Dtype) -> Made {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("bank");
    Manifest { n_rows, n_features, dtype }.create(&path).unwrap();
    Made { _folder: folder, path }
}

/// Value of a feature: exact in float16.
fn value(row: u64, column: u64) -> f32 {
    f16::from_f32((row * 31 + column * 7) as f32 / 8.0 % 1000.0 - 300.0).to_f32()
}

fn block(rows: &[u64], d: u64) -> Vec<f32> {
    rows.iter().flat_map(|&row| (0..d).map(move |column| value(row, column))).collect()
}

fn append(writer: &mut PartWriter, rows: &[u64]) {
    let values = block(rows, writer.manifest().n_features);
    writer.append(rows, Values::F32(&values)).unwrap();
}

/// A bank of 10 rows × 3 features, part `a` with blocks of 4 and 3 rows, part `b` with one of 3.
fn small() -> Made {
    let made = create(10, 3, Dtype::F16);
    let mut a = PartWriter::open(&made.path, "a").unwrap();
    append(&mut a, &[0, 1, 2, 3]);
    append(&mut a, &[9, 8, 7]);
    a.close().unwrap();
    let mut b = PartWriter::open(&made.path, "b").unwrap();
    append(&mut b, &[4, 5, 6]);
    b.close().unwrap();
    made
}

fn read_all(bank: &Bank) -> Vec<f32> {
    let rows: Vec<u64> = (0..bank.n_rows() as u64).collect();
    bank.read(&rows, &Control::new()).unwrap()
}

fn patch(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(path).unwrap();
    change(&mut bytes);
    fs::write(path, bytes).unwrap();
}

/// What a user finds out about a bank whose files may be damaged.
fn check(path: &Path) -> Result<Verification, Error> {
    let bank = Bank::open(path)?;
    let report = bank.verify(&Control::new())?;
    if bank.is_complete() {
        read_all(&bank); // a sound size means no fault, whatever the bytes are
    }
    Ok(report)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn rows_come_back_as_written(
        order in (0_u64..40).prop_flat_map(|n| Just((0..n).collect::<Vec<_>>()).prop_shuffle()),
        d in 1_u64..9,
        cuts in proptest::collection::vec((0_usize..9, 0_usize..3), 0..12),
        dtype in prop_oneof![Just(Dtype::F16), Just(Dtype::F32)],
    ) {
        let made = create(order.len() as u64, d, dtype);
        let mut rest = &order[..];
        for (len, part) in cuts {
            let (rows, after) = rest.split_at(len.min(rest.len()));
            // opened anew for each block: resuming is not special
            append(&mut PartWriter::open(&made.path, ["x", "y", "z"][part]).unwrap(), rows);
            rest = after;
        }
        let bank = Bank::open(&made.path).unwrap();
        let mut missing = rest.to_vec();
        missing.sort_unstable();
        prop_assert_eq!(bank.missing_rows().unwrap(), missing);
        prop_assert_eq!(bank.is_complete(), rest.is_empty());
        append(&mut PartWriter::open_free(&made.path, "host").unwrap(), rest);
        let bank = Bank::open(&made.path).unwrap();
        prop_assert!(bank.is_complete());
        let all: Vec<u64> = (0..order.len() as u64).collect();
        prop_assert_eq!(read_all(&bank), block(&all, d));
        prop_assert_eq!(bank.read(&order, &Control::new()).unwrap(), block(&order, d));
        let report = bank.verify(&Control::new()).unwrap();
        prop_assert!(report.damage.is_empty());
        prop_assert_eq!(report.rows, order.len() as u64);
    }

    #[test]
    fn garbage_is_never_a_panic(
        file in 0_usize..4,
        at in 0_usize..400,
        bytes in proptest::collection::vec(any::<u8>(), 0..200),
        keep_tail in any::<bool>(),
    ) {
        let made = small();
        let path = made.path.join(["bank.json", "a.npy", "a.rows.npy", "a.journal"][file]);
        patch(&path, |old| {
            let at = at.min(old.len());
            let end = if keep_tail { (at + bytes.len()).min(old.len()) } else { old.len() };
            old.splice(at..end, bytes);
        });
        let _ = check(&made.path);
        let _ = PartWriter::open(&made.path, "a").map(|mut w| w.append(&[3], Values::F32(&[0.0; 3])));
        let _ = check(&made.path);
    }
}

#[test]
fn files_are_what_numpy_reads() {
    let made = small();
    let payload = fs::read(made.path.join("a.npy")).unwrap();
    assert!(payload[10..].starts_with(b"{'descr': '<f2', 'fortran_order': False, 'shape': (7, 3), }"));
    let rows = [0, 1, 2, 3, 9, 8, 7];
    let expected: Vec<u8> =
        block(&rows, 3).iter().flat_map(|&v| f16::from_f32(v).to_bits().to_le_bytes()).collect();
    assert_eq!(payload[128..], expected);
    let index = fs::read(made.path.join("a.rows.npy")).unwrap();
    assert!(index[10..].starts_with(b"{'descr': '<u8', 'fortran_order': False, 'shape': (7,), }"));
    assert_eq!(index[128..], rows.iter().flat_map(|r: &u64| r.to_le_bytes()).collect::<Vec<u8>>());
    assert_eq!(fs::read_to_string(made.path.join("a.journal")).unwrap().lines().count(), 2);
}

#[test]
fn parts_that_follow_each_other_need_no_order() {
    let made = create(5, 2, Dtype::F32);
    append(&mut PartWriter::open(&made.path, "a").unwrap(), &[3, 4]);
    append(&mut PartWriter::open(&made.path, "b").unwrap(), &[0, 1, 2]);
    PartWriter::open(&made.path, "c").unwrap().close().unwrap(); // nothing in it
    let bank = Bank::open(&made.path).unwrap();
    assert_eq!(bank.parts().map(|p| p.rows).collect::<Vec<_>>(), [0, 3, 2]);
    assert_eq!(read_all(&bank), block(&[0, 1, 2, 3, 4], 2));
}

/// Runs, lists and what lies between them, over more rows than are read at a time.
#[test]
fn long_indexes_of_every_kind_come_back() {
    let n = 40_000_u64;
    let mut shuffled: Vec<u64> = (0..n).collect();
    let mut state = 1_u64;
    for i in (1..shuffled.len()).rev() {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        shuffled.swap(i, (state >> 33) as usize % (i + 1));
    }
    let mut late: Vec<u64> = (0..n).collect();
    late.swap(20_000, 39_999);
    for rows in [(0..n).collect(), (0..n).rev().collect(), shuffled, late] {
        for parts in [1, 3] {
            let made = create(n, 1, Dtype::F32);
            let mut writers: Vec<PartWriter> =
                (0..parts).map(|p| PartWriter::open(&made.path, &format!("p{p}")).unwrap()).collect();
            for (at, rows) in rows.chunks(9_000).enumerate() {
                append(&mut writers[at % parts], rows);
            }
            drop(writers);
            let bank = Bank::open(&made.path).unwrap();
            assert!(bank.is_complete() && read_all(&bank) == block(&(0..n).collect::<Vec<_>>(), 1));
        }
    }
    // one row twice, at the end of what was a run
    let made = create(n, 1, Dtype::F32);
    append(&mut PartWriter::open(&made.path, "a").unwrap(), &(0..20_000).collect::<Vec<_>>());
    let path = made.path.join("a.rows.npy");
    let payload =
        journal::Journal::parse(&fs::read(made.path.join("a.journal")).unwrap()).unwrap().blocks[0].payload;
    for (row, word) in [(17_u64, "already"), (n, "the bank has"), (u64::MAX, "the bank has")] {
        patch(&path, |bytes| bytes[128 + 19_999 * 8..128 + 20_000 * 8].copy_from_slice(&row.to_le_bytes()));
        let message = Bank::open(&made.path).err().unwrap().to_string();
        assert!(message.contains("a.rows.npy: block 0, lines 0 to 19999"), "{message}");
        // as if it had been written so
        let index = xxhash_rust::xxh3::xxh3_64(&fs::read(&path).unwrap()[128..]);
        let line = journal::Block { rows: 20_000, offset: 0, payload, index }.line();
        fs::write(made.path.join("a.journal"), line).unwrap();
        let message = Bank::open(&made.path).err().unwrap().to_string();
        assert!(message.contains(&format!("row {row}")) && message.contains(word), "{message}");
    }
}

#[test]
fn rows_are_copied_as_stored_or_widened() {
    let (n, d) = (3000, 3000); // enough for threads
    let made = create(n, d, Dtype::F16);
    let mut writer = PartWriter::open(&made.path, "a").unwrap();
    append(&mut writer, &(0..n / 2).rev().collect::<Vec<_>>());
    append(&mut writer, &(n / 2..n).collect::<Vec<_>>());
    let bank = Bank::open(&made.path).unwrap();
    let asked: Vec<u64> = (0..n).map(|i| i * 7 % n).chain([5, 5]).collect();
    let expected = block(&asked, d);
    let len = expected.len();
    let control = Control::new();
    for threads in [1, 2] {
        let (mut wide, mut narrow) = (vec![0.0; len], vec![f16::ZERO; len]);
        bank.read_into(&asked, ValuesMut::F32(&mut wide), threads, &control).unwrap();
        bank.read_into(&asked, ValuesMut::F16(&mut narrow), threads, &control).unwrap();
        assert!(wide == expected);
        assert!(narrow.iter().zip(&expected).all(|(a, &b)| a.to_f32() == b));
        let short = bank.read_into(&asked, ValuesMut::F32(&mut wide[1..]), threads, &control);
        assert!(matches!(short, Err(Error::Shape { .. })));
        assert!(bank.read_into(&[n], ValuesMut::F16(&mut narrow[..d as usize]), threads, &control).is_err());
        bank.read_into(&[], ValuesMut::F16(&mut []), threads, &control).unwrap();
    }
    let made = create(1, 2, Dtype::F32);
    append(&mut PartWriter::open(&made.path, "a").unwrap(), &[0]);
    let bank = Bank::open(&made.path).unwrap();
    let refused = bank.read_into(&[0], ValuesMut::F16(&mut [f16::ZERO; 2]), 1, &control);
    assert!(refused.unwrap_err().to_string().contains("read float32"));
}

#[test]
fn an_empty_bank_is_complete() {
    let made = create(0, 4, Dtype::F16);
    let bank = Bank::open(&made.path).unwrap();
    assert!(bank.is_complete() && bank.missing_rows().unwrap().is_empty() && read_all(&bank).is_empty());
}

#[test]
fn an_incomplete_bank_says_what_to_do() {
    let made = create(130, 3, Dtype::F16);
    append(&mut PartWriter::open(&made.path, "a").unwrap(), &[129, 0, 64]);
    let bank = Bank::open(&made.path).unwrap();
    let expected: Vec<u64> = (0..130).filter(|row| ![129, 0, 64].contains(row)).collect();
    assert_eq!(bank.missing_rows().unwrap(), expected);
    let message = bank.matrix().err().unwrap().to_string();
    assert!(message.contains("127 of 130 rows are missing") && message.contains("again"), "{message}");
}

#[test]
fn bad_blocks_are_refused_and_leave_nothing() {
    let made = create(10, 2, Dtype::F16);
    let mut writer = PartWriter::open(&made.path, "a").unwrap();
    append(&mut writer, &[7]);
    let mut refuse = |rows: &[u64], values: &[f32], words: &[&str]| {
        let message = writer.append(rows, Values::F32(values)).unwrap_err().to_string();
        assert!(words.iter().all(|word| message.contains(word)), "{message}");
    };
    refuse(&[3, 5], &[0.0, 1.0, 2.0, f32::NAN], &["row 5, feature 1", "NaN", "finite"]);
    refuse(&[3], &[f32::INFINITY, 0.0], &["row 3, feature 0", "inf"]);
    refuse(&[3], &[0.0, -65505.0], &["row 3, feature 1", "-65505", "float32"]);
    refuse(&[3, 10], &[0.0; 4], &["row 10", "beyond"]);
    refuse(&[3, u64::MAX], &[0.0; 4], &["beyond"]);
    refuse(&[3, 3], &[0.0; 4], &["row 3", "twice"]);
    refuse(&[3, 7], &[0.0; 4], &["row 7", "already"]);
    refuse(&[3], &[0.0; 3], &["has 3, expected 2"]);
    writer.append(&[3], Values::F32(&[65504.0, -65504.0])).unwrap(); // 3 is still free
    let half = [f16::from_f32(1.0), f16::NAN];
    assert!(matches!(
        writer.append(&[4], Values::F16(&half)),
        Err(Error::BadValue { row: 4, column: 1, .. })
    ));
    writer.append(&[], Values::F16(&[])).unwrap();
    drop(writer);
    assert_eq!(check(&made.path).unwrap().rows, 2);
    // another part does not take what is there
    let mut other = PartWriter::open(&made.path, "b").unwrap();
    assert!(other.append(&[7], Values::F32(&[0.0; 2])).unwrap_err().to_string().contains("already"));
}

#[test]
fn float32_banks_keep_every_finite_value() {
    let made = create(2, 2, Dtype::F32);
    let mut writer = PartWriter::open(&made.path, "a").unwrap();
    let values = [f32::MAX, f32::MIN_POSITIVE, -0.0, 65505.0];
    writer.append(&[1, 0], Values::F32(&values)).unwrap();
    let bank = Bank::open(&made.path).unwrap();
    assert_eq!(bank.read(&[1, 0], &Control::new()).unwrap(), values);
    assert!(bank.read(&[2], &Control::new()).is_err());
}

#[test]
fn a_part_has_one_writer() {
    let made = create(4, 1, Dtype::F16);
    let first = PartWriter::open_free(&made.path, "gpu").unwrap();
    assert_eq!(first.part(), "gpu-0");
    let message = PartWriter::open(&made.path, "gpu-0").err().unwrap().to_string();
    assert!(message.contains("has a writer already"), "{message}");
    assert_eq!(PartWriter::open_free(&made.path, "gpu").unwrap().part(), "gpu-1");
    drop(first);
    assert_eq!(PartWriter::open_free(&made.path, "gpu").unwrap().part(), "gpu-0");
    for name in ["", "a.b", "../a", "a/b", "ä", &"x".repeat(101)] {
        assert!(matches!(PartWriter::open(&made.path, name), Err(Error::Parameter(_))), "{name}");
    }
}

#[test]
fn a_row_in_two_parts_is_an_error_that_names_it() {
    let made = create(4, 1, Dtype::F16);
    let (mut a, mut b) =
        (PartWriter::open(&made.path, "a").unwrap(), PartWriter::open(&made.path, "b").unwrap());
    append(&mut a, &[0, 1]);
    append(&mut b, &[2, 1]); // opened before a wrote it
    let message = Bank::open(&made.path).err().unwrap().to_string();
    assert!(message.contains("b.rows.npy") && message.contains("row 1") && message.contains("Move one"));
}

/// The states a writer can leave: each is opened, resumed, finished and read back.
#[test]
fn a_writer_may_die_anywhere() {
    // what a block adds to the files, from two copies of the same bank
    let (before, after) = (create(6, 3, Dtype::F32), create(6, 3, Dtype::F32));
    append(&mut PartWriter::open(&before.path, "a").unwrap(), &[0, 1]);
    let mut writer = PartWriter::open(&after.path, "a").unwrap();
    append(&mut writer, &[0, 1]);
    append(&mut writer, &[5, 4, 3]);
    drop(writer);
    let files = ["a.npy", "a.rows.npy", "a.journal"];
    let read = |made: &Made| files.map(|name| fs::read(made.path.join(name)).unwrap());
    let (old, new) = (read(&before), read(&after));
    let torn = |file: usize, bytes: usize| {
        let mut torn = old[file].clone();
        torn.extend_from_slice(&new[file][torn.len()..torn.len() + bytes]);
        torn
    };
    let grown = |file: usize| new[file].len() - old[file].len();
    let mut states = Vec::new(); // (payload, index, journal, rows that must be there)
    for bytes in 0..=grown(0) {
        states.push((torn(0, bytes), old[1].clone(), old[2].clone(), 2));
    }
    for bytes in 0..=grown(1) {
        states.push((torn(0, grown(0)), torn(1, bytes), old[2].clone(), 2));
    }
    for bytes in 0..=grown(2) {
        let rows = if bytes == grown(2) { 5 } else { 2 };
        states.push((torn(0, grown(0)), torn(1, grown(1)), torn(2, bytes), rows));
    }
    states.push((new[0].clone(), torn(1, grown(1)), new[2].clone(), 5)); // one header written
    for (payload, index, journal, rows) in states {
        for (name, bytes) in files.iter().zip([payload, index, journal]) {
            fs::write(before.path.join(name), bytes).unwrap();
        }
        let bank = Bank::open(&before.path).unwrap();
        let part = bank.parts().next().unwrap();
        assert_eq!((part.rows, part.header_behind), (rows, rows == 5));
        assert!(bank.verify(&Control::new()).unwrap().damage.is_empty());
        let mut writer = PartWriter::open(&before.path, "a").unwrap();
        assert!(!Bank::open(&before.path).unwrap().parts().next().unwrap().header_behind);
        for row in bank.missing_rows().unwrap() {
            append(&mut writer, &[row]);
        }
        drop(writer);
        let bank = Bank::open(&before.path).unwrap();
        assert_eq!(read_all(&bank), block(&[0, 1, 2, 3, 4, 5], 3));
        assert!(bank.verify(&Control::new()).unwrap().damage.is_empty());
    }
}

/// Verification by path needs no bank that opens: it names the file, and the block where one is at fault.
#[test]
fn every_flipped_bit_is_found() {
    let made = small();
    for name in ["a.npy", "a.rows.npy", "a.journal", "b.npy", "b.rows.npy", "b.journal"] {
        let path = made.path.join(name);
        let sound = fs::read(&path).unwrap();
        for bit in 0..sound.len() * 8 {
            let mut flipped = sound.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            fs::write(&path, &flipped).unwrap();
            let report = Verification::of(&made.path, &Control::new()).unwrap();
            assert!(!report.damage.is_empty(), "{name}, bit {bit} is not found");
            assert!(report.damage.iter().all(|d| d.part == name[..1]), "{name} {bit}: {report:?}");
            if !name.contains("journal") {
                let [damage] = &report.damage[..] else { panic!("{name} {bit}: {report:?}") };
                assert_eq!(damage.path, path);
                assert_eq!(damage.block.is_some(), bit / 8 >= 128, "{name} {bit}: {damage:?}");
                if damage.block.is_some() {
                    let row = (bit as u64 / 8 - 128) / if name.contains("rows") { 8 } else { 6 };
                    assert!((damage.start..damage.stop).contains(&row), "{damage:?}");
                }
            }
            // what opening says is true as well
            match check(&made.path) {
                Err(Error::CorruptBank { path: named, .. }) => {
                    let file = named.file_name().unwrap().to_string_lossy();
                    assert!(file.starts_with(&name[..1]), "{name} {bit}: {named:?}");
                }
                Err(error) => panic!("{name}, bit {bit}: {error}"),
                Ok(opened) => assert_eq!(opened, report),
            }
        }
        fs::write(&path, sound).unwrap();
    }
    assert!(check(&made.path).unwrap().damage.is_empty());
}

#[test]
fn a_damaged_index_puts_no_blame_on_a_sound_part() {
    let made = small();
    let bank = Bank::open(&made.path).unwrap();
    let path = made.path.join("a.rows.npy");
    patch(&path, |bytes| bytes[128 + 8] ^= 4); // row 1 becomes 5, which part b holds
    let message = Bank::open(&made.path).err().unwrap().to_string();
    assert!(message.contains("a.rows.npy: block 0, lines 0 to 3"), "{message}");
    for report in
        [bank.verify(&Control::new()).unwrap(), Verification::of(&made.path, &Control::new()).unwrap()]
    {
        let [damage] = &report.damage[..] else { panic!("{report:?}") };
        assert_eq!((damage.part.as_str(), damage.block, damage.start, damage.stop), ("a", Some(0), 0, 4));
        assert_eq!((report.parts, report.blocks, report.rows), (2, 3, 10)); // all was read
    }
    let message = PartWriter::open(&made.path, "c").err().unwrap().to_string();
    assert!(message.contains("a.rows.npy: block 0, lines 0 to 3"), "{message}");
}

#[test]
fn verification_collects_what_opening_refuses() {
    let made = small();
    fs::write(made.path.join("a copy.journal"), "").unwrap();
    let file = fs::OpenOptions::new().write(true).open(made.path.join("a.npy")).unwrap();
    file.set_len(128 + 5 * 6).unwrap(); // block 0 whole, block 1 cut
    patch(&made.path.join("b.rows.npy"), |bytes| bytes[20] ^= 1);
    assert!(Bank::open(&made.path).is_err());
    let report = Verification::of(&made.path, &Control::new()).unwrap();
    let found: Vec<_> = report.damage.iter().map(|d| (d.part.as_str(), d.block)).collect();
    assert_eq!(found, [("", None), ("a", Some(1)), ("b", None)], "{report:?}");
    assert!(report.damage[1].reason.contains("ends before the block does"));
    // journals that promise anything
    for rows in [11, 1 << 40, u64::MAX / 6, u64::MAX] {
        let line = journal::Block { rows, offset: 0, payload: 0, index: 0 }.line();
        fs::write(made.path.join("a.journal"), line).unwrap();
        let report = Verification::of(&made.path, &Control::new()).unwrap();
        assert!(report.damage.iter().any(|d| d.path.ends_with("a.journal")), "{report:?}");
    }
    // a row that two processes wrote: both blocks are named
    let made = create(4, 1, Dtype::F16);
    let (mut a, mut b) =
        (PartWriter::open(&made.path, "a").unwrap(), PartWriter::open(&made.path, "b").unwrap());
    append(&mut a, &[0, 1]);
    append(&mut b, &[2]);
    append(&mut b, &[3, 1]);
    let report = Verification::of(&made.path, &Control::new()).unwrap();
    let [damage] = &report.damage[..] else { panic!("{report:?}") };
    assert_eq!((damage.part.as_str(), damage.block), ("b", Some(1)));
    assert!(damage.reason.contains("row 1, and so does block 0 of part \"a\""), "{}", damage.reason);
}

#[test]
fn every_truncation_is_found_on_opening() {
    let made = small();
    for name in ["a.npy", "a.rows.npy", "a.journal", "bank.json"] {
        let path = made.path.join(name);
        let sound = fs::read(&path).unwrap();
        for len in 0..sound.len() {
            fs::write(&path, &sound[..len]).unwrap();
            assert!(matches!(Bank::open(&made.path), Err(Error::CorruptBank { .. })), "{name} cut to {len}");
            if name != "bank.json" {
                let opened = PartWriter::open(&made.path, "a");
                assert!(matches!(opened, Err(Error::CorruptBank { .. })), "{name} cut to {len}");
            }
        }
        fs::write(&path, &sound).unwrap();
        if name != "bank.json" {
            fs::remove_file(&path).unwrap();
            let opened = Bank::open(&made.path);
            if name == "a.journal" {
                // the part is gone: its rows are missing, and nothing else is wrong
                assert_eq!(opened.unwrap().missing_rows().unwrap().len(), 7);
            } else {
                assert!(opened.err().unwrap().to_string().contains("is missing"));
            }
            fs::write(&path, sound).unwrap();
        }
    }
}

#[test]
fn absurd_manifests_are_errors() {
    let made = small();
    let path = made.path.join("bank.json");
    let sound = fs::read_to_string(&path).unwrap();
    let max = u64::MAX.to_string();
    for (from, to) in [
        ("\"n_rows\": 10", "\"n_rows\": 6"),
        ("\"n_rows\": 10", "\"n_rows\": -1"),
        ("\"n_rows\": 10", "\"n_rows\": 1e99"),
        ("\"n_rows\": 10", &format!("\"n_rows\": {max}")),
        ("\"n_features\": 3", "\"n_features\": 0"),
        ("\"n_features\": 3", "\"n_features\": 4"),
        ("\"n_features\": 3", &format!("\"n_features\": {max}")),
        ("\"n_features\": 3", "\"n_features\": 268435456"),
        ("float16", "float32"),
        ("float16", "float64"),
        ("ssl-risk-bank", "something"),
        ("\"schema_version\": 1", "\"schema_version\": 2"),
        ("{", "["),
    ] {
        let text = sound.replacen(from, to, 1);
        assert_ne!(text, sound);
        fs::write(&path, text).unwrap();
        assert!(matches!(Bank::open(&made.path), Err(Error::CorruptBank { .. })), "{to}");
    }
    // a bank of four billion rows costs nothing until they are there
    fs::write(&path, sound.replacen("10", &u32::MAX.to_string(), 1)).unwrap();
    let bank = Bank::open(&made.path).unwrap();
    assert!(!bank.is_complete() && bank.n_missing() == u64::from(u32::MAX) - 10);
    let latin = [b"{\"name\": \"\xe9\", ", &sound.as_bytes()[1..]].concat();
    fs::write(&path, latin).unwrap();
    assert!(Bank::open(&made.path).err().unwrap().to_string().contains("is no UTF-8 text"));
    fs::remove_file(&path).unwrap();
    assert!(matches!(Bank::open(&made.path), Err(Error::Bank { .. })));
}

#[test]
fn absurd_journals_are_errors() {
    let made = small();
    for rows in [11, 1 << 40, u64::MAX / 6, u64::MAX] {
        let line = journal::Block { rows, offset: 0, payload: 0, index: 0 }.line();
        fs::write(made.path.join("a.journal"), line).unwrap();
        assert!(matches!(Bank::open(&made.path), Err(Error::CorruptBank { .. })), "{rows}");
    }
}

#[test]
fn runs_of_rows_that_leave_the_bank_are_errors() {
    let made = create(10, 1, Dtype::F16);
    append(&mut PartWriter::open(&made.path, "a").unwrap(), &[0, 1, 2, 3]);
    let (index, journal) = (made.path.join("a.rows.npy"), made.path.join("a.journal"));
    let payload = journal::Journal::parse(&fs::read(&journal).unwrap()).unwrap().blocks[0].payload;
    // by one row, by all, and beyond what a number holds
    for (first, beyond) in [(7, 10), (10, 10), (u64::MAX - 3, u64::MAX - 3), (u64::MAX - 2, u64::MAX - 2)] {
        let rows: Vec<u8> = (0..4).flat_map(|at| u64::wrapping_add(first, at).to_le_bytes()).collect();
        patch(&index, |bytes| bytes[128..].copy_from_slice(&rows));
        // as if it had been written so
        let line =
            journal::Block { rows: 4, offset: 0, payload, index: xxhash_rust::xxh3::xxh3_64(&rows) }.line();
        fs::write(&journal, line).unwrap();
        let names = format!("names row {beyond}, the bank has 10 rows");
        let message = Bank::open(&made.path).err().unwrap().to_string();
        assert!(message.contains(&names), "{message}");
        let report = Verification::of(&made.path, &Control::new()).unwrap();
        let [damage] = &report.damage[..] else { panic!("{report:?}") };
        assert!(damage.reason.contains(&names), "{}", damage.reason);
    }
}

#[test]
fn a_file_that_shrinks_after_opening_is_an_error() {
    let made = small();
    let bank = Bank::open(&made.path).unwrap();
    let matrix = bank.matrix().unwrap();
    let mut out = vec![0.0; 30];
    let rows: Vec<u32> = (0..10).collect();
    matrix.stage(&rows, &mut out, 3).unwrap();
    let file = fs::OpenOptions::new().write(true).open(made.path.join("a.npy")).unwrap();
    for len in [128 + 7 * 6 - 1, 128, 1, 0] {
        file.set_len(len).unwrap();
        assert!(matches!(matrix.stage(&rows, &mut out, 3), Err(Error::CorruptBank { .. })));
        assert!(matches!(bank.read(&[0], &Control::new()), Err(Error::CorruptBank { .. })));
        let damage = bank.verify(&Control::new()).unwrap().damage;
        assert!(!damage.is_empty() && damage.iter().all(|d| d.path == made.path.join("a.npy")), "{damage:?}");
    }
}

#[cfg(unix)]
#[test]
fn a_file_that_was_replaced_is_read_as_it_was() {
    let made = small();
    let bank = Bank::open(&made.path).unwrap();
    let (before, rows) = (read_all(&bank), (0..10).collect::<Vec<u32>>());
    let matrix = bank.matrix().unwrap();
    for len in [128 + 7 * 6, 10] {
        fs::write(made.path.join("other"), vec![0; len]).unwrap();
        fs::rename(made.path.join("other"), made.path.join("a.npy")).unwrap();
        let mut out = vec![0.0; 30];
        matrix.stage(&rows, &mut out, 3).unwrap();
        assert!(out == before && read_all(&bank) == before);
    }
}

#[test]
fn strangers_in_the_folder_are_told_from_parts() {
    let made = small();
    fs::write(made.path.join("notes.txt"), "mine").unwrap();
    fs::write(made.path.join("orphan.npy"), "no journal: no part").unwrap();
    assert!(Bank::open(&made.path).unwrap().is_complete());
    fs::write(made.path.join("a copy.journal"), "").unwrap();
    assert!(Bank::open(&made.path).err().unwrap().to_string().contains("not the name of a part"));
    fs::remove_file(made.path.join("a copy.journal")).unwrap();
    fs::create_dir(made.path.join("d.journal")).unwrap();
    assert!(matches!(Bank::open(&made.path), Err(Error::CorruptBank { .. })));
    assert!(matches!(PartWriter::open(&made.path, "d"), Err(Error::CorruptBank { .. })));
    assert!(matches!(Bank::open(&made.path.join("bank.json")), Err(Error::Bank { .. })));
}

#[test]
fn a_cancelled_verification_stops() {
    let made = small();
    let control = Control::new();
    control.cancel();
    let bank = Bank::open(&made.path).unwrap();
    assert!(matches!(bank.verify(&control), Err(Error::Interrupted)));
    assert!(matches!(bank.read(&[0], &control), Err(Error::Interrupted)));
}

#[test]
fn a_header_that_never_reached_the_disk_is_no_damage_of_an_empty_part() {
    for zeros in [0, 64, 128, 200] {
        let made = create(2, 1, Dtype::F16);
        drop(PartWriter::open(&made.path, "a").unwrap());
        for name in ["a.npy", "a.rows.npy"] {
            fs::write(made.path.join(name), vec![0; zeros]).unwrap();
        }
        assert!(check(&made.path).unwrap().damage.is_empty(), "{zeros}");
        let mut writer = PartWriter::open(&made.path, "a").unwrap();
        append(&mut writer, &[0, 1]);
        assert_eq!(read_all(&Bank::open(&made.path).unwrap()), block(&[0, 1], 1));
    }
}

#[test]
fn runs_with_a_gap_between_them_stay_two() {
    let made = create(256, 1, Dtype::F16);
    let rows = |ranges: [std::ops::Range<u64>; 2]| ranges.into_iter().flatten().collect::<Vec<_>>();
    append(&mut PartWriter::open(&made.path, "a").unwrap(), &rows([0..64, 128..192]));
    append(&mut PartWriter::open(&made.path, "b").unwrap(), &rows([64..128, 192..256]));
    let all: Vec<u64> = (0..256).collect();
    assert_eq!(read_all(&Bank::open(&made.path).unwrap()), block(&all, 1));
}

#[test]
fn an_index_header_that_is_behind_is_told() {
    let made = small();
    let older = npy::Layout::Index.header(4); // that of the first block
    patch(&made.path.join("a.rows.npy"), |bytes| bytes[..older.len()].copy_from_slice(&older));
    let bank = Bank::open(&made.path).unwrap();
    assert_eq!(bank.parts().map(|part| part.header_behind).collect::<Vec<_>>(), [true, false]);
    assert_eq!(bank.verify(&Control::new()).unwrap().behind, ["a"]);
}

#[test]
fn the_block_that_names_a_row_first_is_found_behind_others() {
    let made = create(6, 1, Dtype::F16);
    let (mut a, mut b) =
        (PartWriter::open(&made.path, "a").unwrap(), PartWriter::open(&made.path, "b").unwrap());
    append(&mut a, &[0, 1]);
    append(&mut a, &[2, 3]);
    append(&mut b, &[4, 3]);
    let report = Verification::of(&made.path, &Control::new()).unwrap();
    let [damage] = &report.damage[..] else { panic!("{report:?}") };
    assert!(damage.reason.contains("row 3, and so does block 1 of part \"a\""), "{}", damage.reason);
}

#[test]
fn a_manifest_that_changes_after_opening_is_told() {
    let made = small();
    let bank = Bank::open(&made.path).unwrap();
    let other = create(10, 2, Dtype::F16);
    fs::copy(other.path.join("bank.json"), made.path.join("bank.json")).unwrap();
    let message = bank.verify(&Control::new()).unwrap_err().to_string();
    assert!(message.contains("bank.json has changed"), "{message}");
}

#[test]
fn rows_of_more_parts_than_stay_open_come_in_the_order_asked_for() {
    let (parts, each, d) = (60_u64, 4_u64, 3_u64);
    for dtype in [Dtype::F16, Dtype::F32] {
        let made = create(parts * each, d, dtype);
        for part in 0..parts {
            let mut writer = PartWriter::open(&made.path, &format!("p{part:02}")).unwrap();
            append(&mut writer, &(part * each..(part + 1) * each).collect::<Vec<_>>());
        }
        let bank = Bank::open(&made.path).unwrap();
        // row by row through all parts: neighbours in a part are asked for far from each other
        let rows: Vec<u64> =
            (0..each).flat_map(|row| (0..parts).map(move |part| part * each + row)).collect();
        for _ in 0..2 {
            assert_eq!(bank.read(&rows, &Control::new()).unwrap(), block(&rows, d));
        }
    }
}

#[test]
fn long_runs_of_float16_rows_are_widened_to_their_end() {
    let made = create(300, 300, Dtype::F16); // 256 rows at a time are more than 65,536 numbers
    let rows: Vec<u64> = (0..300).collect();
    append(&mut PartWriter::open(&made.path, "a").unwrap(), &rows);
    assert_eq!(read_all(&Bank::open(&made.path).unwrap()), block(&rows, 300));
}

#[test]
fn rows_of_an_incomplete_bank_are_not_read() {
    let made = create(4, 1, Dtype::F16);
    append(&mut PartWriter::open(&made.path, "a").unwrap(), &[0, 1]);
    let bank = Bank::open(&made.path).unwrap();
    let error = bank.read(&[0], &Control::new()).unwrap_err();
    assert!(
        matches!(error, Error::Bank { .. }) && error.to_string().contains("2 of 4 rows are missing"),
        "{error}"
    );
}

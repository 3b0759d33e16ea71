//! Power failures and failing disks: a disk that logs each step of a writer, and may refuse one.

use std::io::{Error as IoError, Result as IoResult};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use super::*;
use crate::bank::disk::{Disk, Role, System};

const FILES: [(Role, &str); 3] =
    [(Role::Payload, "a.npy"), (Role::Index, "a.rows.npy"), (Role::Journal, "a.journal")];

#[derive(Debug, Clone, PartialEq)]
enum Step {
    Write {
        role: Role,
        offset: usize,
        bytes: Vec<u8>,
    },
    Cut {
        role: Role,
        len: usize,
    },
    Sync {
        role: Role,
    },
    /// Not a step of the disk: `append` has returned, so many rows are promised.
    Promise {
        rows: u64,
    },
}

/// Does what the system does, until the step that it refuses, and from then on.
#[derive(Default)]
struct Log {
    steps: Mutex<Vec<Step>>,
    /// Number of the step that fails; later ones do as well.
    fails: Option<usize>,
}

impl Log {
    fn failing_at(step: usize) -> Arc<Self> {
        Arc::new(Self { fails: Some(step), ..Self::default() })
    }

    fn note(&self, step: Step, work: impl FnOnce() -> IoResult<()>) -> IoResult<()> {
        let mut steps = self.steps.lock().unwrap();
        if self.fails.is_some_and(|at| steps.len() >= at) {
            return Err(IoError::other("refused by the test"));
        }
        steps.push(step);
        work()
    }

    fn promise(&self, rows: u64) {
        self.steps.lock().unwrap().push(Step::Promise { rows });
    }

    fn steps(&self) -> Vec<Step> {
        self.steps.lock().unwrap().clone()
    }
}

impl Disk for Log {
    fn write_at(&self, role: Role, file: &fs::File, offset: u64, bytes: &[u8]) -> IoResult<()> {
        let step = Step::Write { role, offset: offset as usize, bytes: bytes.to_vec() };
        self.note(step, || System.write_at(role, file, offset, bytes))
    }

    fn cut(&self, role: Role, file: &fs::File, len: u64) -> IoResult<()> {
        self.note(Step::Cut { role, len: len as usize }, || System.cut(role, file, len))
    }

    fn sync(&self, role: Role, file: &fs::File) -> IoResult<()> {
        self.note(Step::Sync { role }, || System.sync(role, file))
    }
}

fn apply(step: &Step, files: &mut [Vec<u8>; 3]) {
    match step {
        Step::Write { role, offset, bytes } => {
            let file = &mut files[*role as usize];
            file.resize(file.len().max(offset + bytes.len()), 0);
            file[*offset..offset + bytes.len()].copy_from_slice(bytes);
        }
        Step::Cut { role, len } => files[*role as usize].resize(*len, 0),
        Step::Sync { .. } | Step::Promise { .. } => {}
    }
}

fn role_of(step: &Step) -> Option<Role> {
    match step {
        Step::Write { role, .. } | Step::Cut { role, .. } | Step::Sync { role } => Some(*role),
        Step::Promise { .. } => None,
    }
}

fn images(path: &Path) -> [Vec<u8>; 3] {
    FILES.map(|(_, name)| fs::read(path.join(name)).unwrap_or_default())
}

/// Every state that a power failure may leave after each step: what was brought to disk, and any of the
/// changes that were not. In each the bank opens, and holds what was promised.
fn survives_power_failures(made: &Made, before: &[Vec<u8>; 3], steps: &[Step]) {
    let rows_at_first = u64::from(!before[2].is_empty()) * 2;
    for stop in 0..=steps.len() {
        let steps = &steps[..stop];
        let is_durable = |at: usize| {
            steps[at..]
                .iter()
                .any(|later| matches!(later, Step::Sync { role } if Some(*role) == role_of(&steps[at])))
        };
        let pending: Vec<usize> = (0..stop)
            .filter(|&at| matches!(steps[at], Step::Write { .. } | Step::Cut { .. }) && !is_durable(at))
            .collect();
        assert!(pending.len() < 8, "{} states", 1 << pending.len());
        let promised = steps.iter().rev().find_map(|step| match step {
            Step::Promise { rows } => Some(*rows),
            _ => None,
        });
        for subset in 0..1_u32 << pending.len() {
            let mut files = before.clone();
            for (at, step) in steps.iter().enumerate() {
                let lost = pending.iter().position(|&p| p == at).is_some_and(|bit| subset >> bit & 1 == 0);
                if !lost {
                    apply(step, &mut files);
                }
            }
            for ((_, name), bytes) in FILES.iter().zip(&files) {
                fs::write(made.path.join(name), bytes).unwrap();
            }
            let bank = Bank::open(&made.path).unwrap_or_else(|error| panic!("after {steps:?}: {error}"));
            let there: u64 = bank.parts().map(|part| part.rows).sum();
            assert!(there >= promised.unwrap_or(rows_at_first), "{there} rows after {steps:?}");
            assert!(bank.verify(&Control::new()).unwrap().damage.is_empty(), "after {steps:?}");
        }
    }
}

fn roles(steps: &[Step]) -> Vec<String> {
    let name = |step: &Step| match step {
        Step::Write { role, .. } => format!("write {role:?}"),
        Step::Cut { role, .. } => format!("cut {role:?}"),
        Step::Sync { role } => format!("sync {role:?}"),
        Step::Promise { .. } => "promise".into(),
    };
    steps.iter().map(name).collect()
}

#[test]
fn reopening_brings_the_journal_to_disk_before_the_headers() {
    let made = create(8, 3, Dtype::F32);
    append(&mut PartWriter::open(&made.path, "a").unwrap(), &[0, 1]);
    let log = Arc::new(Log::default());
    PartWriter::open_on(log.clone(), &made.path, "a").unwrap();
    let expected = [
        "write Journal", // the last line once more
        "cut Journal",
        "sync Journal",
        "write Payload",
        "write Index",
        "sync Payload",
        "sync Index",
    ];
    assert_eq!(roles(&log.steps()), expected);
}

#[test]
fn power_may_fail_at_any_step() {
    let made = create(8, 3, Dtype::F32);
    append(&mut PartWriter::open(&made.path, "a").unwrap(), &[0, 1]);
    let before = images(&made.path);
    let log = Arc::new(Log::default());
    let mut writer = PartWriter::open_on(log.clone(), &made.path, "a").unwrap();
    append(&mut writer, &[5, 4, 3]);
    log.promise(5);
    append(&mut writer, &[2]);
    log.promise(6);
    writer.close().unwrap();
    survives_power_failures(&made, &before, &log.steps());
}

/// A writer dies between the write of a journal line and its way to disk; power fails while the next one
/// opens the part.
#[test]
fn power_may_fail_while_a_dead_writer_is_followed() {
    let made = create(8, 3, Dtype::F32);
    append(&mut PartWriter::open(&made.path, "a").unwrap(), &[0, 1]);
    let before = images(&made.path);
    let log = Arc::new(Log::default());
    let mut writer = PartWriter::open_on(log.clone(), &made.path, "a").unwrap();
    let opened = log.steps().len();
    append(&mut writer, &[5, 4, 3]);
    drop(writer);
    let mut steps = log.steps();
    let line = steps.iter().rposition(|s| matches!(s, Step::Write { role: Role::Journal, .. })).unwrap();
    assert!(line > opened);
    steps.truncate(line + 1);
    let mut files = before.clone();
    steps.iter().for_each(|step| apply(step, &mut files));
    for ((_, name), bytes) in FILES.iter().zip(&files) {
        fs::write(made.path.join(name), bytes).unwrap();
    }
    let next = Arc::new(Log::default());
    let mut writer = PartWriter::open_on(next.clone(), &made.path, "a").unwrap();
    next.promise(5); // whoever opens the part is told so
    append(&mut writer, &[7]);
    next.promise(6);
    steps.extend(next.steps());
    survives_power_failures(&made, &before, &steps);
}

/// Each step fails in turn; what the error says of the block is true.
#[test]
fn an_error_says_what_is_true_of_the_block() {
    let mut unknown = 0;
    for step in 0.. {
        let made = create(8, 3, Dtype::F32);
        append(&mut PartWriter::open(&made.path, "a").unwrap(), &[0, 1]);
        let Ok(mut writer) = PartWriter::open_on(Log::failing_at(step), &made.path, "a") else {
            assert_eq!(check(&made.path).unwrap().rows, 2, "opening fails at step {step}");
            continue;
        };
        let rows = [5, 4, 3];
        let result = writer.append(&rows, Values::F32(&block(&rows, 3)));
        let again = writer.append(&[2], Values::F32(&block(&[2], 3)));
        let closed = writer.close();
        let there = check(&made.path).unwrap().rows;
        let mut next = PartWriter::open(&made.path, "a").unwrap();
        assert!(next.committed() == there, "step {step}: opening the part changes nothing");
        match &result {
            Ok(()) => {
                let of_second =
                    if matches!(again, Err(Error::Bank { .. })) { there - 5 } else { again.is_ok().into() };
                assert_eq!(there, 5 + of_second, "step {step}: a block that counts is not there");
                if again.is_ok() && closed.is_ok() {
                    break; // nothing failed
                }
            }
            Err(Error::Io { .. }) => assert_eq!(there, 2, "step {step}: nothing of the block counts"),
            Err(Error::Bank { path, reason }) => {
                assert!(path.ends_with("a.journal") && reason.contains("unknown whether"), "{reason}");
                assert_eq!(there, 5, "the line is written, and seen on this machine");
                unknown += 1;
            }
            Err(error) => panic!("step {step}: {error}"),
        }
        if result.is_err() {
            assert!(again.unwrap_err().to_string().contains("an earlier write failed"));
        }
        for row in Bank::open(&made.path).unwrap().missing_rows().unwrap() {
            append(&mut next, &[row]);
        }
        assert!(check(&made.path).unwrap().damage.is_empty());
    }
    assert_eq!(unknown, 1, "only the journal's sync leaves it open");
}

#[test]
fn closing_brings_both_headers_to_disk() {
    let made = create(4, 2, Dtype::F16);
    let log = Arc::new(Log::default());
    let mut writer = PartWriter::open_on(log.clone(), &made.path, "a").unwrap();
    append(&mut writer, &[0, 1]);
    let before = log.steps().len();
    writer.close().unwrap();
    assert_eq!(roles(&log.steps()[before..]), ["sync Payload", "sync Index"]);
}

/// Refuses to write a header of a payload once, when it is told to.
#[derive(Default)]
struct Refusing(AtomicBool);

impl Disk for Refusing {
    fn write_at(&self, role: Role, file: &fs::File, offset: u64, bytes: &[u8]) -> IoResult<()> {
        if role == Role::Payload && offset == 0 && self.0.swap(false, Ordering::SeqCst) {
            return Err(IoError::other("refused by the test"));
        }
        System.write_at(role, file, offset, bytes)
    }

    fn cut(&self, role: Role, file: &fs::File, len: u64) -> IoResult<()> {
        System.cut(role, file, len)
    }

    fn sync(&self, role: Role, file: &fs::File) -> IoResult<()> {
        System.sync(role, file)
    }
}

#[test]
fn a_header_that_could_not_be_written_is_written_on_closing() {
    let made = create(4, 2, Dtype::F16);
    let disk = Arc::new(Refusing::default());
    let mut writer = PartWriter::open_on(disk.clone(), &made.path, "a").unwrap();
    disk.0.store(true, Ordering::SeqCst);
    append(&mut writer, &[0, 1]); // the journal decides: the block counts
    let is_behind = || Bank::open(&made.path).unwrap().parts().any(|part| part.header_behind);
    assert!(is_behind());
    writer.close().unwrap();
    assert!(!is_behind());
}

//! Which room of the core may use which: held by reading every path in its sources.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Each room, and the rooms it may use, which stand above it: there is no circle.
const ROOMS: &[(&str, &[&str])] = &[
    ("error", &[]),
    ("control", &["error"]),
    ("values", &[]),
    ("scaling", &["error"]),
    ("sampling", &["error"]),
    ("kernel", &["control", "error", "values"]),
    ("rows", &["control", "error", "kernel", "values"]),
    ("bank", &["control", "error", "kernel", "rows"]),
    ("moments", &["control", "error", "kernel", "rows", "scaling"]),
    ("geometry", &["control", "error", "kernel", "moments", "rows"]),
    ("probe", &["control", "error", "kernel", "moments", "rows", "scaling"]),
    ("risk", &["control", "error", "kernel", "probe", "rows"]),
];
/// Names that the crate's root gives on.
const ROOT: &[(&str, &str)] =
    &[("Error", "error"), ("Result", "error"), ("Control", "control"), ("Run", "control")];

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder of sources") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|end| end == "rs") {
            found.push(path);
        }
    }
}

/// Rooms that a text names, but in comments and tests.
fn used(text: &str) -> BTreeSet<String> {
    let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    let lines = code.lines().filter(|line| !line.trim_start().starts_with("//"));
    let names = lines.flat_map(|line| line.split("crate::").skip(1));
    names
        .map(|rest| rest.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or_default())
        .map(|name| ROOT.iter().find(|(given, _)| *given == name).map_or(name, |(_, room)| room).to_string())
        .collect()
}

#[test]
fn rooms_use_only_those_above_them() {
    for (place, (room, uses)) in ROOMS.iter().enumerate() {
        for other in *uses {
            assert!(ROOMS[..place].iter().any(|(above, _)| above == other), "{room}: {other} is not above");
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&root, &mut files);
    assert!(files.len() > 50, "sources of the crate");
    for path in files {
        let below = path.strip_prefix(&root).expect("below src");
        let first = below.iter().next().and_then(|name| name.to_str()).expect("a name");
        let room = first.trim_end_matches(".rs");
        let is_test = below.components().any(|part| part.as_os_str().to_string_lossy().contains("tests"));
        if room == "lib" || is_test {
            continue;
        }
        let known = ROOMS.iter().find(|(name, _)| *name == room);
        let (_, uses) = known.unwrap_or_else(|| panic!("{first} is no room"));
        for other in used(&fs::read_to_string(&path).expect("a source")) {
            assert!(other == room || uses.contains(&&*other), "{} uses {other}", below.display());
        }
    }
}

#[test]
fn paths_are_found_in_code_only() {
    let text = "//! [`crate::probe`]\nuse crate::rows::Matrix;\nfn f() -> crate::Result<()> { crate::risk::judge() }\n\
                #[cfg(test)]\nmod tests { use crate::bank::Bank; }";
    assert_eq!(used(text), ["error", "risk", "rows"].map(String::from).into());
}

//! Replays what fuzzing begins with and what it has found.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use fuzz_targets::TARGETS;

fn folder(kind: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(kind)
}

/// The inputs of a target, by path; none where it has no folder.
fn inputs(kind: &str, target: &str) -> Vec<PathBuf> {
    let entries = match fs::read_dir(folder(kind).join(target)) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Vec::new(),
        entries => entries.unwrap(),
    };
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

#[test]
fn every_input_of_the_corpora_and_every_former_crash_holds() {
    for target in TARGETS {
        let corpus = inputs("corpus", target.name);
        assert!(!corpus.is_empty(), "{} has no corpus", target.name);
        for path in corpus.iter().chain(&inputs("crashes", target.name)) {
            let input = fs::read(path).unwrap();
            let held = std::panic::catch_unwind(|| (target.check)(&input));
            assert!(held.is_ok(), "{} does not hold for {}", target.name, path.display());
        }
    }
}

#[test]
fn every_folder_and_every_fuzz_program_belongs_to_a_target() {
    let is_target = |name: &str| TARGETS.iter().any(|target| target.name == name);
    for kind in ["corpus", "crashes", "fuzz_targets"] {
        let entries = match fs::read_dir(folder(kind)) {
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            entries => entries.unwrap(),
        };
        for entry in entries {
            let path = entry.unwrap().path();
            let name = path.file_stem().unwrap().to_string_lossy().into_owned();
            assert!(is_target(&name), "{} belongs to no target", path.display());
        }
    }
    for target in TARGETS {
        let program = folder("fuzz_targets").join(format!("{}.rs", target.name));
        assert!(program.is_file(), "{} has no program", target.name);
    }
}

//! The file of keys.

use std::path::Path;

use common::time::Timestamp;
use ingest_gateway::keys::KeyHash;
use ingest_gateway::keys::file::KeysFile;

/// A file that can be read can be read again as it is written, also after a change.
pub fn check(data: &[u8]) {
    let Ok(mut file) = parse(data) else { return };
    check_written(&file);
    let at = Timestamp::from_micros(1_704_067_200_000_000);
    if file.add("another", KeyHash::of("another"), at).is_ok() {
        file.disable("another", at).expect("it was added");
    }
    assert!(file.keys.iter().any(|key| key.name == "another"));
    check_written(&file);
}

fn check_written(file: &KeysFile) {
    let written = serde_json::to_vec_pretty(file).expect("every file can be written");
    assert_eq!(parse(&written).as_ref(), Ok(file));
}

fn parse(bytes: &[u8]) -> Result<KeysFile, String> {
    KeysFile::parse(Path::new("keys.json"), bytes).map_err(|error| error.to_string())
}

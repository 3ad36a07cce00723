//! The keys file: JSON, replaced as a whole, edited under a lock.

use std::borrow::Cow;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use common::time::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use tempfile::NamedTempFile;

use super::KeyHash;

/// The largest keys file that is read: some hundred thousand keys.
const FILE_LIMIT_BYTES: u64 = 64 << 20;

/// What a keys file holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeysFile {
    /// The keys, oldest first.
    pub keys: Vec<KeyEntry>,
}

/// One key, as its hash.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyEntry {
    /// What people call it; no two keys have the same name.
    pub name: String,
    /// Hash of the key.
    pub sha256: KeyHash,
    /// When it was made.
    #[serde(serialize_with = "write_rfc3339", deserialize_with = "read_rfc3339")]
    pub created_at: Timestamp,
    /// When it was disabled; until then it is valid.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        serialize_with = "write_rfc3339_if_any",
        deserialize_with = "read_rfc3339_if_any"
    )]
    pub disabled_at: Option<Timestamp>,
}

/// Why the keys file cannot be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum KeysFileError {
    /// The file system refuses.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is not what `keys add` writes. Only the place is kept: somebody may have put a key
    /// there instead of its hash.
    #[error("{}: not as `keys add` writes it, at line {line}, column {column}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Where, from 1.
        line: usize,
        /// Where in the line, from 1.
        column: usize,
    },
    /// The file is larger than is read.
    #[error("{}: larger than {FILE_LIMIT_BYTES} bytes", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// Names tell keys apart.
    #[error("there is a key named {name:?} already")]
    NameTaken {
        /// The name asked for.
        name: String,
    },
    /// No key has this name.
    #[error("there is no key named {name:?}")]
    NoSuchName {
        /// The name asked for.
        name: String,
    },
}

impl KeysFile {
    /// Reads the file; one that does not exist holds no keys.
    ///
    /// # Errors
    /// See [`KeysFileError`].
    pub fn read(path: &Path) -> Result<Self, KeysFileError> {
        match read_bytes(path)? {
            Some(bytes) => Self::parse(path, &bytes),
            None => Ok(Self::default()),
        }
    }

    /// Reads the file's content.
    ///
    /// # Errors
    /// [`KeysFileError::Malformed`].
    pub fn parse(path: &Path, bytes: &[u8]) -> Result<Self, KeysFileError> {
        serde_json::from_slice(bytes).map_err(|error| KeysFileError::Malformed {
            path: path.to_owned(),
            line: error.line(),
            column: error.column(),
        })
    }

    /// Adds a key.
    ///
    /// # Errors
    /// [`KeysFileError::NameTaken`].
    pub fn add(
        &mut self,
        name: &str,
        sha256: KeyHash,
        created_at: Timestamp,
    ) -> Result<(), KeysFileError> {
        if self.keys.iter().any(|key| key.name == name) {
            return Err(KeysFileError::NameTaken { name: name.to_owned() });
        }
        self.keys.push(KeyEntry { name: name.to_owned(), sha256, created_at, disabled_at: None });
        Ok(())
    }

    /// Disables a key; one disabled before stays as it is.
    ///
    /// # Errors
    /// [`KeysFileError::NoSuchName`].
    pub fn disable(&mut self, name: &str, disabled_at: Timestamp) -> Result<(), KeysFileError> {
        match self.keys.iter_mut().find(|key| key.name == name) {
            Some(key) => {
                key.disabled_at.get_or_insert(disabled_at);
                Ok(())
            }
            None => Err(KeysFileError::NoSuchName { name: name.to_owned() }),
        }
    }
}

/// The file's content, if it exists.
///
/// # Errors
/// [`KeysFileError::Io`], [`KeysFileError::TooLarge`].
pub fn read_bytes(path: &Path) -> Result<Option<Vec<u8>>, KeysFileError> {
    let read = fs::metadata(path).and_then(|metadata| match metadata.len() {
        0..=FILE_LIMIT_BYTES => fs::read(path).map(Some),
        _ => Ok(None),
    });
    match read {
        Ok(Some(bytes)) => Ok(Some(bytes)),
        Ok(None) => Err(KeysFileError::TooLarge { path: path.to_owned() }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(KeysFileError::Io { path: path.to_owned(), source }),
    }
}

/// Changes the file: reads it, lets `change` edit it and puts the result in its place, so that
/// whoever reads sees the old keys or the new ones. A lock keeps two changes apart.
///
/// # Errors
/// See [`KeysFileError`]; then the file is as it was.
pub fn change<T>(
    path: &Path,
    change: impl FnOnce(&mut KeysFile) -> Result<T, KeysFileError>,
) -> Result<T, KeysFileError> {
    let at = |path: &Path| {
        let path = path.to_owned();
        move |source| KeysFileError::Io { path, source }
    };
    // The keys file itself is replaced, so the lock is held on one beside it that stays.
    let mut lock_path = path.as_os_str().to_owned();
    lock_path.push(".lock");
    let lock_path = PathBuf::from(lock_path);
    let lock = File::create(&lock_path).map_err(at(&lock_path))?;
    lock.lock().map_err(at(&lock_path))?;
    let mut file = KeysFile::read(path)?;
    let result = change(&mut file)?;
    replace(path, &file).map_err(at(path))?;
    Ok(result)
}

fn replace(path: &Path, file: &KeysFile) -> io::Result<()> {
    let directory = match path.parent() {
        Some(directory) if directory != Path::new("") => directory,
        _ => Path::new("."),
    };
    let mut temporary = NamedTempFile::new_in(directory)?;
    serde_json::to_writer_pretty(&mut temporary, file)?;
    temporary.write_all(b"\n")?;
    if let Ok(metadata) = fs::metadata(path) {
        // Whoever may read the keys may go on to do so.
        temporary.as_file().set_permissions(metadata.permissions())?;
    }
    temporary.as_file().sync_all()?;
    temporary.persist(path)?;
    Ok(())
}

fn write_rfc3339<S: Serializer>(time: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(time)
}

fn write_rfc3339_if_any<S: Serializer>(
    time: &Option<Timestamp>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match time {
        Some(time) => write_rfc3339(time, serializer),
        None => serializer.serialize_none(),
    }
}

/// Only what [`write_rfc3339`] writes: a number may be a time that RFC 3339 has no text for, and
/// the next change would leave a file that cannot be read.
fn read_rfc3339<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Timestamp, D::Error> {
    let text = Cow::<str>::deserialize(deserializer)?;
    Timestamp::parse_rfc3339(&text).map_err(de::Error::custom)
}

fn read_rfc3339_if_any<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Timestamp>, D::Error> {
    let text = Option::<Cow<'_, str>>::deserialize(deserializer)?;
    text.map(|text| Timestamp::parse_rfc3339(&text).map_err(de::Error::custom)).transpose()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(micros: i64) -> Timestamp {
        Timestamp::from_micros(1_704_067_200_000_000 + micros)
    }

    #[test]
    fn changes_are_read_back() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("keys.json");
        assert_eq!(KeysFile::read(&path).unwrap(), KeysFile::default());
        change(&path, |file| file.add("shop", KeyHash::of("a"), time(0))).unwrap();
        change(&path, |file| file.add("blog", KeyHash::of("b"), time(1))).unwrap();
        change(&path, |file| file.disable("shop", time(2))).unwrap();
        change(&path, |file| file.disable("shop", time(3))).unwrap();
        let expected = KeysFile {
            keys: vec![
                KeyEntry {
                    name: "shop".into(),
                    sha256: KeyHash::of("a"),
                    created_at: time(0),
                    disabled_at: Some(time(2)),
                },
                KeyEntry {
                    name: "blog".into(),
                    sha256: KeyHash::of("b"),
                    created_at: time(1),
                    disabled_at: None,
                },
            ],
        };
        assert_eq!(KeysFile::read(&path).unwrap(), expected);
    }

    #[test]
    fn a_file_with_a_time_that_cannot_be_written_is_not_read() {
        let sha256 = "0".repeat(64);
        let parse = |created_at: &str, disabled_at: &str| {
            let file = format!(
                r#"{{"keys":[{{"name":"shop","sha256":"{sha256}","created_at":{created_at},
                "disabled_at":{disabled_at}}}]}}"#
            );
            KeysFile::parse(Path::new("keys.json"), file.as_bytes()).is_ok()
        };
        let (writable, year_10000) = (r#""2024-01-01T00:00:00Z""#, "253402300800000");
        assert!(parse(writable, writable));
        assert!(parse(writable, "null"));
        assert!(!parse(year_10000, "null"));
        assert!(!parse(writable, year_10000));
    }

    #[test]
    fn a_change_that_fails_leaves_the_file_as_it_was() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("keys.json");
        change(&path, |file| file.add("shop", KeyHash::of("a"), time(0))).unwrap();
        let before = fs::read(&path).unwrap();
        let taken = change(&path, |file| file.add("shop", KeyHash::of("b"), time(0)));
        assert!(matches!(taken, Err(KeysFileError::NameTaken { .. })));
        let missing = change(&path, |file| file.disable("blog", time(0)));
        assert!(matches!(missing, Err(KeysFileError::NoSuchName { .. })));
        assert_eq!(fs::read(&path).unwrap(), before);
        fs::write(&path, "{").unwrap();
        let malformed = change(&path, |file| file.add("blog", KeyHash::of("b"), time(0)));
        assert!(matches!(malformed, Err(KeysFileError::Malformed { .. })));
    }

    #[test]
    fn changes_at_the_same_time_are_all_kept() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("keys.json");
        std::thread::scope(|scope| {
            for number in 0..8 {
                let path = &path;
                scope.spawn(move || {
                    let name = format!("key {number}");
                    change(path, |file| file.add(&name, KeyHash::of(&name), time(0))).unwrap();
                });
            }
        });
        assert_eq!(KeysFile::read(&path).unwrap().keys.len(), 8);
    }

    proptest::proptest! {
        #[test]
        fn a_file_written_is_read_back(
            keys in proptest::collection::vec(
                (".*", ".*", 0_i64..1 << 55, proptest::option::of(0_i64..1 << 55)),
                0..5,
            ),
        ) {
            let keys = keys.into_iter().map(|(name, key, created_at, disabled_at)| KeyEntry {
                name,
                sha256: KeyHash::of(&key),
                created_at: time(created_at),
                disabled_at: disabled_at.map(time),
            });
            let file = KeysFile { keys: keys.collect() };
            let written = serde_json::to_vec_pretty(&file).unwrap();
            let read = KeysFile::parse(Path::new("keys.json"), &written).unwrap();
            proptest::prop_assert_eq!(read, file);
        }
    }

    #[test]
    fn a_key_in_place_of_its_hash_is_not_quoted() {
        for text in [
            r#"{"keys": ["tdk_1"]}"#,
            r#"{"keys": "tdk_1"}"#,
            r#"{"keys": [{"name": "a", "sha256": "tdk_1", "created_at": "tdk_1"}]}"#,
        ] {
            let error = KeysFile::parse(Path::new("keys.json"), text.as_bytes()).unwrap_err();
            // With its causes, as the command and the service tell it.
            let error = format!("{:#}", anyhow::Error::from(error));
            assert!(error.contains("at line 1, column") && !error.contains("tdk_1"), "{error}");
        }
    }
}

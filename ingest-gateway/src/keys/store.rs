//! The keys that the service accepts now.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use clap::Args;
use common::options::{CheckOptions, Problems};

use super::KeyHash;
use super::file::{KeysFile, KeysFileError, read_bytes};
use crate::metrics::{GatewayMetrics, gauge_value};
use crate::problem::{Kind, Problem};
use crate::rate_limit::{RateLimit, RateLimits};
use crate::reload::Reload;

/// Who may send.
#[derive(Clone, Debug, Args)]
pub struct KeyOptions {
    /// The file with the hashes of the keys, which `keys add` writes.
    ///
    /// Set it to where the file is mounted; without it the gateway only starts with requests
    /// allowed that have no key.
    #[arg(long, env = "TAPEDECK_KEYS_FILE")]
    pub keys_file: Option<PathBuf>,

    /// Take requests without a key as well.
    ///
    /// Set it where everybody who can reach the gateway may send, as in an inner network.
    #[arg(long, env = "TAPEDECK_ALLOW_ANONYMOUS")]
    pub allow_anonymous: bool,

    /// Seconds between looks at whether the keys file has changed.
    ///
    /// Raise it where the file lies on storage that should not be asked every second; a disabled
    /// key is taken for as long.
    #[arg(long, env = "TAPEDECK_KEYS_RELOAD_SECONDS", default_value_t = 1)]
    pub keys_reload_seconds: u64,
}

impl CheckOptions for KeyOptions {
    fn check(&self, problems: &mut Problems) {
        problems.require(self.keys_reload_seconds > 0, "--keys-reload-seconds must not be 0");
        problems.require(
            self.keys_file.is_some() || self.allow_anonymous,
            "there are no keys: name a --keys-file, or allow requests without a key by \
             --allow-anonymous",
        );
        if let Some(Err(no_keys)) = self.keys_file.as_deref().map(|path| self.read(path)) {
            problems.add(no_keys);
        }
    }
}

impl KeyOptions {
    /// The file's content and what it says.
    fn read(&self, path: &Path) -> Result<(Option<Vec<u8>>, KeysFile), NoKeys> {
        let content = read_bytes(path)?;
        let file = parse(path, content.as_deref())?;
        if file.keys.is_empty() && !self.allow_anonymous {
            return Err(NoKeys::Empty(path.to_owned()));
        }
        Ok((content, file))
    }
}

/// The gateway has no keys and was not told to do without.
#[derive(Debug, thiserror::Error)]
pub enum NoKeys {
    /// The file cannot be read.
    #[error(transparent)]
    Unreadable(#[from] KeysFileError),
    /// The file holds no key.
    #[error("{} holds no keys: make one by `keys add`, or allow requests without a key by \
             --allow-anonymous", .0.display())]
    Empty(PathBuf),
}

/// One key in use.
#[derive(Debug)]
struct Key {
    disabled: bool,
    rate_limit: Arc<RateLimit>,
}

/// The keys in use, replaced when the file changes.
#[derive(Debug)]
pub struct KeyStore {
    keys: RwLock<HashMap<KeyHash, Key>>,
    /// The rate limit of requests without a key; without one there must be a key.
    anonymous: Option<Arc<RateLimit>>,
    /// Whether there is a file of keys, against which those presented are held.
    has_file: bool,
    rate_limits: RateLimits,
}

impl KeyStore {
    /// Reads the keys. Also gives what to hand to [`reload_on_change`], if there is a file.
    ///
    /// # Errors
    /// See [`NoKeys`].
    pub fn open(
        options: &KeyOptions,
        rate_limits: RateLimits,
        metrics: &GatewayMetrics,
    ) -> Result<(Arc<Self>, Option<KeysWatch>), NoKeys> {
        let store = Arc::new(Self {
            keys: RwLock::default(),
            anonymous: options.allow_anonymous.then(|| rate_limits.of_new_key()),
            has_file: options.keys_file.is_some(),
            rate_limits,
        });
        let Some(path) = &options.keys_file else {
            return Ok((store, None));
        };
        let (content, file) = options.read(path)?;
        store.replace(&file, metrics);
        let watch = KeysWatch {
            path: path.clone(),
            last_content: content,
            interval: Duration::from_secs(options.keys_reload_seconds),
        };
        Ok((store, Some(watch)))
    }

    /// Whether a request with this key may be taken now; gives the limits of its body.
    ///
    /// # Errors
    /// [`Kind::NoKey`], [`Kind::KeyDisabled`], [`Kind::RateLimited`].
    pub fn admit(&self, presented: Option<&str>) -> Result<Arc<RateLimit>, Problem> {
        let rate_limit = match (presented, &self.anonymous) {
            (Some(key), None) => self.of_key(key)?,
            (Some(key), Some(_)) if self.has_file => self.of_key(key)?,
            (_, Some(rate_limit)) => Arc::clone(rate_limit),
            (None, None) => {
                let detail = "send a key as Authorization: Bearer … or as ?key=…";
                return Err(Problem::new(Kind::NoKey, detail));
            }
        };
        rate_limit.take_request()?;
        Ok(rate_limit)
    }

    fn of_key(&self, presented: &str) -> Result<Arc<RateLimit>, Problem> {
        let hash = KeyHash::of(presented);
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        match keys.get(&hash) {
            Some(Key { disabled: false, rate_limit }) => Ok(Arc::clone(rate_limit)),
            Some(_) => Err(Problem::new(Kind::KeyDisabled, "this key has been disabled")),
            None => Err(Problem::new(Kind::NoKey, "this key is not known")),
        }
    }

    /// Takes over the file's keys; those there were before keep what they have used of their
    /// rate limits.
    fn replace(&self, file: &KeysFile, metrics: &GatewayMetrics) -> usize {
        let mut keys = self.keys.write().unwrap_or_else(PoisonError::into_inner);
        let replaced = file
            .keys
            .iter()
            .map(|entry| {
                let rate_limit = match keys.get(&entry.sha256) {
                    Some(key) => Arc::clone(&key.rate_limit),
                    None => self.rate_limits.of_new_key(),
                };
                (entry.sha256, Key { disabled: entry.disabled_at.is_some(), rate_limit })
            })
            .collect();
        *keys = replaced;
        metrics.keys.set(gauge_value(keys.len()));
        keys.len()
    }
}

/// A keys file, and what was last read of it.
#[derive(Debug)]
pub struct KeysWatch {
    path: PathBuf,
    last_content: Option<Vec<u8>>,
    interval: Duration,
}

/// Takes over the keys whenever the file's content changes, for ever. While the file cannot be
/// read, the keys read before stay valid.
pub async fn reload_on_change(watch: KeysWatch, store: Arc<KeyStore>, metrics: GatewayMetrics) {
    let KeysWatch { path, last_content, interval } = watch;
    let watched = path.clone();
    let reload = Reload {
        every: interval,
        last: last_content,
        read: move || read_bytes(&watched),
        failures: metrics.keys_reload_failures.clone(),
        take_over: move |content: &Option<Vec<u8>>| {
            let count = store.replace(&parse(&path, content.as_deref())?, &metrics);
            tracing::info!(keys = count, "keys reloaded");
            Ok(())
        },
        told: "keys not reloaded; those read before stay valid",
    };
    reload.on_change().await;
}

/// The keys in a file's content. One that has vanished is a mistake, not an empty list: it must
/// not lock everybody out.
fn parse(path: &Path, content: Option<&[u8]>) -> Result<KeysFile, KeysFileError> {
    match content {
        Some(bytes) => KeysFile::parse(path, bytes),
        None => Err(KeysFileError::Io {
            path: path.to_owned(),
            source: std::io::ErrorKind::NotFound.into(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use common::time::Timestamp;

    use super::*;
    use crate::keys::file::change;
    use crate::rate_limit::RateLimitOptions;

    fn metrics() -> GatewayMetrics {
        GatewayMetrics::with_series(&prometheus::Registry::new()).unwrap()
    }

    const WIRE_LIMIT_BYTES: usize = 1_000;

    fn open_with(
        options: &KeyOptions,
        rate_limit: RateLimitOptions,
    ) -> Result<Arc<KeyStore>, NoKeys> {
        let metrics = metrics();
        let rate_limits = RateLimits::new(rate_limit, WIRE_LIMIT_BYTES, &metrics);
        KeyStore::open(options, rate_limits, &metrics).map(|(store, _)| store)
    }

    fn options(keys_file: Option<PathBuf>, allow_anonymous: bool) -> KeyOptions {
        KeyOptions { keys_file, allow_anonymous, keys_reload_seconds: 1 }
    }

    #[test]
    fn keys_decide_who_may_send() {
        fn check(store: &KeyStore, key: Option<&str>, expected: Result<(), Kind>) {
            let admitted = store.admit(key).map(drop).map_err(|problem| problem.kind);
            assert_eq!(admitted, expected, "{key:?}");
        }
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("keys.json");
        let now = Timestamp::now();
        change(&path, |file| {
            file.add("good", KeyHash::of("good"), now)?;
            file.add("old", KeyHash::of("old"), now)?;
            file.disable("old", now)
        })
        .unwrap();
        let open = |options: &KeyOptions| open_with(options, RateLimitOptions::default()).unwrap();

        let keyed = open(&options(Some(path.clone()), false));
        check(&keyed, Some("good"), Ok(()));
        check(&keyed, Some("old"), Err(Kind::KeyDisabled));
        check(&keyed, Some("bad"), Err(Kind::NoKey));
        check(&keyed, None, Err(Kind::NoKey));

        let both = open(&options(Some(path), true));
        check(&both, Some("good"), Ok(()));
        check(&both, Some("bad"), Err(Kind::NoKey));
        check(&both, None, Ok(()));

        let anonymous = open(&options(None, true));
        check(&anonymous, Some("any"), Ok(()));
        check(&anonymous, None, Ok(()));
    }

    #[test]
    fn a_gateway_without_keys_does_not_open() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("keys.json");
        let open = |path: &PathBuf| {
            open_with(&options(Some(path.clone()), false), RateLimitOptions::default())
        };
        assert!(matches!(open(&path), Err(NoKeys::Unreadable(_))));
        std::fs::write(&path, r#"{"keys":[]}"#).unwrap();
        assert!(matches!(open(&path), Err(NoKeys::Empty(_))));
        std::fs::write(&path, "not JSON").unwrap();
        assert!(matches!(open(&path), Err(NoKeys::Unreadable(_))));
    }

    #[test]
    fn a_key_keeps_its_rate_limits_when_others_come_and_go() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("keys.json");
        change(&path, |file| file.add("first", KeyHash::of("first"), Timestamp::now())).unwrap();
        let rate_limit = RateLimitOptions {
            rate_limit_per_second: NonZeroU32::new(1),
            rate_limit_burst: NonZeroU32::new(2),
            rate_limit_bytes_per_second: NonZeroU32::new(1),
            rate_limit_burst_bytes: None,
        };
        let store = open_with(&options(Some(path.clone()), false), rate_limit).unwrap();
        let send = |key| store.admit(Some(key))?.take_bytes(WIRE_LIMIT_BYTES, WIRE_LIMIT_BYTES);
        assert!(send("first").is_ok());
        change(&path, |file| file.add("second", KeyHash::of("second"), Timestamp::now())).unwrap();
        store.replace(&KeysFile::read(&path).unwrap(), &metrics());
        assert_eq!(send("first").unwrap_err().kind, Kind::ByteRateLimited);
        assert_eq!(send("first").unwrap_err().kind, Kind::RateLimited);
        assert!(send("second").is_ok());
    }
}

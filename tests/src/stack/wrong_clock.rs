//! A clock that is hours off, for one process: libfaketime.

use std::env::consts::ARCH;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::launch::Launch;
use super::paths;

/// How long compiling a few lines may take.
const COMPILE_WITHIN: Duration = Duration::from_secs(60);

/// What makes a process see a wrong clock.
#[derive(Debug)]
pub struct WrongClock {
    libraries: String,
}

impl WrongClock {
    /// Whether libfaketime is installed.
    pub fn is_available() -> bool {
        faketime().exists()
    }

    /// Makes it ready, with its files in `folder`.
    ///
    /// # Errors
    /// When libfaketime or a C compiler is not installed.
    pub async fn prepare(folder: &Path) -> Result<Self> {
        ensure!(Self::is_available(), "no {}: install faketime", faketime().display());
        let source = paths::repository().join("deploy/local/faketime/cnd_timedwait.c");
        let waits = folder.join("libcnd_timedwait.so");
        let compiling = Launch::new("cc", "/usr/bin/cc", folder.join("cc.log"))
            .arguments(["-O2", "-shared", "-fPIC", "-o"])
            .arguments([&waits, &source])
            .start()
            .context("is a C compiler installed?")?;
        let status = compiling.wait_for_exit(COMPILE_WITHIN).await?;
        ensure!(status.success(), "{status}: {}", compiling.log());
        Ok(Self { libraries: format!("{} {}", waits.display(), faketime().display()) })
    }

    /// The variables with which a process sees a clock that is so many hours ahead (or behind).
    /// How long something takes, it sees rightly.
    pub fn variables(&self, hours: i64) -> [(&'static str, String); 3] {
        [
            ("LD_PRELOAD", self.libraries.clone()),
            ("FAKETIME", format!("{hours:+}h")),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
        ]
    }
}

/// Where Debian and Ubuntu put the library.
fn faketime() -> PathBuf {
    format!("/usr/lib/{ARCH}-linux-gnu/faketime/libfaketimeMT.so.1").into()
}

//! The pages of `docs/` that tell what the services export and what they can be told: made from the
//! code, so that they cannot say anything else.
//!
//! [`metrics`] is about `docs/metrics.md`, [`configuration`] about `docs/configuration.md`. The
//! tests hold both against what is committed, and every metric that a rule, dashboard or page names
//! against what there is.

#![forbid(unsafe_code)]

pub mod configuration;
pub mod metrics;

use std::path::Path;

use anyhow::{Context, Result};

/// A page made from the code.
#[derive(Debug)]
pub struct Page {
    /// Its file, from the repository's root.
    pub path: &'static str,
    /// What it should say.
    pub text: String,
}

/// All pages.
///
/// # Errors
/// When an option or metric lacks what its page has to tell.
pub fn pages() -> Result<[Page; 2]> {
    Ok([
        Page { path: "docs/metrics.md", text: metrics::page()? },
        Page { path: "docs/configuration.md", text: configuration::page()? },
    ])
}

/// The repository's root.
pub fn repository() -> &'static Path {
    let crate_folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    crate_folder.parent().unwrap_or(crate_folder)
}

impl Page {
    /// What it says now.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn written(&self) -> Result<String> {
        let path = repository().join(self.path);
        std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
    }

    /// Has it say what it should.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self) -> Result<()> {
        let path = repository().join(self.path);
        std::fs::write(&path, &self.text)
            .with_context(|| format!("cannot write {}", path.display()))
    }
}

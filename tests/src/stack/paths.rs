//! Where things are: the repository and the programs built from it.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

/// The repository that this crate was built in.
pub fn repository() -> &'static Path {
    let crate_folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    crate_folder.parent().unwrap_or(crate_folder)
}

/// Where the services' programs are taken from.
#[derive(Clone, Debug, Default)]
pub enum Programs {
    /// Built with the program that runs now.
    #[default]
    Built,
    /// In a folder, such as those of another version.
    In(PathBuf),
}

impl Programs {
    /// A program's file.
    ///
    /// # Errors
    /// When it is not there.
    pub fn file(&self, name: &str) -> Result<PathBuf> {
        match self {
            Self::Built => built_program(name),
            Self::In(folder) => {
                let file = folder.join(name);
                ensure!(file.is_file(), "{} is missing", file.display());
                Ok(file)
            }
        }
    }
}

/// A program of this workspace, built in the same profile as the one that runs now.
///
/// # Errors
/// When it has not been built.
pub fn built_program(name: &str) -> Result<PathBuf> {
    let current = std::env::current_exe().context("cannot tell which program runs")?;
    // target/debug/stack, or for a test target/debug/deps/it-0123456789abcdef.
    let folder = current.parent().context("the running program is in no folder")?;
    let profile = if folder.ends_with("deps") { folder.parent().unwrap_or(folder) } else { folder };
    let program = profile.join(name);
    if !program.is_file() {
        let release = if profile.ends_with("release") { " --release" } else { "" };
        bail!(
            "{} is missing: run `cargo build --workspace --bins{release}` first",
            program.display()
        );
    }
    Ok(program)
}

//! A file system in memory that can be filled up.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, ensure};

/// How much is written at a time to fill the disk up.
const BALLAST_CHUNK_BYTES: usize = 1 << 20;
/// The last gaps are filled in pieces of this size.
const LAST_CHUNK_BYTES: usize = 4096;

/// A mounted file system with a folder for Postgres; unmounted when dropped. Only root may.
#[derive(Debug)]
pub struct SmallDisk {
    path: PathBuf,
}

impl SmallDisk {
    /// Mounts `size_mib` MiB on `path`, which is made.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn mount(path: &Path, size_mib: u32) -> Result<Self> {
        fs::create_dir(path)?;
        let options = format!("size={size_mib}m,mode=0755");
        let shown = path.display().to_string();
        run("mount", &["-t", "tmpfs", "-o", &options, "tmpfs", &shown])?;
        let disk = Self { path: path.to_owned() };
        fs::create_dir(disk.space())?;
        run("chown", &["postgres", &disk.space().display().to_string()])?;
        Ok(disk)
    }

    /// The folder that a table space may lie in.
    pub fn space(&self) -> PathBuf {
        self.path.join("space")
    }

    /// Takes all the room that is left.
    ///
    /// # Errors
    /// When there is room still.
    pub fn fill(&self) -> Result<()> {
        use std::io::Write;
        let mut ballast = fs::File::create(self.ballast())?;
        for size in [BALLAST_CHUNK_BYTES, LAST_CHUNK_BYTES] {
            let chunk = vec![0; size];
            // Ends with "no space left", which is what is wanted.
            while ballast.write_all(&chunk).is_ok() {}
        }
        let more = vec![0; LAST_CHUNK_BYTES];
        ensure!(ballast.write_all(&more).is_err(), "{} is not full", self.path.display());
        Ok(())
    }

    /// Gives back what [`Self::fill`] took.
    ///
    /// # Errors
    /// When it was not filled.
    pub fn empty(&self) -> Result<()> {
        Ok(fs::remove_file(self.ballast())?)
    }

    fn ballast(&self) -> PathBuf {
        self.path.join("ballast")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Nothing can be done about it here; the folder's remover tries again.
        let _ = run("umount", &["-l", &self.path.display().to_string()]);
    }
}

fn run(program: &str, arguments: &[&str]) -> Result<()> {
    let status = Command::new(program).args(arguments).status()?;
    ensure!(status.success(), "{program} {arguments:?}: {status}");
    Ok(())
}

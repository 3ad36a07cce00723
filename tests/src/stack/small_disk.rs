//! A file system in memory that can be filled up.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, ensure};
use nix::sys::statvfs::statvfs;

/// More than is left of a page when the disk is full.
const TOO_MUCH: [u8; 8192] = [0; 8192];

/// Others may write between our look at what they use and our limiting them to it.
const FILL_ATTEMPTS: usize = 100;

/// A mounted file system with a folder for Postgres; unmounted when dropped. Only root may.
#[derive(Debug)]
pub struct SmallDisk {
    path: PathBuf,
    size_bytes: u64,
}

impl SmallDisk {
    /// Mounts `size_mib` MiB on `path`, which is made.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn mount(path: &Path, size_mib: u32) -> Result<Self> {
        fs::create_dir(path)?;
        let size_bytes = u64::from(size_mib) << 20;
        let options = format!("size={size_bytes},mode=0755");
        let shown = path.display().to_string();
        run("mount", &["-t", "tmpfs", "-o", &options, "tmpfs", &shown])?;
        let disk = Self { path: path.to_owned(), size_bytes };
        fs::create_dir(disk.space())?;
        run("chown", &["postgres", &disk.space().display().to_string()])?;
        Ok(disk)
    }

    /// The folder that a table space may lie in.
    pub fn space(&self) -> PathBuf {
        self.path.join("space")
    }

    /// Takes all the room that is left: limits the disk to what is in use, which is done at once,
    /// whatever its size.
    ///
    /// # Errors
    /// When there is room still.
    pub fn fill(&self) -> Result<()> {
        let limited = (0..FILL_ATTEMPTS)
            .any(|_| self.used_bytes().is_ok_and(|used_bytes| self.resize(used_bytes).is_ok()));
        ensure!(limited, "{} cannot be limited to what is in use", self.path.display());
        let more = self.path.join("more");
        let refused = fs::write(&more, TOO_MUCH).is_err();
        fs::remove_file(&more)?;
        ensure!(refused, "{} is not full", self.path.display());
        Ok(())
    }

    /// Gives back what [`Self::fill`] took.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn empty(&self) -> Result<()> {
        self.resize(self.size_bytes)
    }

    fn used_bytes(&self) -> Result<u64> {
        let all = statvfs(&self.path)?;
        // A limit of nothing would be none.
        Ok((all.blocks() - all.blocks_free()).max(1) * all.fragment_size())
    }

    fn resize(&self, size_bytes: u64) -> Result<()> {
        let options = format!("remount,size={size_bytes}");
        run("mount", &["-o", &options, &self.path.display().to_string()])
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

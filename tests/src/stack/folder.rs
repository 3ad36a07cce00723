//! The temporary folder of a stack, which goes when its process does, whatever ends it.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};

/// How the folders of all stacks are called.
const PREFIX: &str = "tapedeck-";

/// A file in the folder that its owner keeps locked: while it is, the folder is in use.
const LOCK: &str = "lock";

/// A folder younger than this may belong to a process that has not locked it yet.
const LEAST_AGE: Duration = Duration::from_secs(60);

/// Waits for the end of its standard input, which comes with the end of the process that holds
/// the other side, and removes the folder; several attempts, as processes may still be dying in
/// it. A killed Postgres leaves a segment of shared memory too, and notes its number in line 7.
const REMOVE_AT_END: &str = r#"
    trap '' INT TERM HUP
    read -r _
    awk -v below="$1/" 'index($2, below) == 1 { print $2 }' /proc/mounts | xargs -r umount -l
    for server in "$1"/postgres-*/data/postmaster.pid; do
        segment=$(awk 'NR == 7 { print $2 }' "$server") && ipcrm --shmem-id "$segment"
    done
    for attempt in $(seq 50); do
        rm -rf -- "$1" && exit
        sleep 0.1
    done"#;

/// A folder in the system's place for temporary files.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    _lock: File,
    remover: Child,
}

impl Folder {
    /// Makes a folder, and removes those whose owners are gone without having removed theirs.
    ///
    /// # Errors
    /// When the folder, or the process that shall remove it, cannot be made.
    pub fn create() -> Result<Self> {
        let parent = std::env::temp_dir();
        remove_abandoned(&parent);
        let path = parent.join(format!("{PREFIX}{:016x}", rand::random::<u64>()));
        // Before there is anything to remove: no moment is left at which it would not be.
        let remover = Command::new("sh")
            .args(["-c", REMOVE_AT_END, "sh"])
            .arg(&path)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // Out of reach of the terminal's Ctrl-C.
            .process_group(0)
            .spawn()
            .context("cannot start sh")?;
        fs::create_dir(&path).with_context(|| format!("cannot make {}", path.display()))?;
        // Others may pass through, not look around: Postgres runs as another user than root.
        fs::set_permissions(&path, Permissions::from_mode(0o711))?;
        let lock = File::create(path.join(LOCK))?;
        lock.lock()?;
        Ok(Self { path, _lock: lock, remover })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(self.remover.stdin.take());
        // Nothing can be done about a folder that cannot be removed; the next stack tries again.
        let _ = self.remover.wait();
    }
}

/// Removes what is left of stacks that ended together with the process that should have cleaned
/// up, as when the machine did.
fn remove_abandoned(parent: &Path) {
    let Ok(entries) = fs::read_dir(parent) else { return };
    for entry in entries.flatten() {
        let named = entry.file_name().to_string_lossy().starts_with(PREFIX);
        if named && is_abandoned(&entry.path()) {
            // Another process may be removing it as well.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

fn is_abandoned(folder: &Path) -> bool {
    let Ok(lock) = File::open(folder.join(LOCK)) else { return false };
    let Ok(metadata) = lock.metadata() else { return false };
    let old = metadata.modified().ok().and_then(|time| time.elapsed().ok());
    metadata.uid() == nix::unistd::Uid::effective().as_raw()
        && old.is_some_and(|age| age > LEAST_AGE)
        && lock.try_lock().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_goes_with_its_owner() {
        let folder = Folder::create().unwrap();
        let path = folder.path().to_owned();
        fs::write(path.join("data"), "x").unwrap();
        drop(folder);
        assert!(!path.exists());
    }

    #[test]
    fn only_an_old_folder_that_nobody_holds_is_abandoned() {
        let folder = tempfile::tempdir().unwrap();
        assert!(!is_abandoned(folder.path()), "without a lock file it is not a stack's");
        let lock = File::create(folder.path().join(LOCK)).unwrap();
        assert!(!is_abandoned(folder.path()), "too young");
        lock.set_modified(std::time::SystemTime::now() - 2 * LEAST_AGE).unwrap();
        assert!(is_abandoned(folder.path()));
        lock.lock().unwrap();
        assert!(!is_abandoned(folder.path()), "held");
    }
}

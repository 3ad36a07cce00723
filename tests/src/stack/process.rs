//! A child process: its log, its signals, its end.

use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::signal::{self, Signal};
use nix::unistd::Pid;
use tokio::time::Instant;

use super::wait::POLL_INTERVAL;

/// What `/proc` counts CPU time in: USER_HZ, the same on every Linux there is (proc(5)).
const CLOCK_TICKS_PER_SECOND: f64 = 100.0;

/// Lines of a log that are shown with an error.
const SHOWN_LOG_LINES: usize = 30;

/// A child process. Dropping it kills it.
#[derive(Debug)]
pub struct Process {
    name: String,
    pid: Pid,
    child: Mutex<Child>,
    log: PathBuf,
    log_start: u64,
}

impl Process {
    /// The log belongs to it from the byte `log_start` on.
    pub(super) fn new(name: String, child: Child, log: PathBuf, log_start: u64) -> Result<Self> {
        let pid = Pid::from_raw(i32::try_from(child.id()).context("a process id beyond i32")?);
        Ok(Self { name, pid, child: Mutex::new(child), log, log_start })
    }

    /// What it is called in messages.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its process id. Means nothing once the process has ended.
    pub fn pid(&self) -> i32 {
        self.pid.as_raw()
    }

    /// What it has written to its log since it started.
    pub fn log(&self) -> String {
        let content = std::fs::read(&self.log).unwrap_or_default();
        let start = usize::try_from(self.log_start).unwrap_or(0).min(content.len());
        String::from_utf8_lossy(&content[start..]).into_owned()
    }

    /// How it ended, if it has.
    ///
    /// # Errors
    /// When the system cannot tell.
    pub fn exit_status(&self) -> Result<Option<ExitStatus>> {
        Ok(self.child.lock().unwrap_or_else(PoisonError::into_inner).try_wait()?)
    }

    /// Sends a signal. A process that has ended gets none, so its number may be another's by then.
    ///
    /// # Errors
    /// When the process has ended, or the system refuses.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let mut child = self.child.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(status) = child.try_wait()? {
            bail!("{} has already ended: {status}", self.name);
        }
        signal::kill(self.pid, signal)
            .with_context(|| format!("cannot send {signal} to {}", self.name))
    }

    /// Stops it where it is, without its knowing (SIGSTOP).
    ///
    /// # Errors
    /// See [`Self::signal`].
    pub fn freeze(&self) -> Result<()> {
        self.signal(Signal::SIGSTOP)
    }

    /// Lets a frozen process go on.
    ///
    /// # Errors
    /// See [`Self::signal`].
    pub fn thaw(&self) -> Result<()> {
        self.signal(Signal::SIGCONT)
    }

    /// The most memory that it has had resident so far, in bytes.
    ///
    /// # Errors
    /// When it has ended.
    pub fn memory_high_water_bytes(&self) -> Result<u64> {
        self.memory("VmHWM:")
    }

    /// The memory that it has resident now, in bytes.
    ///
    /// # Errors
    /// When it has ended.
    pub fn memory_bytes(&self) -> Result<u64> {
        self.memory("VmRSS:")
    }

    fn memory(&self, field: &str) -> Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid))?;
        memory_bytes(&status, field)
            .with_context(|| format!("{} has no memory: it has ended", self.name))
    }

    /// The CPU seconds that it and its children have taken so far, children that have ended too.
    ///
    /// # Errors
    /// When it has ended.
    pub fn cpu_seconds(&self) -> Result<f64> {
        let own = stat(self.pid()).as_deref().and_then(cpu_ticks);
        let own = own.with_context(|| format!("{} has ended", self.name))?;
        let children = children_of(self.pid());
        let children = children.iter().filter_map(|child| cpu_ticks(&stat(child.as_raw())?));
        let ticks = own + children.sum::<u64>();
        Ok(ticks as f64 / CLOCK_TICKS_PER_SECOND)
    }

    /// Whether it is stopped where it is (SIGSTOP).
    pub fn is_frozen(&self) -> bool {
        stat(self.pid()).is_some_and(|stat| stat.starts_with('T'))
    }

    /// Waits until `condition` gives something.
    ///
    /// # Errors
    /// When it does not `within` that time, or the process ends first; with the end of its log.
    pub async fn wait_until<T>(
        &self,
        awaited: &str,
        within: Duration,
        mut condition: impl AsyncFnMut() -> Option<T>,
    ) -> Result<T> {
        let end = Instant::now() + within;
        loop {
            if let Ok(Some(value)) = tokio::time::timeout_at(end, condition()).await {
                return Ok(value);
            }
            if let Some(status) = self.exit_status()? {
                bail!("{} ended ({status}) before {awaited}{}", self.name, self.end_of_log());
            }
            if Instant::now() >= end {
                bail!("{}: {awaited} not within {within:?}{}", self.name, self.end_of_log());
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// When it does not come `within` that time.
    pub async fn wait_for_exit(&self, within: Duration) -> Result<ExitStatus> {
        let end = Instant::now() + within;
        loop {
            if let Some(status) = self.exit_status()? {
                return Ok(status);
            }
            if Instant::now() >= end {
                bail!("{} did not end within {within:?}{}", self.name, self.end_of_log());
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }

    /// Asks it to end and waits until it has; does nothing when it has ended before.
    ///
    /// # Errors
    /// When it does not end `within` that time.
    pub async fn stop(&self, request: Signal, within: Duration) -> Result<ExitStatus> {
        if let Some(status) = self.exit_status()? {
            return Ok(status);
        }
        self.signal(request)?;
        self.wait_for_exit(within).await
    }

    /// Ends it at once (SIGKILL), also when frozen; does nothing when it has ended before.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn kill(&self) -> Result<ExitStatus> {
        let mut child = self.child.lock().unwrap_or_else(PoisonError::into_inner);
        child.kill()?;
        Ok(child.wait()?)
    }

    /// The last lines of its log, as the end of an error message.
    pub fn end_of_log(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        let shown = &lines[lines.len().saturating_sub(SHOWN_LOG_LINES)..];
        format!("; the end of {}:\n{}", self.log.display(), shown.join("\n"))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already; there is nobody to tell.
        let _ = self.kill();
    }
}

/// Processes whose parent is `parent`, as `/proc` has them now.
pub(super) fn children_of(parent: i32) -> Vec<Pid> {
    let Ok(entries) = Path::new("/proc").read_dir() else { return Vec::new() };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok())
        .filter(|pid| parent_of(*pid) == Some(parent))
        .map(Pid::from_raw)
        .collect()
}

fn parent_of(pid: i32) -> Option<i32> {
    stat(pid)?.split_whitespace().nth(1)?.parse().ok()
}

/// A field with memory of a `/proc/PID/status`, which counts in KiB; none of a process that has
/// ended.
fn memory_bytes(status: &str, field: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(field))?;
    let kibibytes: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kibibytes * 1024)
}

/// What `/proc/PID/stat` says from the state on: `PID (NAME) STATE PARENT …`, where the name may
/// hold anything.
fn stat(pid: i32) -> Option<String> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    Some(stat.rsplit_once(')')?.1.trim_start().to_owned())
}

/// The CPU time in a `stat`, from the state on: user and system, its own and that of the children
/// it has waited for.
fn cpu_ticks(stat: &str) -> Option<u64> {
    const FIRST: usize = 11;
    let mut fields = stat.split_whitespace().skip(FIRST);
    (0..4).try_fold(0, |sum, _| Some(sum + fields.next()?.parse::<u64>().ok()?))
}

/// Whether the process does anything still; one that only waits for its parent's question does
/// not.
pub(super) fn is_running(pid: Pid) -> bool {
    stat(pid.as_raw()).is_some_and(|stat| !stat.starts_with('Z'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_found_unless_the_process_has_ended() {
        let status = "Name:\twriter\nVmHWM:\t  204800 kB\nVmRSS:\t  102400 kB\n";
        assert_eq!(memory_bytes(status, "VmHWM:"), Some(200 << 20));
        assert_eq!(memory_bytes(status, "VmRSS:"), Some(100 << 20));
        assert_eq!(memory_bytes("Name:\twriter\nState:\tZ (zombie)\n", "VmRSS:"), None);
    }

    #[test]
    fn cpu_time_is_the_process_own_and_that_of_its_ended_children() {
        assert_eq!(cpu_ticks("S 1 2 3 0 -1 4194560 5 6 7 8 100 20 3000 400 20 0 1"), Some(3_520));
        assert_eq!(cpu_ticks("S 1 2"), None);
    }
}

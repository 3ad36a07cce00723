//! `stack up` and `stack down`: what they leave behind, which is nothing, and what they say.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, ExitStatus, Output};
use std::time::Duration;

use anyhow::{Context, Result};
use nix::sys::signal::Signal;
use tempfile::TempDir;
use tests::stack::launch::Launch;
use tests::stack::process::Process;
use tests::stack::supervisor::{Home, State};
use tests::stack::{Addresses, eventually, postgres};

const UP_WITHIN: Duration = Duration::from_secs(180);
const DOWN_WITHIN: Duration = Duration::from_secs(120);

const ANY_PORTS: [&str; 6] = [
    "--gateway-port=0",
    "--gateway-admin-port=0",
    "--writer-admin-port=0",
    "--reporter-admin-port=0",
    "--kafka-port=0",
    "--postgres-port=0",
];

/// Room for a named stack, with a place of its own for temporary files, by which what belongs to
/// it is told from everything else on the machine.
struct Room {
    name: String,
    home: Home,
    temporary: TempDir,
}

impl Room {
    fn new() -> Result<Self> {
        let name = format!("test-{}", uuid::Uuid::new_v4().simple());
        // As open as the system's own: Postgres may run as another user.
        let permissions = fs::Permissions::from_mode(0o711);
        let temporary = tempfile::Builder::new().permissions(permissions).tempdir()?;
        Ok(Self { home: Home::new(&name)?, name, temporary })
    }

    /// `stack up` in the foreground.
    fn up(&self) -> Result<Process> {
        let log = self.home.folder().join("test.log");
        fs::create_dir_all(self.home.folder())?;
        Launch::new("stack up", env!("CARGO_BIN_EXE_stack"), log)
            .arguments(["up", "--name", &self.name])
            .arguments(ANY_PORTS)
            .variable("TMPDIR", self.temporary.path().display().to_string())
            .start()
    }

    async fn addresses(&self, up: &Process) -> Result<Addresses> {
        up.wait_until("the stack is ready", UP_WITHIN, async || match self.home.state() {
            Ok(State::Running { addresses, .. }) => Some(*addresses),
            _ => None,
        })
        .await
    }

    /// Runs `stack` to its end, from a shell whose own settings must change nothing.
    fn run(&self, command: &str, arguments: &[&str]) -> Result<Output> {
        Command::new(env!("CARGO_BIN_EXE_stack"))
            .args([command, "--name", &self.name])
            .args(arguments)
            .env("TMPDIR", self.temporary.path())
            .envs([("PGHOST", "nowhere"), ("PGPORT", "1"), ("TAPEDECK_KAFKA_BROKERS", "nowhere:1")])
            .output()
            .context("stack does not run")
    }

    /// Waits until no process of the stack and none of its files is left.
    async fn is_left_clean(&self) -> Result<()> {
        eventually("nothing is left of the stack", DOWN_WITHIN, async || {
            let processes = running_with_temporary_files_in(self.temporary.path());
            let files = fs::read_dir(self.temporary.path()).into_iter().flatten().count();
            match (processes.is_empty(), files) {
                (true, 0) => Ok(()),
                _ => Err(format!("processes {processes:?}, {files} folders")),
            }
        })
        .await
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(self.home.folder());
    }
}

/// The commands of the processes whose environment names that folder. One that has ended but that
/// nobody has asked for its status has no environment any more.
fn running_with_temporary_files_in(folder: &Path) -> Vec<String> {
    let variable = format!("TMPDIR={}", folder.display());
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    processes
        .filter(|process| {
            let environment = fs::read(process.path().join("environ")).unwrap_or_default();
            environment.split(|byte| *byte == 0).any(|entry| entry == variable.as_bytes())
        })
        .map(|process| fs::read_to_string(process.path().join("comm")).unwrap_or_default())
        .collect()
}

#[tokio::test]
async fn two_stacks_run_side_by_side_and_stop_without_a_trace() -> Result<()> {
    let rooms = [Room::new()?, Room::new()?];
    let [first, second] = [rooms[0].up()?, rooms[1].up()?];
    let (first_at, second_at) =
        tokio::try_join!(rooms[0].addresses(&first), rooms[1].addresses(&second))?;
    for at in [&first_at, &second_at] {
        for admin in [&at.gateway_admin_url, &at.writer_admin_url, &at.reporter_admin_url] {
            reqwest::get(format!("{admin}/readyz")).await?.error_for_status()?;
        }
    }
    let client = postgres::connect(&first_at.database_admin_url).await?;
    client.batch_execute("CREATE TABLE only_here ()").await?;
    let client = postgres::connect(&second_at.database_url).await?;
    let tables = client
        .query("SELECT 1 FROM pg_tables WHERE tablename IN ('only_here', 'events')", &[])
        .await?;
    assert_eq!(tables.len(), 1, "the second stack has a database of its own");

    let stop = async |up: Process, room: &Room| -> Result<ExitStatus> {
        let status = up.stop(Signal::SIGTERM, DOWN_WITHIN).await?;
        assert!(status.success(), "{}", up.log());
        assert!(!room.home.addresses_file().exists());
        room.is_left_clean().await?;
        Ok(status)
    };
    tokio::try_join!(stop(first, &rooms[0]), stop(second, &rooms[1]))?;
    Ok(())
}

#[tokio::test]
async fn whatever_ends_the_supervisor_leaves_nothing() -> Result<()> {
    for (moment, signal) in [
        ("starting Kafka and Postgres", Signal::SIGINT),
        ("starting Kafka and Postgres", Signal::SIGKILL),
        ("migrating the database", Signal::SIGKILL),
        ("starting the gateway", Signal::SIGINT),
        ("ready", Signal::SIGKILL),
    ] {
        let room = Room::new()?;
        let up = room.up()?;
        let reached = async || up.log().lines().any(|line| line.starts_with(moment)).then_some(());
        up.wait_until(moment, UP_WITHIN, reached).await?;
        up.signal(signal)?;
        room.is_left_clean().await.with_context(|| format!("{signal} at {moment:?}"))?;
        assert_eq!(room.home.state()?, State::Stopped);
    }
    Ok(())
}

#[tokio::test]
async fn a_port_in_use_is_named_with_its_option() -> Result<()> {
    let taken = TcpListener::bind(("127.0.0.1", 0))?;
    let port = taken.local_addr()?.port();
    let room = Room::new()?;
    let mut arguments = ANY_PORTS.to_vec();
    let kafka_port = format!("--kafka-port={port}");
    arguments[4] = &kafka_port;
    let output = room.run("up", &arguments)?;
    assert!(!output.status.success());
    let said = String::from_utf8(output.stderr)?;
    assert!(said.contains(&format!("port {port} is in use")), "{said}");
    assert!(said.contains("--kafka-port"), "{said}");
    room.is_left_clean().await
}

#[tokio::test]
async fn a_stack_in_the_background_is_started_once_and_stopped_once() -> Result<()> {
    let room = Room::new()?;
    let mut arguments = ANY_PORTS.to_vec();
    arguments.push("--detach");
    let first = room.run("up", &arguments)?;
    assert!(first.status.success(), "{}", String::from_utf8_lossy(&first.stderr));
    let again = String::from_utf8(room.run("up", &arguments)?.stdout)?;
    assert!(again.contains("runs already"), "{again}");
    let State::Running { addresses, .. } = room.home.state()? else { panic!("not running") };
    assert!(again.contains(&addresses.to_shell()), "{again}");

    assert_eq!(String::from_utf8(room.run("down", &[])?.stdout)?, "stopped\n");
    room.is_left_clean().await?;
    let nothing = room.run("down", &[])?;
    assert!(nothing.status.success());
    assert_eq!(String::from_utf8(nothing.stdout)?, "no stack is running\n");
    Ok(())
}

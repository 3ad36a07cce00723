//! TCP ports of this machine: free ones, and those that a stack is told to use.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, TcpListener};
use std::ops::Range;
use std::sync::Mutex;

use anyhow::{Context, Result, bail};
use clap::Args;

/// Below the range that Linux takes the ports of outgoing connections from, so that none of them
/// takes a port while its server restarts.
const RANGE: Range<u16> = 20_000..32_000;

/// Attempts to find a free port before giving up: in a range so large, hopeless if not enough.
const ATTEMPTS: usize = 200;

/// Attempts to start a server on ports that something else may take in the meantime.
const START_ATTEMPTS: usize = 5;

/// How servers say that something else has taken their port.
const PORT_TAKEN: &str = "Address already in use";

/// Ports given out in this process: whoever asked may not have bound it yet.
static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());

/// A port of the loopback interface that nothing listens on, for servers that cannot be told to
/// choose one themselves. Another process may still be faster to bind it: the server's start has
/// to be tried again then.
///
/// # Errors
/// When no free port is found.
pub fn free_port() -> Result<u16> {
    let mut given = GIVEN.lock().ok().context("a thread died while it chose a port")?;
    for _ in 0..ATTEMPTS {
        let port = rand::random_range(RANGE);
        if is_free(port) && given.insert(port) {
            return Ok(port);
        }
    }
    bail!("no free port found between {} and {}", RANGE.start, RANGE.end)
}

/// Starts a server on the port that is wanted, or else on a free one; on another one if something
/// else was faster to bind that.
///
/// # Errors
/// When the server does not start.
pub(super) async fn start_on<T>(
    wanted: Option<u16>,
    start: impl AsyncFn(u16) -> Result<T>,
) -> Result<T> {
    if let Some(port) = wanted {
        return start(port).await;
    }
    let mut attempt = 1;
    loop {
        match start(free_port()?).await {
            Err(error) if attempt < START_ATTEMPTS && format!("{error:#}").contains(PORT_TAKEN) => {
                attempt += 1;
            }
            result => return result,
        }
    }
}

/// Whether a server could listen on the port now. 0 stands for any port.
fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}

/// The ports of a whole Tapedeck; 0 is any free one.
#[derive(Clone, Copy, Debug, Default, Args)]
pub struct PortOptions {
    /// Port of the recorder API; 0 is any free one, here as below.
    #[arg(long, env = "TAPEDECK_STACK_GATEWAY_PORT", default_value_t = 8080)]
    pub gateway_port: u16,

    /// Admin port of the gateway.
    #[arg(long, env = "TAPEDECK_STACK_GATEWAY_ADMIN_PORT", default_value_t = 9101)]
    pub gateway_admin_port: u16,

    /// Admin port of the writer.
    #[arg(long, env = "TAPEDECK_STACK_WRITER_ADMIN_PORT", default_value_t = 9102)]
    pub writer_admin_port: u16,

    /// Admin port of the reporter.
    #[arg(long, env = "TAPEDECK_STACK_REPORTER_ADMIN_PORT", default_value_t = 9103)]
    pub reporter_admin_port: u16,

    /// Port of Kafka.
    #[arg(long, env = "TAPEDECK_STACK_KAFKA_PORT", default_value_t = 9092)]
    pub kafka_port: u16,

    /// Port of Postgres; the default leaves 5432 to the server that its package may have started.
    #[arg(long, env = "TAPEDECK_STACK_POSTGRES_PORT", default_value_t = 15432)]
    pub postgres_port: u16,
}

impl PortOptions {
    /// Any free port for everything.
    pub fn any() -> Self {
        Self::default()
    }

    /// As the command line that gives the same.
    pub fn to_arguments(&self) -> [String; 6] {
        self.named().map(|(name, port)| format!("--{name}={port}"))
    }

    fn named(&self) -> [(&'static str, u16); 6] {
        [
            ("gateway-port", self.gateway_port),
            ("gateway-admin-port", self.gateway_admin_port),
            ("writer-admin-port", self.writer_admin_port),
            ("reporter-admin-port", self.reporter_admin_port),
            ("kafka-port", self.kafka_port),
            ("postgres-port", self.postgres_port),
        ]
    }

    /// Checks that nothing listens on the ports yet, and that no two are the same.
    ///
    /// # Errors
    /// Names every port that cannot be used, and the option to choose another.
    pub fn check(&self) -> Result<()> {
        let mut chosen = BTreeSet::new();
        let problems: Vec<String> = self
            .named()
            .into_iter()
            .filter(|(_, port)| !is_free(*port) || (*port != 0 && !chosen.insert(*port)))
            .map(|(name, port)| {
                let variable = name.replace('-', "_").to_uppercase();
                format!(
                    "port {port} is in use: choose another by --{name} or \
                     TAPEDECK_STACK_{variable} (0 is any free one)"
                )
            })
            .collect();
        if problems.is_empty() { Ok(()) } else { bail!(problems.join("\n")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_given_out_once() {
        let ports: BTreeSet<u16> = (0..50).map(|_| free_port().unwrap()).collect();
        assert_eq!(ports.len(), 50);
    }

    #[tokio::test]
    async fn a_server_that_loses_its_port_tries_another() {
        let tried = Mutex::new(Vec::new());
        let start = async |port| {
            let mut tried = tried.lock().unwrap();
            tried.push(port);
            if tried.len() < 3 { bail!("bind: {PORT_TAKEN}") } else { Ok(port) }
        };
        let port = start_on(None, &start).await.unwrap();
        let mut ports = std::mem::take(&mut *tried.lock().unwrap());
        assert_eq!(ports.last(), Some(&port));
        ports.dedup();
        assert_eq!(ports.len(), 3);

        assert!(start_on(Some(port), &start).await.is_err(), "no other than the port wanted");
        assert_eq!(*tried.lock().unwrap(), [port]);
    }

    #[tokio::test]
    async fn another_failure_is_not_tried_again() {
        let error = start_on(None, async |_| bail!("disk full") as Result<()>).await;
        assert_eq!(error.unwrap_err().to_string(), "disk full");
    }

    #[test]
    fn ports_that_cannot_be_used_are_named_with_their_options() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let taken = listener.local_addr().unwrap().port();
        let free = free_port().unwrap();
        let check = |ports: PortOptions, expected: &[&str]| {
            let message = ports.check().err().map(|error| error.to_string()).unwrap_or_default();
            assert_eq!(message.lines().count(), expected.len(), "{message}");
            for part in expected {
                assert!(message.contains(part), "{message} should name {part}");
            }
        };
        check(PortOptions::any(), &[]);
        check(PortOptions { kafka_port: free, ..PortOptions::any() }, &[]);
        let both =
            PortOptions { gateway_port: taken, writer_admin_port: taken, ..Default::default() };
        check(both, &["--gateway-port", "TAPEDECK_STACK_WRITER_ADMIN_PORT"]);
        let twice = PortOptions { kafka_port: free, postgres_port: free, ..Default::default() };
        check(twice, &["--postgres-port"]);
    }
}

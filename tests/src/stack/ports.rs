//! Free TCP ports of this machine.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, TcpListener};
use std::ops::Range;
use std::sync::Mutex;

use anyhow::{Context, Result, bail};

/// Below the range that Linux takes the ports of outgoing connections from, so that none of them
/// takes a port while its server restarts.
const RANGE: Range<u16> = 20_000..32_000;

/// Attempts to find a free port before giving up: in a range so large, hopeless if not enough.
const ATTEMPTS: usize = 200;

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

/// Whether a server could listen on the port now.
pub fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_given_out_once() {
        let ports: BTreeSet<u16> = (0..50).map(|_| free_port().unwrap()).collect();
        assert_eq!(ports.len(), 50);
    }

    #[test]
    fn a_port_with_a_listener_is_not_free() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        assert!(!is_free(port));
        drop(listener);
        assert!(is_free(port));
    }
}

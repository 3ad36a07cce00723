//! A TCP relay that can swallow what it is given, as a firewall does that has forgotten the
//! connection: both sides stay connected and hear nothing more. Or it is far away.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::Result;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::task::AbortOnDropHandle;

/// What is copied at a time.
const BUFFER_BYTES: usize = 64 * 1024;

/// A relay to one address. It goes, with its connections' ways in, when dropped.
pub(crate) struct Relay {
    address: SocketAddr,
    /// Even while bytes pass. A connection passes them on for as long as it is what it was when
    /// the connection began: so one of before or during the swallowing stays dead.
    epoch: Arc<AtomicUsize>,
    /// How long bytes take in either direction, in milliseconds, on connections yet to come.
    latency_ms: Arc<AtomicU64>,
    _accepting: AbortOnDropHandle<()>,
}

impl Relay {
    /// Takes a port of this machine and passes what comes there on to `target`.
    pub(crate) async fn to(target: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let epoch = Arc::new(AtomicUsize::new(0));
        let latency_ms = Arc::new(AtomicU64::new(0));
        let accepting =
            tokio::spawn(accept(listener, target, Arc::clone(&epoch), Arc::clone(&latency_ms)));
        Ok(Self { address, epoch, latency_ms, _accepting: AbortOnDropHandle::new(accepting) })
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on all bytes disappear, those of connections yet to come as well.
    pub(crate) fn swallow(&self) {
        self.epoch.fetch_add(1, Ordering::SeqCst);
    }

    /// Bytes of connections made from now on take so long.
    pub(crate) fn move_away(&self, latency: Duration) {
        let latency_ms = u64::try_from(latency.as_millis()).unwrap_or(u64::MAX);
        self.latency_ms.store(latency_ms, Ordering::SeqCst);
    }

    /// Connections made from now on work; those there are stay dead.
    pub(crate) fn heal(&self) {
        self.epoch.fetch_add(1, Ordering::SeqCst);
    }
}

async fn accept(
    listener: TcpListener,
    target: SocketAddr,
    epoch: Arc<AtomicUsize>,
    latency_ms: Arc<AtomicU64>,
) {
    while let Ok((client, _)) = listener.accept().await {
        let Ok(server) = TcpStream::connect(target).await else { continue };
        let ((from_client, to_client), (from_server, to_server)) =
            (client.into_split(), server.into_split());
        let latency = Duration::from_millis(latency_ms.load(Ordering::SeqCst));
        tokio::spawn(pass(from_client, to_server, Arc::clone(&epoch), latency));
        tokio::spawn(pass(from_server, to_client, Arc::clone(&epoch), latency));
    }
}

async fn pass(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    epoch: Arc<AtomicUsize>,
    latency: Duration,
) {
    let begun = epoch.load(Ordering::SeqCst);
    let mut buffer = vec![0; BUFFER_BYTES];
    while let Ok(bytes @ 1..) = from.read(&mut buffer).await {
        if !latency.is_zero() {
            tokio::time::sleep(latency).await;
        }
        let passes = begun.is_multiple_of(2) && epoch.load(Ordering::SeqCst) == begun;
        if passes && to.write_all(&buffer[..bytes]).await.is_err() {
            return;
        }
    }
}

//! A TCP relay that writes down what clients send.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Result, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::task::AbortOnDropHandle;

/// What is copied at a time.
const BUFFER_BYTES: usize = 16 * 1024;

/// With what every TLS connection begins: a handshake's record.
const TLS_HANDSHAKE: u8 = 22;

/// What was sent, a connection each.
type Sent = Arc<Mutex<Vec<Vec<u8>>>>;

/// A relay to one address. It goes when dropped.
pub(super) struct Wire {
    address: SocketAddr,
    sent: Sent,
    _accepting: AbortOnDropHandle<()>,
}

impl Wire {
    /// Takes a port of this machine and passes what comes there on to `target`.
    pub(super) async fn to(target: &str) -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let sent = Sent::default();
        let accepting = tokio::spawn(accept(listener, target.parse()?, Arc::clone(&sent)));
        Ok(Self { address, sent, _accepting: AbortOnDropHandle::new(accepting) })
    }

    /// Where it listens, `host:port`.
    pub(super) fn address(&self) -> String {
        self.address.to_string()
    }

    /// Sees that clients came, and that every one spoke TLS from its first byte on.
    pub(super) fn is_encrypted(&self) -> Result<()> {
        let sent = self.sent.lock().unwrap_or_else(PoisonError::into_inner);
        ensure!(sent.iter().any(|bytes| !bytes.is_empty()), "nobody came");
        // Who connected and went without a word kept everything to itself.
        let clear = sent.iter().find(|bytes| bytes.first().is_some_and(|it| *it != TLS_HANDSHAKE));
        ensure!(clear.is_none(), "not TLS: {clear:?}");
        Ok(())
    }

    /// Sees that none of the secrets can be read in what was sent.
    pub(super) fn hides(&self, secrets: &[&str]) -> Result<()> {
        let sent = self.sent.lock().unwrap_or_else(PoisonError::into_inner);
        for secret in secrets {
            let shows =
                |bytes: &Vec<u8>| bytes.windows(secret.len()).any(|part| part == secret.as_bytes());
            ensure!(!sent.iter().any(shows), "{secret} was sent in clear text");
        }
        Ok(())
    }
}

async fn accept(listener: TcpListener, target: SocketAddr, sent: Sent) {
    while let Ok((client, _)) = listener.accept().await {
        let Ok(server) = TcpStream::connect(target).await else { continue };
        let connection = {
            let mut sent = sent.lock().unwrap_or_else(PoisonError::into_inner);
            sent.push(Vec::new());
            sent.len() - 1
        };
        let ((from_client, to_client), (from_server, to_server)) =
            (client.into_split(), server.into_split());
        let sent = Arc::clone(&sent);
        tokio::spawn(pass(from_client, to_server, move |bytes| {
            let mut sent = sent.lock().unwrap_or_else(PoisonError::into_inner);
            sent[connection].extend_from_slice(bytes);
        }));
        tokio::spawn(pass(from_server, to_client, |_| {}));
    }
}

async fn pass(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, note: impl Fn(&[u8])) {
    let mut buffer = vec![0; BUFFER_BYTES];
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        note(&buffer[..count]);
        if to.write_all(&buffer[..count]).await.is_err() {
            return;
        }
    }
}

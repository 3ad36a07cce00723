//! The socket below a session, with keepalives of its own, and TLS on it if wanted.

use std::io;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio_postgres::config::Host;
use tokio_rustls::TlsConnector;

use super::tls;

/// Port of Postgres where the address names none.
const DEFAULT_PORT: u16 = 5432;

/// A connected socket of either family.
pub(super) type Stream = Box<dyn Socket>;

/// What a session needs of its socket.
pub(super) trait Socket: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Socket for T {}

/// Connects to the first host of the address that answers. A socket of this machine is never
/// encrypted, as with libpq.
pub(super) async fn open(
    config: &tokio_postgres::Config,
    dead_peer: Duration,
    tls: Option<&TlsConnector>,
) -> io::Result<Stream> {
    let mut last_error = io::Error::other("the address names no host");
    for (number, host) in config.get_hosts().iter().enumerate() {
        // One port may stand for all hosts.
        let ports = config.get_ports();
        let port = ports.get(number).or(ports.first()).copied().unwrap_or(DEFAULT_PORT);
        match open_host(host, port, dead_peer, tls).await {
            Ok(stream) => return Ok(stream),
            Err(error) => last_error = error,
        }
    }
    Err(last_error)
}

async fn open_host(
    host: &Host,
    port: u16,
    dead_peer: Duration,
    tls: Option<&TlsConnector>,
) -> io::Result<Stream> {
    match host {
        Host::Unix(folder) => {
            let path = folder.join(format!(".s.PGSQL.{port}"));
            Ok(Box::new(UnixStream::connect(path).await?))
        }
        Host::Tcp(name) => {
            let stream = TcpStream::connect((name.as_str(), port)).await?;
            stream.set_nodelay(true)?;
            let socket = SockRef::from(&stream);
            let interval = (dead_peer / 3).max(Duration::from_secs(1));
            let keepalive =
                TcpKeepalive::new().with_time(interval).with_interval(interval).with_retries(2);
            socket.set_tcp_keepalive(&keepalive)?;
            socket.set_tcp_user_timeout(Some(dead_peer))?;
            match tls {
                Some(connector) => tls::negotiate(Box::new(stream), name, connector).await,
                None => Ok(Box::new(stream)),
            }
        }
    }
}

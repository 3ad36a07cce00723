//! One question and its answer over a connection, to see what becomes of bytes on their way.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::chaos::kind::Between;

/// What a connection's server understands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    /// The recorder API's.
    Http,
    /// A broker's.
    Kafka,
    /// A database server's.
    Postgres,
}

impl Protocol {
    /// What is spoken between two parts.
    pub(super) fn between(parts: Between) -> Self {
        match parts {
            Between::RecordersAndGateway => Self::Http,
            Between::GatewaysAndBroker | Between::WritersAndBroker | Between::Brokers => {
                Self::Kafka
            }
            Between::WritersAndPostgres | Between::ReportersAndPostgres => Self::Postgres,
        }
    }

    /// A question with `padding` bytes in it that do not matter, which a server must have read
    /// before it answers.
    fn question(self, padding: u16) -> Vec<u8> {
        let length = padding;
        let padding = "x".repeat(length.into());
        match self {
            Self::Http => {
                format!("GET / HTTP/1.1\r\nhost: tapedeck\r\nx-padding: {padding}\r\n\r\n").into()
            }
            Self::Kafka => {
                // ApiVersions in version 0, correlation id 0, and the client's id.
                let header = [0, 18, 0, 0, 0, 0, 0, 0];
                let size = (u32::from(length) + 10).to_be_bytes();
                [&size, &header[..], &length.to_be_bytes(), padding.as_bytes()].concat()
            }
            Self::Postgres => {
                // A start-up message of protocol version 3.
                let settings = format!("user\0nobody\0application_name\0{padding}\0\0");
                let size = (u32::from(length) + 39).to_be_bytes();
                [&size[..], &[0, 3, 0, 0], settings.as_bytes()].concat()
            }
        }
    }

    /// Asks over a new connection and waits for the first bytes of the answer; gives how long it
    /// took, or `None` where within that time nothing comes and the connection stays open.
    ///
    /// # Errors
    /// When the connection cannot be made, or breaks.
    pub(super) async fn exchange(
        self,
        address: SocketAddr,
        padding: u16,
        within: Duration,
    ) -> Result<Option<Duration>> {
        let begun = Instant::now();
        let exchange = async {
            let mut connection = TcpStream::connect(address).await.context("no connection")?;
            connection.write_all(&self.question(padding)).await.context("cannot be asked")?;
            let read = connection.read(&mut [0; 64]).await.context("broken")?;
            ensure!(read > 0, "closed without an answer");
            anyhow::Ok(())
        };
        match tokio::time::timeout(within, exchange).await {
            Ok(answered) => answered.map(|()| Some(begun.elapsed())),
            Err(_) => Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_say_how_long_they_are() {
        for padding in [0_u16, 7, 6_000] {
            let bytes = usize::from(padding);
            let kafka = Protocol::Kafka.question(padding);
            assert_eq!(kafka.len(), 4 + 8 + 2 + bytes);
            let size = u32::from_be_bytes(kafka[..4].try_into().unwrap());
            assert_eq!(size as usize, kafka.len() - 4);
            let client_id = u16::from_be_bytes(kafka[12..14].try_into().unwrap());
            assert_eq!(client_id, padding);
            let postgres = Protocol::Postgres.question(padding);
            let size = u32::from_be_bytes(postgres[..4].try_into().unwrap());
            assert_eq!(size as usize, postgres.len());
            assert!(postgres.ends_with(b"\0\0"));
            assert!(Protocol::Http.question(padding).ends_with(b"\r\n\r\n"));
        }
    }
}

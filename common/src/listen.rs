//! Taking a port, and telling which.

use std::net::SocketAddr;

use anyhow::Context;
use tokio::net::TcpListener;

/// Takes a port for the given role (`public` or `admin`) and logs its address, which matters
/// where port 0 asked for any.
///
/// # Errors
/// Names the address that cannot be had.
pub async fn bind(role: &'static str, address: SocketAddr) -> anyhow::Result<TcpListener> {
    let listener = TcpListener::bind(address)
        .await
        .with_context(|| format!("cannot listen on {address} ({role})"))?;
    let address = listener.local_addr().context("a listener without an address")?;
    tracing::info!(role, %address, "listening");
    Ok(listener)
}

//! TLS below a session: asked for as Postgres wants it, and never done without once it is wanted.

use std::io;
use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::TlsConnector;

use super::address::TlsFiles;
use super::stream::Stream;

/// The client's question whether the server speaks TLS, and the answer that it does
/// (<https://www.postgresql.org/docs/15/protocol-flow.html#id-1.10.6.7.12>).
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];
const SPEAKS_TLS: u8 = b'S';

/// Reads the files that TLS needs. They are read at every connection, so that new ones count.
///
/// # Errors
/// Names the file that cannot be used.
pub(super) fn connector(files: &TlsFiles) -> Result<TlsConnector, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots(files.root.as_deref())?);
    let config = match &files.identity {
        None => config.with_no_client_auth(),
        Some((certificate, key)) => {
            let private = PrivateKeyDer::from_pem_file(key)
                .map_err(|error| format!("{}: {error}", key.display()))?;
            config
                .with_client_auth_cert(certificates(certificate)?, private)
                .map_err(|error| format!("{}: {error}", certificate.display()))?
        }
    };
    Ok(TlsConnector::from(Arc::new(config)))
}

fn roots(file: Option<&Path>) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    match file {
        Some(file) => {
            for certificate in certificates(file)? {
                roots.add(certificate).map_err(|error| format!("{}: {error}", file.display()))?;
            }
        }
        None => {
            let found = rustls_native_certs::load_native_certs();
            roots.add_parsable_certificates(found.certs);
            if roots.is_empty() {
                let why = found.errors.first().map(|error| format!(" ({error})"));
                return Err(format!(
                    "the system trusts no certificates{}: name some by sslrootcert",
                    why.unwrap_or_default()
                ));
            }
        }
    }
    Ok(roots)
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let told = |error: &dyn std::fmt::Display| format!("{}: {error}", file.display());
    let found: Vec<_> = CertificateDer::pem_file_iter(file)
        .map_err(|error| told(&error))?
        .collect::<Result<_, _>>()
        .map_err(|error| told(&error))?;
    if found.is_empty() {
        return Err(told(&"holds no certificate"));
    }
    Ok(found)
}

/// Has the server of that name speak TLS.
///
/// # Errors
/// When it does not, or is not who it should be.
pub(super) async fn negotiate(
    mut stream: Stream,
    host: &str,
    connector: &TlsConnector,
) -> io::Result<Stream> {
    stream.write_all(&SSL_REQUEST).await?;
    stream.flush().await?;
    if stream.read_u8().await? != SPEAKS_TLS {
        return Err(io::Error::other("the server does not speak TLS, which sslmode asks for"));
    }
    let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
    Ok(Box::new(connector.connect(name, stream).await?))
}

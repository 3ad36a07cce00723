//! TLS of the public port, where nothing in front of the gateway ends it. Certificate and key are
//! read again when their files change; connections that there are keep theirs.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use clap::Args;
use common::options::{CheckOptions, Problems};
use prometheus::HistogramVec;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::metrics::GatewayMetrics;
use crate::reload::Reload;

/// How long a client may take until both sides are agreed.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// The one protocol that the gateway speaks over TLS.
const HTTP_1_1: &[u8] = b"http/1.1";

/// The outcome labels of a handshake.
pub const AGREED: &str = "agreed";
/// See [`AGREED`].
pub const FAILED: &str = "failed";

/// Who the gateway proves to be.
#[derive(Clone, Debug, Args)]
pub struct TlsOptions {
    /// A file with the gateway's certificate, followed by those that vouch for it, as PEM text.
    /// With it the public port speaks HTTPS and nothing else.
    ///
    /// Set it where recorders reach the gateway without anything in between that ends TLS.
    #[arg(long, env = "TAPEDECK_TLS_CERTIFICATE_FILE", requires = "tls_key_file")]
    pub tls_certificate_file: Option<PathBuf>,

    /// A file with the certificate's key, as PEM text.
    ///
    /// Set it together with the certificate.
    #[arg(long, env = "TAPEDECK_TLS_KEY_FILE", requires = "tls_certificate_file")]
    pub tls_key_file: Option<PathBuf>,

    /// Seconds between looks at whether certificate or key has changed.
    ///
    /// Lower it where a certificate that was replaced must be out of use at once.
    #[arg(long, env = "TAPEDECK_TLS_RELOAD_SECONDS", default_value_t = 10)]
    pub tls_reload_seconds: u64,
}

impl CheckOptions for TlsOptions {
    fn check(&self, problems: &mut Problems) {
        problems.require(self.tls_reload_seconds > 0, "--tls-reload-seconds must not be 0");
        if let Some(Err(unusable)) = self.files().map(|files| files.acceptor(&files.read()?)) {
            problems.add(unusable);
        }
    }
}

impl TlsOptions {
    /// Where certificate and key are, if TLS is to be spoken.
    fn files(&self) -> Option<Files> {
        let certificate = self.tls_certificate_file.clone()?;
        Some(Files { certificate, key: self.tls_key_file.clone()? })
    }
}

/// Why certificate and key cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{}: {reason}", file.display())]
pub struct Unusable {
    file: PathBuf,
    reason: String,
}

/// The way to agree with clients, replaced when the files change.
pub struct Tls {
    files: Files,
    acceptor: RwLock<TlsAcceptor>,
    handshake_seconds: HistogramVec,
}

/// Where certificate and key are.
#[derive(Clone, Debug)]
struct Files {
    certificate: PathBuf,
    key: PathBuf,
}

/// What they hold.
#[derive(PartialEq, Eq)]
pub struct Contents {
    certificate: Vec<u8>,
    key: Vec<u8>,
}

impl Files {
    fn read(&self) -> Result<Contents, Unusable> {
        let read = |file: &Path| {
            std::fs::read(file)
                .map_err(|error| Unusable { file: file.to_owned(), reason: error.to_string() })
        };
        Ok(Contents { certificate: read(&self.certificate)?, key: read(&self.key)? })
    }

    fn acceptor(&self, contents: &Contents) -> Result<TlsAcceptor, Unusable> {
        let unusable = |file: &Path, reason: &dyn std::fmt::Display| Unusable {
            file: file.to_owned(),
            reason: reason.to_string(),
        };
        let certificates: Vec<_> = CertificateDer::pem_slice_iter(&contents.certificate)
            .collect::<Result<_, _>>()
            .map_err(|error| unusable(&self.certificate, &error))?;
        let key = PrivateKeyDer::from_pem_slice(&contents.key)
            .map_err(|error| unusable(&self.key, &error))?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .and_then(|config| config.with_no_client_auth().with_single_cert(certificates, key))
            .map_err(|error| unusable(&self.certificate, &error))?;
        config.alpn_protocols = vec![HTTP_1_1.to_vec()];
        Ok(TlsAcceptor::from(Arc::new(config)))
    }
}

impl Tls {
    /// Reads certificate and key, and also gives what it read; none where none are named.
    ///
    /// # Errors
    /// Names the file that cannot be used.
    pub fn open(
        options: &TlsOptions,
        metrics: &GatewayMetrics,
    ) -> Result<Option<(Arc<Self>, Contents)>, Unusable> {
        let Some(files) = options.files() else {
            return Ok(None);
        };
        let contents = files.read()?;
        let acceptor = RwLock::new(files.acceptor(&contents)?);
        let handshake_seconds = metrics.tls_handshake_seconds.clone();
        Ok(Some((Arc::new(Self { files, acceptor, handshake_seconds }), contents)))
    }

    /// Agrees with a client.
    ///
    /// # Errors
    /// When the client does not, or takes too long.
    pub async fn accept(&self, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        let acceptor = self.acceptor.read().unwrap_or_else(PoisonError::into_inner).clone();
        let begun = Instant::now();
        let agreed = tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await;
        let agreed = agreed.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        let outcome = if agreed.is_ok() { AGREED } else { FAILED };
        let seconds = begun.elapsed().as_secs_f64();
        self.handshake_seconds.with_label_values(&[outcome]).observe(seconds);
        agreed
    }
}

/// Takes over certificate and key whenever a file's content is another than the `last`, for ever.
/// While they cannot be used, as between the replacement of one and of the other, those before stay.
pub async fn reload_on_change(
    tls: Arc<Tls>,
    last: Contents,
    every: Duration,
    metrics: GatewayMetrics,
) {
    let files = tls.files.clone();
    let reload = Reload {
        every,
        last,
        read: move || files.read(),
        take_over: move |contents: &Contents| {
            let acceptor = tls.files.acceptor(contents)?;
            *tls.acceptor.write().unwrap_or_else(PoisonError::into_inner) = acceptor;
            tracing::info!(certificate = %tls.files.certificate.display(), "certificate read");
            Ok(())
        },
        failures: metrics.tls_reload_failures,
        told: "certificate not read again; the one before stays",
    };
    reload.on_change().await;
}

//! How writer and reporter reach Postgres.

mod address;
pub mod copy;
pub mod error_code;
mod frames;
mod stream;
mod tap;
mod tls;

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use diesel_async::AsyncPgConnection;
use tokio_postgres::NoTls;
use tokio_rustls::TlsConnector;
use tokio_util::task::AbortOnDropHandle;

use crate::options::{CheckOptions, Problems, Secret, read_secret_file};
use address::Address;
use copy::Copies;
use error_code::ErrorCodes;
use tap::Tap;

/// Where Postgres is and how long it may take.
#[derive(Clone, Debug, Args)]
pub struct DatabaseOptions {
    /// Address of the database: `postgres://user:password@host:port/name`, and for TLS
    /// `?sslmode=verify-full&sslrootcert=FILE` (without a file, those whom the system trusts), with
    /// `&sslcert=FILE&sslkey=FILE` where the server wants a certificate.
    ///
    /// Set it, or the file with it. A password in it can be read by whoever sees the process's
    /// environment.
    #[arg(long, env = "TAPEDECK_DATABASE_URL", hide_env_values = true)]
    pub database_url: Option<Secret>,

    /// A file that holds the address.
    ///
    /// Use it instead of the address itself wherever secrets are mounted as files.
    #[arg(long, env = "TAPEDECK_DATABASE_URL_FILE", conflicts_with = "database_url")]
    pub database_url_file: Option<PathBuf>,

    /// How long connecting may take, in milliseconds.
    ///
    /// Raise it where Postgres is far away or behind a pooler that has connections wait.
    #[arg(long, env = "TAPEDECK_DATABASE_CONNECT_TIMEOUT_MS", default_value_t = 5_000)]
    pub database_connect_timeout_ms: u32,

    /// How long one statement may take, in milliseconds (Postgres' statement_timeout).
    ///
    /// Raise it when the log says that statements are cancelled although Postgres is well, as on
    /// very slow disks.
    #[arg(long, env = "TAPEDECK_DATABASE_STATEMENT_TIMEOUT_MS", default_value_t = 30_000)]
    pub database_statement_timeout_ms: u32,

    /// How long a statement may wait for a lock, in milliseconds (Postgres' lock_timeout).
    ///
    /// Raise it when others hold locks on the tables for longer as a matter of course; a writer's
    /// retry costs a batch.
    #[arg(long, env = "TAPEDECK_DATABASE_LOCK_TIMEOUT_MS", default_value_t = 10_000)]
    pub database_lock_timeout_ms: u32,

    /// How long a transaction may wait for its next statement, in milliseconds, before Postgres
    /// ends it (idle_in_transaction_session_timeout): a frozen process' locks don't outlive it.
    ///
    /// Lower it to have the locks of a frozen process released sooner.
    #[arg(long, env = "TAPEDECK_DATABASE_IDLE_TIMEOUT_MS", default_value_t = 10_000)]
    pub database_idle_timeout_ms: u32,

    /// After how long without a sign of life either side gives a connection up, in milliseconds.
    ///
    /// Raise it on networks that lose packets for longer; a machine that vanished is noticed as
    /// much later.
    #[arg(long, env = "TAPEDECK_DATABASE_DEAD_PEER_TIMEOUT_MS", default_value_t = 15_000)]
    pub database_dead_peer_timeout_ms: u32,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The options name no database, or not a readable one.
    #[error("{0}")]
    Configuration(String),
    /// The server could not be reached or refused.
    #[error("cannot connect to Postgres: {0}")]
    Unreachable(String),
}

/// A session of Postgres with its limits set.
pub struct Session {
    /// The connection, for diesel.
    pub connection: AsyncPgConnection,
    /// The SQLSTATE of what the server last refused on it.
    pub error_codes: ErrorCodes,
    /// Where the rows of a COPY on it come from.
    pub copies: Copies,
    /// Moves the bytes; ends with the session, so that a dropped session is a closed socket, and
    /// whatever transaction was open on it is rolled back.
    _driver: AbortOnDropHandle<()>,
}

impl DatabaseOptions {
    /// The address, from the option or the file.
    ///
    /// # Errors
    /// When neither is given, or the file cannot be read.
    pub fn url(&self) -> Result<Secret, String> {
        match (&self.database_url, &self.database_url_file) {
            (Some(url), _) => Ok(url.clone()),
            (None, Some(path)) => read_secret_file(path),
            (None, None) => Err("--database-url or --database-url-file is needed".to_owned()),
        }
    }

    fn config(
        &self,
        application: &str,
        settings: &[(&str, &str)],
    ) -> Result<(tokio_postgres::Config, Option<TlsConnector>), String> {
        let Address { mut config, tls } = Address::parse(self.url()?.expose())?;
        config.application_name(application).options(self.session_settings(settings));
        Ok((config, tls.as_ref().map(tls::connector).transpose()?))
    }

    /// The same, on a thread of its own: it reads files, and those may lie on what hangs.
    async fn config_apart(
        &self,
        application: &'static str,
        settings: &'static [(&'static str, &'static str)],
    ) -> Result<(tokio_postgres::Config, Option<TlsConnector>), ConnectError> {
        let options = self.clone();
        let read = tokio::task::spawn_blocking(move || options.config(application, settings));
        let read = read.await.map_err(|error| ConnectError::Configuration(error.to_string()))?;
        read.map_err(ConnectError::Configuration)
    }

    /// Settings of every session, and more. Postgres' own keepalives: it notices within the dead
    /// peer time-out that a process or its host is gone, and frees the locks.
    fn session_settings(&self, more: &[(&str, &str)]) -> String {
        let dead_peer_ms = self.database_dead_peer_timeout_ms;
        let idle_seconds = (dead_peer_ms / 3_000).max(1);
        let limits = [
            ("statement_timeout", self.database_statement_timeout_ms),
            ("lock_timeout", self.database_lock_timeout_ms),
            ("idle_in_transaction_session_timeout", self.database_idle_timeout_ms),
            ("tcp_user_timeout", dead_peer_ms),
            ("tcp_keepalives_idle", idle_seconds),
            ("tcp_keepalives_interval", idle_seconds),
            ("tcp_keepalives_count", 2),
        ]
        .map(|(name, value)| (name, value.to_string()));
        let limits = limits.iter().map(|(name, value)| (*name, value.as_str()));
        let settings = limits.chain([("TimeZone", "UTC")]).chain(more.iter().copied());
        settings.map(|(name, value)| format!("-c {name}={value}")).collect::<Vec<_>>().join(" ")
    }

    /// How long to wait for the answer to one statement before taking the server for frozen: one
    /// that works ends the statement earlier.
    pub fn answer_timeout(&self) -> Duration {
        let statement = Duration::from_millis(self.database_statement_timeout_ms.into());
        statement + Duration::from_millis(self.database_dead_peer_timeout_ms.into())
    }

    /// Opens a session whose server side carries the time-outs, under the name `application`.
    ///
    /// # Errors
    /// See [`ConnectError`]; none of them shows the password.
    pub async fn connect(&self, application: &'static str) -> Result<Session, ConnectError> {
        self.connect_with(application, &[]).await
    }

    /// Opens a session likewise, with more of Postgres' settings.
    ///
    /// # Errors
    /// See [`ConnectError`].
    pub async fn connect_with(
        &self,
        application: &'static str,
        settings: &'static [(&'static str, &'static str)],
    ) -> Result<Session, ConnectError> {
        let within = Duration::from_millis(self.database_connect_timeout_ms.into());
        let dead_peer = Duration::from_millis(self.database_dead_peer_timeout_ms.into());
        let opening = async {
            let (config, tls) = self.config_apart(application, settings).await?;
            let stream = stream::open(&config, dead_peer, tls.as_ref())
                .await
                .map_err(|error| ConnectError::Unreachable(error.to_string()))?;
            let tap = Tap::new(stream);
            let (error_codes, copies) = (tap.error_codes(), tap.copies());
            let (client, connection) = config
                .connect_raw(tap, NoTls)
                .await
                .map_err(|error| ConnectError::Unreachable(with_cause(&error)))?;
            let driver = AbortOnDropHandle::new(tokio::spawn(async move {
                // What breaks a connection also fails the request on it, where it is handled.
                let _ = connection.await;
            }));
            let connection = AsyncPgConnection::try_from(client)
                .await
                .map_err(|error| ConnectError::Unreachable(error.to_string()))?;
            Ok(Session { connection, error_codes, copies, _driver: driver })
        };
        tokio::time::timeout(within, opening).await.unwrap_or_else(|_| {
            Err(ConnectError::Unreachable(format!("no answer within {} ms", within.as_millis())))
        })
    }
}

/// tokio-postgres says "db error" and keeps the reason in the source.
fn with_cause(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}

impl CheckOptions for DatabaseOptions {
    fn check(&self, problems: &mut Problems) {
        if let Err(problem) = self.config("check", &[]) {
            problems.add(problem);
        }
        for (name, value) in [
            ("connect", self.database_connect_timeout_ms),
            ("statement", self.database_statement_timeout_ms),
            ("lock", self.database_lock_timeout_ms),
            ("idle", self.database_idle_timeout_ms),
            ("dead-peer", self.database_dead_peer_timeout_ms),
        ] {
            problems.require(value > 0, format!("--database-{name}-timeout-ms must not be 0"));
        }
    }
}

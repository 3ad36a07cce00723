//! TLS: spoken where it is asked for, with those who can prove who they are, and never done without.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tests::stack::certificates::{Authority, Identity};
use tests::stack::{Environment, Postgres, Program, Role, Stack, eventually};
use tokio_rustls::TlsConnector;

use crate::gateway::support::{Gateway, envelope, read_answer, write};
use crate::writer::support::{Session, feed, wait_stored};

/// How long a test waits for a condition.
const PATIENCE: Duration = Duration::from_secs(60);

/// The name of the writer's sessions.
const SESSIONS: &str = "SELECT count(*), count(*) FILTER (WHERE ssl) \
                        FROM pg_stat_activity JOIN pg_stat_ssl USING (pid) \
                        WHERE application_name = 'tapedeck-writer'";

/// What the server says of a wrong password.
const PASSWORD_REFUSED: &str = "password authentication failed";

/// A Postgres of one's own, and room for a Tapedeck on it.
struct Fixture {
    postgres: Postgres,
    environment: Environment,
    authority: Authority,
}

impl Fixture {
    async fn new() -> Result<Self> {
        let stack = Stack::shared().await?;
        let postgres = stack.private_postgres().await?;
        let environment = Environment::on(stack.folder(), stack.kafka(), &postgres).await?;
        let sql = postgres.sql().await?;
        sql.batch_execute("ALTER SYSTEM SET log_connections = on").await?;
        sql.batch_execute("SELECT pg_reload_conf()").await?;
        let authority = Authority::new()?;
        let fixture = Self { postgres, environment, authority };
        fixture.trust("trusted.pem", &fixture.authority)?;
        Ok(fixture)
    }

    /// Writes an authority's certificate into a file.
    fn trust(&self, file: &str, authority: &Authority) -> Result<()> {
        Ok(fs::write(self.environment.folder().join(file), authority.certificate())?)
    }

    /// The database's address, verified in full against the authority in a file.
    fn url(&self, file: &str) -> String {
        let file = self.environment.folder().join(file);
        let url = self.environment.database_url();
        format!("{url}?sslmode=verify-full&sslrootcert={}", file.display())
    }

    /// Sees a connection refused with these words, and that none was made in clear text.
    async fn is_refused(&self, url: &str, why: &str) -> Result<()> {
        let attempts = || self.postgres.process().log().matches(PASSWORD_REFUSED).count();
        let attempts_before = attempts();
        let migrate = self.environment.command(Program::Writer).arguments(["migrate"]);
        let refused = migrate.variable("TAPEDECK_DATABASE_URL", url).run().await?;
        ensure!(!refused.status.success(), "it connected: {}", refused.stderr);
        ensure!(refused.stderr.contains(why), "not {why:?}: {}", refused.stderr);
        // It neither came in without TLS, nor tried once more without.
        let log = self.postgres.process().log();
        let writers = log.lines().filter(|line| line.contains("application_name=tapedeck-writer"));
        let clear = writers.filter(|line| !line.contains("SSL enabled")).count();
        ensure!(clear == 0, "{clear} sessions in clear text");
        ensure!(attempts() <= attempts_before + 1, "it tried again");
        Ok(())
    }
}

#[tokio::test]
async fn sessions_with_a_verified_server_are_encrypted_and_no_others_are_made() -> Result<()> {
    let fixture = Fixture::new().await?;
    let Fixture { postgres, environment, authority } = &fixture;
    fixture.is_refused(&fixture.url("trusted.pem"), "does not speak TLS").await?;

    postgres.speak_tls(&authority.issue("127.0.0.1")?).await?;
    let url = fixture.url("trusted.pem");
    let writer = environment.writer().variable("TAPEDECK_DATABASE_URL", &*url).start().await?;
    writer.wait_ready().await?;
    // Lanes connect when there is something to write.
    let session = Session::new();
    feed(environment, &[session.batch(0, &[("click", "1")])]).await?;
    wait_stored(&environment.sql().await?, &session, 1).await?;
    let sessions = postgres.sql().await?.query_one(SESSIONS, &[]).await?;
    let (all, encrypted): (i64, i64) = (sessions.get(0), sessions.get(1));
    ensure!(all > 0 && encrypted == all, "{encrypted} of {all} sessions are encrypted");
    ensure!(writer.terminate().await?.success(), "{}", writer.log());
    let reporter = environment.reporter().variable("TAPEDECK_DATABASE_URL", url).start().await?;
    reporter.wait_ready().await?;
    Ok(())
}

#[tokio::test]
async fn who_cannot_prove_to_be_the_server_gets_no_session() -> Result<()> {
    let fixture = Fixture::new().await?;
    let Fixture { postgres, authority, .. } = &fixture;
    postgres.speak_tls(&authority.issue("127.0.0.1")?).await?;
    fixture.trust("another.pem", &Authority::new()?)?;
    fixture.is_refused(&fixture.url("another.pem"), "UnknownIssuer").await?;
    fixture.is_refused(&fixture.url("missing.pem"), "missing.pem").await?;

    let url = fixture.url("trusted.pem");
    let (_, server) = url.split_once('@').context("the address has no role")?;
    let wrong = format!("postgres://tapedeck:wrong@{server}");
    fixture.is_refused(&wrong, "password authentication failed").await?;

    postgres.speak_tls(&authority.issue("another.example")?).await?;
    fixture.is_refused(&url, "not valid for name").await
}

#[tokio::test]
async fn a_server_that_wants_a_certificate_lets_in_who_has_the_right_one_and_nobody_else()
-> Result<()> {
    let fixture = Fixture::new().await?;
    let Fixture { postgres, environment, authority } = &fixture;
    postgres.speak_tls(&authority.issue("127.0.0.1")?).await?;
    let clients = Authority::new()?;
    postgres.demand_certificate(Role::Writer, &clients).await?;
    let trusting = Role::Writer.url(&fixture.url("trusted.pem"))?;
    let file = |name: &str| environment.folder().join(name);
    let present = |identity: &Identity| -> Result<()> {
        fs::write(file("client.key"), &identity.key)?;
        Ok(fs::write(file("client.crt"), &identity.certificate)?)
    };
    let own = ["client.crt", "client.key"].map(|name| file(name).display().to_string());
    let url = format!("{trusting}&sslcert={}&sslkey={}", own[0], own[1]);

    fixture.is_refused(&trusting, "requires a valid client certificate").await?;
    fixture.is_refused(&url, "client.key").await?;
    let unknown = Authority::new()?.issue(Role::Writer.name())?;
    present(&unknown)?;
    fixture.is_refused(&url, "UnknownCA").await?;
    present(&clients.issue(Role::Reporter.name())?)?;
    fixture.is_refused(&url, "certificate authentication failed").await?;

    let writer = environment.writer().variable("TAPEDECK_DATABASE_URL", url).start().await?;
    eventually("the writer says why it waits", PATIENCE, async || match writer.readiness().await {
        Ok(Err(reason)) if reason.contains("certificate authentication failed") => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await?;
    // Taken over at the next connection.
    present(&clients.issue(Role::Writer.name())?)?;
    writer.wait_ready().await?;
    let session = Session::new();
    feed(environment, &[session.batch(0, &[("click", "1")])]).await?;
    wait_stored(&environment.sql().await?, &session, 1).await
}

/// A client that trusts an authority.
fn connector(authority: &Authority) -> Result<TlsConnector> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority.certificate().as_bytes())?)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

/// Sends a batch over a connection of its own; gives the answer's first line.
pub(crate) async fn send(gateway: &Gateway, authority: &Authority) -> Result<String> {
    let stream = gateway.connect().await?;
    let name = ServerName::try_from("127.0.0.1")?;
    let mut stream = connector(authority)?.connect(name, stream).await?;
    let body = envelope(1).to_string();
    write(&mut stream, gateway.head(body.len()) + &body).await?;
    let answer = read_answer(&mut stream).await?;
    Ok(answer.lines().next().unwrap_or_default().to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_with_a_certificate_speaks_https_alone_and_takes_over_a_new_one() -> Result<()> {
    let environment = Environment::new(Stack::shared().await?).await?;
    let (first, second) = (Authority::new()?, Authority::new()?);
    let file = |name: &str| environment.folder().join(name).display().to_string();
    let (certificate, key) = (file("gateway.crt"), file("gateway.key"));
    let replace = |authority: &Authority| {
        let identity = authority.issue("127.0.0.1")?;
        fs::write(&key, identity.key)?;
        anyhow::Ok(fs::write(&certificate, identity.certificate)?)
    };
    replace(&first)?;
    let settings = [
        ("TAPEDECK_TLS_CERTIFICATE_FILE", &*certificate),
        ("TAPEDECK_TLS_KEY_FILE", &*key),
        ("TAPEDECK_TLS_RELOAD_SECONDS", "1"),
    ];
    let gateway = Gateway::start_in(environment, &settings).await?;
    gateway.service.wait_ready().await?;
    assert_eq!(send(&gateway, &first).await?, "HTTP/1.1 200 OK");
    ensure!(send(&gateway, &second).await.is_err(), "it trusts an authority that says nothing");
    ensure!(gateway.send(&envelope(1)).await.is_err(), "it was answered in clear text");
    let failed = [("outcome", "failed")];
    let handshakes = "tapedeck_gateway_tls_handshake_seconds_count";
    gateway.service.wait_for_metric(handshakes, &failed, PATIENCE, |count| count >= 2.0).await?;

    fs::write(&certificate, "no certificate")?;
    let failures = "tapedeck_gateway_tls_reload_failures_total";
    gateway.service.wait_for_metric(failures, &[], PATIENCE, |count| count > 0.0).await?;
    assert_eq!(send(&gateway, &first).await?, "HTTP/1.1 200 OK");
    replace(&second)?;
    eventually("the new certificate is in use", PATIENCE, async || {
        match send(&gateway, &second).await {
            Ok(status) if status == "HTTP/1.1 200 OK" => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await
}

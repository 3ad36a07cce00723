//! Who cannot prove who he is, or is not asked to: services and brokers that do not trust each
//! other exchange nothing, and the service says why.

use std::fs;
use std::path::Path;

use anyhow::{Result, ensure};
use futures::future::try_join_all;
use tests::stack::certificates::{Authority, Identity};
use tests::stack::secure_kafka::{Listener, User, settings};
use tests::stack::{Environment, SecureKafka, Stack, eventually};

use super::PATIENCE;
use super::wire::Wire;

/// A password that no user has.
const WRONG_PASSWORD: &str = "wrong-password";

/// What is wrong with a client or its broker.
struct Case {
    name: &'static str,
    listener: Listener,
    /// The beginnings of what its properties lack.
    without: &'static [&'static str],
    /// What they have besides.
    with: String,
    /// What the service says, all of it.
    says: &'static [&'static str],
    /// Whether it was told to speak TLS.
    encrypted: bool,
}

impl Case {
    fn of(name: &'static str, listener: Listener, says: &'static [&'static str]) -> Self {
        Self { name, listener, without: &[], with: String::new(), says, encrypted: true }
    }
}

fn cases(folder: &Path) -> Result<Vec<Case>> {
    let stranger = Authority::new()?;
    let file = |name: &str, content: &str| {
        let path = folder.join(name);
        fs::write(&path, content)?;
        anyhow::Ok(path.display().to_string())
    };
    let authority = file("stranger-ca.crt", stranger.certificate())?;
    let Identity { certificate, key } = stranger.issue(User::Gateway.name())?;
    let (certificate, key) = (file("stranger.crt", &certificate)?, file("stranger.key", &key)?);
    let unverified = &["SSL handshake failed", "certificate verify failed"];
    Ok(vec![
        Case {
            with: format!("ssl.ca.location={authority}"),
            ..Case::of("a broker of an unknown authority", Listener::SaslSsl, unverified)
        },
        Case::of("another host's certificate", Listener::Impostor, unverified),
        Case {
            with: format!("sasl.password={WRONG_PASSWORD}"),
            ..Case::of(
                "a wrong password",
                Listener::SaslSsl,
                &["SASL authentication error", "invalid credentials"],
            )
        },
        Case {
            without: &["ssl.certificate.", "ssl.key."],
            ..Case::of(
                "a client without a certificate",
                Listener::MutualTls,
                &["alert bad certificate"],
            )
        },
        Case {
            with: format!("ssl.certificate.location={certificate}\nssl.key.location={key}"),
            ..Case::of("a client of an unknown authority", Listener::MutualTls, &["alert"])
        },
        Case {
            with: "security.protocol=ssl".to_owned(),
            ..Case::of("a broker without TLS", Listener::Plaintext, &["SSL handshake failed"])
        },
        Case {
            without: &[""],
            encrypted: false,
            ..Case::of("a client without TLS", Listener::SaslSsl, &["security.protocol"])
        },
    ])
}

/// Starts a service with a client that is wrong somehow; sees that it says why, in its log and to
/// its probes, goes on trying, and sends nothing in clear text.
async fn is_refused(
    kafka: &SecureKafka,
    environment: &Environment,
    user: User,
    case: &Case,
) -> Result<()> {
    let folder = environment.folder().join(format!("{} {}", user.name(), case.name));
    fs::create_dir(&folder)?;
    let file = kafka.properties(&folder, user, case.listener)?;
    let right = fs::read_to_string(&file)?;
    let lacks = |line: &str| case.without.iter().any(|beginning| line.starts_with(beginning));
    let wrong = right.lines().filter(|line| !lacks(line)).chain([&*case.with]);
    fs::write(&file, wrong.collect::<Vec<_>>().join("\n"))?;

    let wire = Wire::to(&kafka.address(case.listener)).await?;
    let builder = match user {
        User::Gateway => environment.gateway(),
        User::Writer | User::Redrive => environment.writer(),
    };
    let service = builder.variables(settings(wire.address(), &file)).start().await?;
    eventually(case.name, PATIENCE, async || {
        let says = match service.readiness().await {
            Ok(Err(reason)) => reason,
            other => format!("{other:?}"),
        };
        let log = service.log();
        let told = |part: &&str| says.contains(*part) && log.contains(*part);
        if case.says.iter().all(told) { Ok(()) } else { Err(format!("{says}\n{log}")) }
    })
    .await?;
    ensure!(service.process().exit_status()?.is_none(), "{}: it ended", case.name);
    let secrets = [user.name(), kafka.password(), WRONG_PASSWORD, "replay-events"];
    wire.hides(&secrets)?;
    if case.encrypted { wire.is_encrypted() } else { Ok(()) }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_and_a_broker_that_do_not_trust_each_other_exchange_nothing_and_say_why()
-> Result<()> {
    let stack = Stack::shared().await?;
    let kafka = stack.secure_kafka().await?;
    let environment = Environment::on(stack.folder(), kafka.kafka(), stack.postgres()).await?;
    let cases = cases(environment.folder())?;
    let all = cases.iter().flat_map(|case| [(case, User::Gateway), (case, User::Writer)]);
    try_join_all(all.map(|(case, user)| is_refused(&kafka, &environment, user, case))).await?;
    Ok(())
}

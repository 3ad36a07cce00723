//! The pages say what the code says.

use std::ffi::OsString;

use anyhow::{Result, ensure};
use common::options::{CheckOptions, Refused, try_parse};
use common::time::Timestamp;
use ingest_gateway::keys::{self, KeyHash};
use ingest_gateway::options::GatewayOptions;
use reporter::options::ReporterOptions;
use writer::options::Cli as WriterOptions;

#[test]
fn no_page_is_stale() -> Result<()> {
    for page in reference::pages()? {
        ensure!(
            page.written().ok().as_ref() == Some(&page.text),
            "{} is stale; write it anew: cargo run --package reference",
            page.path
        );
    }
    Ok(())
}

#[test]
fn the_example_of_a_cluster_is_a_valid_configuration() -> Result<()> {
    check::<GatewayOptions>("gateway", "serve")?;
    check::<WriterOptions>("writer", "run")?;
    check::<ReporterOptions>("reporter", "serve")
}

fn check<C: clap::Parser + CheckOptions>(service: &str, command: &str) -> Result<()> {
    let folder = tempfile::tempdir()?;
    // What is mounted there.
    let kafka = "security.protocol=SASL_SSL\nsasl.mechanism=SCRAM-SHA-512\n\
                 sasl.username=tapedeck\nsasl.password=secret\n";
    std::fs::write(folder.path().join("kafka.properties"), kafka)?;
    std::fs::write(folder.path().join("database-url"), "postgres://tapedeck@postgres/tapedeck")?;
    keys::file::change(&folder.path().join("keys.json"), |file| {
        file.add("site", KeyHash::of("key"), Timestamp::now())
    })?;
    let mounted = |argument: String| {
        OsString::from(argument.replace("/etc/tapedeck", &folder.path().display().to_string()))
    };
    let arguments = [service, command].map(OsString::from).into_iter();
    let arguments =
        arguments.chain(reference::configuration::example(service)?.into_iter().map(mounted));
    match try_parse::<C>(arguments) {
        Ok(_) => Ok(()),
        Err(Refused::Clap(error)) => Err(error.into()),
        Err(Refused::Problems(problems)) => anyhow::bail!("{service}: {problems:?}"),
    }
}

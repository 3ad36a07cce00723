//! The metrics of all three services, as Prometheus would take them.

use std::io::Write;
use std::process::{Command, Stdio};

use anyhow::{Context, Result};
use tests::stack::{Environment, Service, Stack};

#[tokio::test]
async fn promtool_finds_nothing_to_say_about_any_service() -> Result<()> {
    let environment = Environment::new(Stack::shared().await?).await?;
    for service in [environment.gateway(), environment.writer(), environment.reporter()] {
        let service = service.start().await?;
        service.wait_ready().await?;
        assert_eq!(check(&service).await?, "", "{}", service.process().name());
    }
    Ok(())
}

#[tokio::test]
async fn gateway_and_writer_tell_what_their_allocator_holds() -> Result<()> {
    let environment = Environment::new(Stack::shared().await?).await?;
    for service in [environment.gateway(), environment.writer()] {
        let service = service.start().await?;
        service.wait_ready().await?;
        let metrics = service.metrics().await?;
        let bytes = |state| metrics.sum("tapedeck_heap_bytes", &[("state", state)]);
        let (allocated, active) = (bytes("allocated"), bytes("active"));
        let (resident, process) =
            (bytes("resident"), metrics.sum("process_resident_memory_bytes", &[]));
        // Of an allocator that nobody uses, nothing would be allocated.
        assert!(allocated >= Some(1e6), "{allocated:?}");
        assert!(allocated <= active && active <= resident, "{active:?}, {resident:?}");
        assert!(resident <= process, "{resident:?}, {process:?}");
    }
    Ok(())
}

/// What `promtool check metrics` says.
async fn check(service: &Service) -> Result<String> {
    let metrics = service.metrics().await?;
    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("promtool comes with Debian's package prometheus")?;
    promtool.stdin.take().context("no standard input")?.write_all(metrics.text().as_bytes())?;
    let output = promtool.wait_with_output()?;
    let mut said = String::from_utf8([output.stdout, output.stderr].concat())?;
    if !output.status.success() {
        said.push_str(&output.status.to_string());
    }
    Ok(said)
}

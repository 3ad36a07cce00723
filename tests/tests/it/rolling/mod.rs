//! All services replaced one after the other while recorders send, as an orchestrator does it: the
//! new one is ready before the old one is told to go, and a load balancer sends to what is ready.

mod balancer;
mod recorders;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures::future::try_join_all;
use tests::stack::paths::Programs;
use tests::stack::service::ServiceBuilder;
use tests::stack::{Environment, Program, Service, Stack};
use tokio_util::sync::CancellationToken;

use balancer::LoadBalancer;
use recorders::{Answers, EVENTS, Recorder};

/// Recorders, each of which sends as fast as it is answered.
const RECORDERS: usize = 16;
/// Gateways and writers at a time.
const REPLICAS: usize = 2;

/// How long a gateway goes on serving when it is told to go: the load balancer asks more often.
const DRAIN_DELAY: (&str, &str) = ("TAPEDECK_DRAIN_DELAY_SECONDS", "2");

/// How long the writers may take for what is left at the end.
const COMMITTED_WITHIN: Duration = Duration::from_secs(60);

/// Where the folder of an earlier version's programs is named: `deploy/local/previous.sh` builds
/// them.
const PREVIOUS_PROGRAMS: &str = "TAPEDECK_PREVIOUS_PROGRAMS";

/// One version of the services with its settings.
struct Release<'a> {
    environment: &'a Environment,
    programs: Programs,
    gateway_settings: &'a [(&'a str, &'a str)],
}

impl Release<'_> {
    async fn gateway(&self) -> Result<Service> {
        let settings = self.gateway_settings.iter().copied().chain([DRAIN_DELAY]);
        self.start(self.environment.gateway().variables(settings), Program::Gateway).await
    }

    async fn writer(&self) -> Result<Service> {
        self.start(self.environment.writer(), Program::Writer).await
    }

    async fn reporter(&self) -> Result<Service> {
        self.start(self.environment.reporter(), Program::Reporter).await
    }

    /// Starts a service and waits until it is ready.
    async fn start(&self, service: ServiceBuilder<'_>, program: Program) -> Result<Service> {
        let service = service.file(self.programs.file(program.name())?).start().await?;
        service.wait_ready().await?;
        Ok(service)
    }

    async fn migrate(&self) -> Result<()> {
        let file = self.programs.file(Program::Writer.name())?;
        self.environment.migrate()?.file(file).run().await?.success().map(drop)
    }
}

/// Replaces every process of one release by one of the next while recorders send, in the order of
/// an upgrade. Nothing may be lost, nor stored twice; gives how often a batch was put off.
async fn replace_all(old: &Release<'_>, new: &Release<'_>) -> Result<usize> {
    let environment = old.environment;
    let mut gateways = Vec::new();
    let mut writers = Vec::new();
    for _ in 0..REPLICAS {
        gateways.push(old.gateway().await?);
        writers.push(old.writer().await?);
    }
    let mut reporter = old.reporter().await?;
    let balancer = LoadBalancer::default();
    balancer.probe(&gateways).await?;

    let (stop, answers) = (CancellationToken::new(), Arc::new(Answers::default()));
    let recorders = (0..RECORDERS).map(|_| {
        let recorder = Recorder::new(balancer.clone(), environment.key(), Arc::clone(&answers));
        let stop = stop.clone();
        async { tokio::spawn(recorder?.send(stop)).await? }
    });
    let replacing = async {
        let stops = stop.clone().drop_guard();
        answers.go_on().await?;
        new.migrate().await?;
        for writer in &mut writers {
            answers.go_on().await?;
            end(std::mem::replace(writer, new.writer().await?)).await?;
        }
        for _ in 0..REPLICAS {
            answers.go_on().await?;
            gateways.push(new.gateway().await?);
            balancer.probe(&gateways).await?;
            let oldest = gateways.remove(0);
            balancer.end(oldest, &gateways).await?;
        }
        end(std::mem::replace(&mut reporter, new.reporter().await?)).await?;
        answers.go_on().await?;
        drop(stops);
        Ok(())
    };
    tokio::try_join!(try_join_all(recorders), replacing)?;
    environment.wait_committed(COMMITTED_WITHIN).await?;

    let sql = environment.sql().await?;
    let count = "SELECT count(*), count(DISTINCT event_id) FROM events";
    let row = sql.query_one(count, &[]).await?;
    let (stored, distinct): (i64, i64) = (row.get(0), row.get(1));
    let (acknowledged, put_off) = (answers.acknowledged() * EVENTS, answers.put_off());
    println!("{acknowledged} events acknowledged, {put_off} batches put off, {stored} stored");
    ensure!(usize::try_from(stored)? == acknowledged, "not what was acknowledged");
    ensure!(distinct == stored, "{distinct} of {stored} are distinct");
    Ok(put_off)
}

async fn end(service: Service) -> Result<()> {
    ensure!(service.terminate().await?.success(), "{}", service.log());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn restarting_one_after_the_other_refuses_nobody_and_loses_nothing() -> Result<()> {
    let environment = &Environment::new(Stack::shared().await?).await?;
    let release = Release { environment, programs: Programs::Built, gateway_settings: &[] };
    // Nobody is sent to a gateway that is about to go, so nobody is put off.
    ensure!(replace_all(&release, &release).await? == 0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn restarting_while_recorders_send_too_fast_puts_them_off_and_loses_nothing() -> Result<()> {
    let environment = &Environment::new(Stack::shared().await?).await?;
    // Far less than the recorders send.
    let gateway_settings = &[("TAPEDECK_RATE_LIMIT_PER_SECOND", "40")];
    let release = Release { environment, programs: Programs::Built, gateway_settings };
    ensure!(replace_all(&release, &release).await? > 0, "nobody was put off");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs TAPEDECK_PREVIOUS_PROGRAMS, what deploy/local/previous.sh prints; test.sh"]
async fn upgrading_one_after_the_other_refuses_nobody_and_loses_nothing() -> Result<()> {
    let folder = std::env::var_os(PREVIOUS_PROGRAMS).context(PREVIOUS_PROGRAMS)?;
    let previous = Programs::In(PathBuf::from(folder));
    let environment = &Environment::with_programs(Stack::shared().await?, previous.clone()).await?;
    let release = |programs| Release { environment, programs, gateway_settings: &[] };
    ensure!(replace_all(&release(previous), &release(Programs::Built)).await? == 0);
    Ok(())
}

//! A whole Tapedeck: Kafka, Postgres, one of each service, and if wanted a Prometheus.

use std::time::Duration;

use anyhow::{Error, Result, anyhow};

use super::addresses::Addresses;
use super::environment::Environment;
use super::ports::PortOptions;
use super::process::Process;
use super::prometheus::{Prometheus, PrometheusOptions};
use super::roles::Role;
use super::service::{Program, Service};
use super::{Ports, Stack, Tuning};

/// How often the processes are looked after.
const LOOK_AFTER_INTERVAL: Duration = Duration::from_millis(500);

/// A running Tapedeck. Dropping it kills everything.
#[derive(Debug)]
pub struct Tapedeck {
    // In the order in which they go.
    prometheus: Option<Prometheus>,
    gateway: Service,
    writer: Service,
    reporter: Service,
    environment: Environment,
    stack: Stack,
}

impl Tapedeck {
    /// Starts everything and waits until it is ready. `report` is told what happens.
    ///
    /// # Errors
    /// When a port is in use, a program has not been built, or a part does not come up.
    pub async fn start(
        ports: PortOptions,
        prometheus: PrometheusOptions,
        report: impl Fn(&str),
    ) -> Result<Self> {
        ports.check()?;
        report("starting Kafka and Postgres");
        let wanted = |port: u16| (port != 0).then_some(port);
        let servers =
            Ports { kafka: wanted(ports.kafka_port), postgres: wanted(ports.postgres_port) };
        let stack = Stack::start(servers, Tuning::Tests).await?;
        report("migrating the database");
        let environment = Environment::sole(&stack).await?;
        report("starting the gateway, the writer and the reporter");
        let address = |port: u16| format!("127.0.0.1:{port}");
        let gateway = environment
            .gateway()
            .variable("TAPEDECK_LISTEN", address(ports.gateway_port))
            .variable("TAPEDECK_ADMIN_LISTEN", address(ports.gateway_admin_port));
        let writer = environment
            .writer()
            .variable("TAPEDECK_ADMIN_LISTEN", address(ports.writer_admin_port));
        let reporter = environment
            .reporter()
            .variable("TAPEDECK_ADMIN_LISTEN", address(ports.reporter_admin_port));
        let (gateway, writer, reporter) =
            tokio::try_join!(gateway.start(), writer.start(), reporter.start())?;
        tokio::try_join!(gateway.wait_ready(), writer.wait_ready(), reporter.wait_ready())?;
        let prometheus = if prometheus.with_prometheus {
            report("starting Prometheus");
            let targets = [
                (Program::Gateway, gateway.admin_address()),
                (Program::Writer, writer.admin_address()),
                (Program::Reporter, reporter.admin_address()),
            ];
            Some(Prometheus::start(stack.folder().path(), prometheus, &targets).await?)
        } else {
            None
        };
        Ok(Self { prometheus, gateway, writer, reporter, environment, stack })
    }

    /// Where everything is.
    ///
    /// # Errors
    /// When the database's address is not one of a role.
    pub fn addresses(&self) -> Result<Addresses> {
        Ok(Addresses {
            gateway_url: self.gateway.url(),
            gateway_admin_url: self.gateway.admin_url(),
            writer_admin_url: self.writer.admin_url(),
            reporter_admin_url: self.reporter.admin_url(),
            database_url: self.environment.database_url_for(Role::Reader)?,
            database_admin_url: self.environment.database_url().to_owned(),
            kafka_brokers: self.environment.brokers().to_owned(),
            key: self.environment.key().to_owned(),
            prometheus_url: self.prometheus.as_ref().map(|it| it.url().to_owned()),
        })
    }

    /// The settings that the services run with, for one-off commands.
    pub fn environment(&self) -> &Environment {
        &self.environment
    }

    /// Waits until a part ends that nobody has asked to; says which, and the end of its log.
    pub async fn failure(&self) -> Error {
        loop {
            for process in self.processes() {
                match process.exit_status() {
                    Ok(None) => {}
                    Ok(Some(status)) => {
                        let name = process.name();
                        return anyhow!("{name} ended ({status}){}", process.end_of_log());
                    }
                    Err(error) => return error,
                }
            }
            tokio::time::sleep(LOOK_AFTER_INTERVAL).await;
        }
    }

    fn processes(&self) -> impl Iterator<Item = &Process> {
        let always = [
            self.gateway.process(),
            self.writer.process(),
            self.reporter.process(),
            self.stack.kafka().process(),
            self.stack.postgres().process(),
        ];
        always.into_iter().chain(self.prometheus.as_ref().map(Prometheus::process))
    }

    /// Drains the services, stops Postgres and Kafka, and removes all data.
    ///
    /// # Errors
    /// When a part does not stop in time, or not well; everything is stopped all the same.
    pub async fn stop(self) -> Result<()> {
        let Self { prometheus, gateway, writer, reporter, environment: _, stack } = self;
        // Its data go with the stack.
        drop(prometheus);
        let drained = async |service: Service| {
            let status = service.terminate().await?;
            let process = service.process();
            let name = process.name();
            anyhow::ensure!(status.success(), "{name}: {status}{}", process.end_of_log());
            Ok(())
        };
        let (gateway, writer, reporter) =
            tokio::join!(drained(gateway), drained(writer), drained(reporter));
        let stack = stack.stop().await;
        gateway.and(writer).and(reporter).and(stack)
    }
}

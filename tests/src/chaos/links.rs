//! The connections between the parts, each through a proxy of its own.

use std::net::SocketAddr;

use anyhow::Result;

use super::kind::{Between, GATEWAYS};
use crate::stack::cluster::{BROKERS, Listener, Listeners};
use crate::stack::ports::free_port;
use crate::stack::toxiproxy::{Proxy, Toxiproxy};

/// All proxies of a fault run.
#[derive(Debug)]
pub(super) struct Links {
    /// Recorders to each gateway.
    pub gateways: Vec<Proxy>,
    /// Gateways to each broker.
    gateways_brokers: Vec<Proxy>,
    /// Writers to each broker.
    writers_brokers: Vec<Proxy>,
    /// Brokers to each broker.
    between_brokers: Vec<Proxy>,
    /// Writers to Postgres.
    pub writers_postgres: Proxy,
    /// Reporters to Postgres.
    pub reporters_postgres: Proxy,
    /// The run's own questions to Postgres; never disturbed.
    pub questions_postgres: Proxy,
}

/// Somewhere to lead a proxy to until its upstream is there.
const NOWHERE: &str = "127.0.0.1:1";

impl Links {
    /// Makes all proxies; gives the listeners that the brokers must have behind them, and the
    /// gateways' ports.
    ///
    /// # Errors
    /// When Toxiproxy does not answer.
    pub(super) async fn new(
        server: &Toxiproxy,
    ) -> Result<(Self, [Listeners; BROKERS], [SocketAddr; GATEWAYS])> {
        let mut listeners = Vec::new();
        let [mut gateways_brokers, mut writers_brokers, mut between_brokers] =
            [const { vec![] }; 3];
        for broker in 1..=BROKERS {
            let (gateway, from_gateways) =
                listener(server, "GATEWAYS", &format!("gateways-broker-{broker}")).await?;
            let (writer, from_writers) =
                listener(server, "WRITERS", &format!("writers-broker-{broker}")).await?;
            let (internal, from_brokers) =
                listener(server, "INTERNAL", &format!("brokers-broker-{broker}")).await?;
            gateways_brokers.push(from_gateways);
            writers_brokers.push(from_writers);
            between_brokers.push(from_brokers);
            listeners.push(Listeners { internal, clients: vec![gateway, writer] });
        }
        let mut gateways = Vec::new();
        let mut gateway_addresses = [SocketAddr::from(([127, 0, 0, 1], 0)); GATEWAYS];
        for (number, address) in (1..).zip(&mut gateway_addresses) {
            address.set_port(free_port()?);
            let name = format!("recorders-gateway-{number}");
            gateways.push(server.proxy(&name, &address.to_string()).await?);
        }
        let links = Self {
            gateways,
            gateways_brokers,
            writers_brokers,
            between_brokers,
            writers_postgres: server.proxy("writers-postgres", NOWHERE).await?,
            reporters_postgres: server.proxy("reporters-postgres", NOWHERE).await?,
            questions_postgres: server.proxy("questions-postgres", NOWHERE).await?,
        };
        let listeners =
            listeners.try_into().map_err(|_| anyhow::anyhow!("not {BROKERS} brokers"))?;
        Ok((links, listeners, gateway_addresses))
    }

    /// Those between two parts.
    pub(super) fn between(&self, parts: Between) -> &[Proxy] {
        match parts {
            Between::RecordersAndGateway => &self.gateways,
            Between::GatewaysAndBroker => &self.gateways_brokers,
            Between::WritersAndBroker => &self.writers_brokers,
            Between::Brokers => &self.between_brokers,
            Between::WritersAndPostgres => std::slice::from_ref(&self.writers_postgres),
            Between::ReportersAndPostgres => std::slice::from_ref(&self.reporters_postgres),
        }
    }

    /// What gateways begin with to find the brokers.
    pub(super) fn brokers_for_gateways(&self) -> String {
        addresses(&self.gateways_brokers)
    }

    /// What writers begin with to find the brokers.
    pub(super) fn brokers_for_writers(&self) -> String {
        addresses(&self.writers_brokers)
    }

    /// Leads everybody to the server that takes writes now.
    ///
    /// # Errors
    /// When Toxiproxy does not answer.
    pub(super) async fn lead_to_postgres(&self, address: &str) -> Result<()> {
        for proxy in [&self.writers_postgres, &self.reporters_postgres, &self.questions_postgres] {
            proxy.lead_to(address).await?;
        }
        Ok(())
    }
}

/// A listener behind a proxy, which the broker advertises.
async fn listener(
    server: &Toxiproxy,
    name: &'static str,
    proxy: &str,
) -> Result<(Listener, Proxy)> {
    let port = free_port()?;
    let proxy = server.proxy(proxy, &format!("127.0.0.1:{port}")).await?;
    Ok((Listener { name, port, advertised: proxy.address().to_string() }, proxy))
}

fn addresses(proxies: &[Proxy]) -> String {
    let all: Vec<_> = proxies.iter().map(|proxy| proxy.address().to_string()).collect();
    all.join(",")
}

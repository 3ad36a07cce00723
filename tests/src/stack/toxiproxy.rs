//! Connections that can be delayed, slowed, cut and left half open: Toxiproxy between the parts.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use reqwest::Method;
use serde::Deserialize;
use serde_json::{Value, json};

use super::launch::Launch;
use super::paths;
use super::ports;
use super::process::Process;

/// How long building it once may take.
const FETCH_WITHIN: Duration = Duration::from_secs(300);
/// How long it may take until it answers.
const START_WITHIN: Duration = Duration::from_secs(30);
/// How long one of its answers may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// What is done to the bytes of a proxy, in both directions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Toxic {
    /// They come later: an answer to a question by so many milliseconds at least, three times as
    /// many at most.
    Latency {
        /// Milliseconds.
        milliseconds: u64,
    },
    /// So many kilobytes a second pass.
    Bandwidth {
        /// Kilobytes a second.
        kilobytes: u64,
    },
    /// They vanish, and nobody is told: connections stay open, also new ones.
    Blackhole,
}

impl Toxic {
    fn name_and_attributes(self) -> (&'static str, Value) {
        match self {
            Self::Latency { milliseconds } => {
                ("latency", json!({"latency": milliseconds, "jitter": milliseconds / 2}))
            }
            Self::Bandwidth { kilobytes } => ("bandwidth", json!({"rate": kilobytes})),
            Self::Blackhole => ("timeout", json!({"timeout": 0})),
        }
    }
}

/// The server of all proxies of a run.
#[derive(Debug)]
pub struct Toxiproxy {
    _process: Process,
    api: Api,
}

#[derive(Clone, Debug)]
struct Api {
    http: reqwest::Client,
    url: String,
}

/// One proxy: connections to [`Proxy::address`] go on to its upstream.
#[derive(Clone, Debug)]
pub struct Proxy {
    name: String,
    address: SocketAddr,
    api: Api,
}

#[derive(Deserialize)]
struct Created {
    listen: SocketAddr,
}

impl Toxiproxy {
    /// Starts the server with its log below `folder`.
    ///
    /// # Errors
    /// When it cannot be built or does not come up.
    pub async fn start(folder: &Path) -> Result<Self> {
        let script = paths::repository().join("deploy/local/toxiproxy/fetch.sh");
        let output = folder.join("toxiproxy-path");
        let fetching = Launch::new("toxiproxy-fetch", script, folder.join("toxiproxy-fetch.log"))
            .output(&output)
            .start()?;
        let status = fetching.wait_for_exit(FETCH_WITHIN).await?;
        ensure!(status.success(), "Toxiproxy cannot be built{}", fetching.end_of_log());
        let program = std::fs::read_to_string(&output)?;
        let http = reqwest::Client::builder().no_proxy().timeout(ANSWER_TIMEOUT).build()?;
        ports::start_on(None, async |port| {
            let api = Api { http: http.clone(), url: format!("http://127.0.0.1:{port}") };
            let process =
                Launch::new("toxiproxy", program.trim_end(), folder.join("toxiproxy.log"))
                    .arguments(["-host", "127.0.0.1", "-port", &port.to_string()])
                    .start()?;
            let answers = async || api.send(Method::GET, "version", None).await.ok();
            process.wait_until("it answers", START_WITHIN, answers).await?;
            Ok(Self { _process: process, api })
        })
        .await
    }

    /// A proxy on a port of its own that leads to `upstream`, `host:port`.
    ///
    /// # Errors
    /// When the name is taken or the server does not answer.
    pub async fn proxy(&self, name: &str, upstream: &str) -> Result<Proxy> {
        let proxy = json!({"name": name, "listen": "127.0.0.1:0", "upstream": upstream});
        let created = self.api.send(Method::POST, "proxies", Some(proxy)).await?;
        let Created { listen } = serde_json::from_str(&created)?;
        Ok(Proxy { name: name.to_owned(), address: listen, api: self.api.clone() })
    }
}

impl Proxy {
    /// What it is called.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Leads new connections elsewhere and cuts those that there are.
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn lead_to(&self, upstream: &str) -> Result<()> {
        self.change(json!({"upstream": upstream})).await
    }

    /// Cuts all connections and refuses new ones, until [`Self::mend`].
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn cut(&self) -> Result<()> {
        self.change(json!({"enabled": false})).await
    }

    /// Lets connections through again after [`Self::cut`].
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn mend(&self) -> Result<()> {
        self.change(json!({"enabled": true})).await
    }

    /// Begins to disturb both directions.
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn poison(&self, toxic: Toxic) -> Result<()> {
        let (kind, attributes) = toxic.name_and_attributes();
        for stream in ["upstream", "downstream"] {
            let toxic = json!({
                "name": stream, "type": kind, "stream": stream, "attributes": attributes,
            });
            let path = format!("proxies/{}/toxics", self.name);
            self.api.send(Method::POST, &path, Some(toxic)).await?;
        }
        Ok(())
    }

    /// Ends what [`Self::poison`] began.
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn cure(&self) -> Result<()> {
        for stream in ["upstream", "downstream"] {
            let path = format!("proxies/{}/toxics/{stream}", self.name);
            self.api.send(Method::DELETE, &path, None).await?;
        }
        Ok(())
    }

    async fn change(&self, change: Value) -> Result<()> {
        let path = format!("proxies/{}", self.name);
        self.api.send(Method::POST, &path, Some(change)).await.map(drop)
    }
}

impl Api {
    async fn send(&self, method: Method, path: &str, body: Option<Value>) -> Result<String> {
        let mut request = self.http.request(method, format!("{}/{path}", self.url));
        if let Some(body) = body {
            request = request.json(&body);
        }
        let answer = request.send().await.context("Toxiproxy does not answer")?;
        let (status, text) = (answer.status(), answer.text().await?);
        ensure!(status.is_success(), "Toxiproxy refuses {path}: {status} {text}");
        Ok(text)
    }
}

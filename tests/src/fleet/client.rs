//! Requests to a gateway and what their answers mean.

use std::collections::BTreeSet;
use std::time::Duration;

use common::options::Secret;
use common::page_hash::PageHash;
use reqwest::header::{CONTENT_ENCODING, CONTENT_TYPE, RETRY_AFTER};
use reqwest::{RequestBuilder, Response, Url};
use serde::{Deserialize, Serialize};

use super::body::Body;
use super::retry::Answer;

/// How long connecting may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// The recorders' way to the gateways.
#[derive(Clone, Debug)]
pub(super) struct Client {
    http: reqwest::Client,
    gateways: Vec<Gateway>,
    key: Option<Secret>,
}

/// A gateway's paths.
#[derive(Clone, Debug)]
struct Gateway {
    batches: Url,
    missing: Url,
}

#[derive(Deserialize, PartialEq, Eq)]
struct Counts {
    events: usize,
    webstates: usize,
}

#[derive(Serialize)]
struct Question<'a> {
    html_hashes: &'a [PageHash],
}

#[derive(Deserialize)]
struct Missing {
    missing: BTreeSet<PageHash>,
}

impl Client {
    /// A client of the gateways at `gateway_urls`, which waits up to `request_timeout` for an
    /// answer.
    ///
    /// # Errors
    /// When there is none, or one of them is no address.
    pub(super) fn new(
        gateway_urls: &[String],
        key: Option<Secret>,
        request_timeout: Duration,
    ) -> Result<Self, String> {
        let gateways: Vec<_> =
            gateway_urls.iter().map(|url| Gateway::at(url)).collect::<Result<_, _>>()?;
        if gateways.is_empty() {
            return Err("no gateway's address is given".to_owned());
        }
        let http = reqwest::Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(request_timeout)
            .build()
            .map_err(|error| error.to_string())?;
        Ok(Self { http, gateways, key })
    }

    /// How many gateways there are.
    pub(super) fn gateways(&self) -> usize {
        self.gateways.len()
    }

    /// Gateway `number`, counted round.
    fn gateway(&self, number: usize) -> &Gateway {
        &self.gateways[number % self.gateways.len()]
    }

    fn post(&self, url: &Url) -> RequestBuilder {
        let request = self.http.post(url.clone());
        match &self.key {
            Some(key) => request.bearer_auth(key.expose()),
            None => request,
        }
    }

    /// Sends a body that holds so many events and page states to one of the gateways.
    pub(super) async fn send(
        &self,
        gateway: usize,
        body: &Body,
        events: usize,
        webstates: usize,
    ) -> Answer {
        let mut request = self
            .post(&self.gateway(gateway).batches)
            .header(CONTENT_TYPE, body.encoding.content_type())
            .body(body.bytes.clone());
        if let Some(encoding) = body.encoding.content_encoding() {
            request = request.header(CONTENT_ENCODING, encoding);
        }
        match request.send().await {
            Ok(response) => read(response, &Counts { events, webstates }).await,
            Err(error) => Answer::Unclear(without_answer(&error)),
        }
    }

    /// Which of these pages one of the gateways wants to have; all, where it does not say.
    pub(super) async fn missing(
        &self,
        gateway: usize,
        html_hashes: &[PageHash],
    ) -> BTreeSet<PageHash> {
        let asking = async {
            let url = &self.gateway(gateway).missing;
            let request = self.post(url).json(&Question { html_hashes });
            request.send().await?.error_for_status()?.json::<Missing>().await
        };
        // To ask in vain costs an upload and nothing else: the batch itself follows the table.
        match asking.await {
            Ok(Missing { missing }) => missing,
            Err(_) => html_hashes.iter().copied().collect(),
        }
    }
}

impl Gateway {
    fn at(gateway_url: &str) -> Result<Self, String> {
        let base = format!("{}/", gateway_url.trim_end_matches('/'));
        let path = |path: &str| {
            Url::parse(&base)
                .and_then(|base| base.join(path))
                .map_err(|error| format!("the gateway's address {gateway_url}: {error}"))
        };
        Ok(Self { batches: path("v1/batches")?, missing: path("v1/webstates/missing")? })
    }
}

/// Why there is no answer, in one word.
pub(crate) fn without_answer(error: &reqwest::Error) -> &'static str {
    match error {
        _ if error.is_connect() => "connect",
        _ if error.is_timeout() => "timeout",
        _ => "broken",
    }
}

async fn read(response: Response, sent: &Counts) -> Answer {
    let status = response.status().as_u16();
    match status {
        200 => match response.json::<Counts>().await {
            Ok(counts) if counts == *sent => Answer::Acknowledged,
            Ok(_) => Answer::Unclear("other counts"),
            Err(_) => Answer::Unclear("broken"),
        },
        408 => Answer::TooSlow,
        429 | 503 => Answer::Later { status, retry_after: retry_after(&response) },
        400..500 => Answer::Refused(status),
        _ => Answer::Unclear("unexpected status"),
    }
}

fn retry_after(response: &Response) -> Option<Duration> {
    let seconds = response.headers().get(RETRY_AFTER)?.to_str().ok()?.parse().ok()?;
    Some(Duration::from_secs(seconds))
}

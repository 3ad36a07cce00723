//! Publishing the records of a request, and waiting until Kafka has acknowledged them.

use common::failpoint;
use common::record::headers::RecordHeaders;
use futures::future::join_all;

use crate::answers::Accepted;
use crate::budget::Reservation;
use crate::gateway::Gateway;
use crate::prepare::{PageRecord, Prepared};
use crate::problem::Problem;
use crate::publish::{PublishError, Record};
use crate::spans::{self, RequestContext};

/// The records of a request.
#[derive(Debug)]
pub struct Publication {
    /// Those of its envelopes.
    pub envelopes: Vec<Prepared>,
    /// Pages, each of which one envelope needs at least.
    pub pages: Vec<PageRecord>,
    /// Holds the bytes of all of them.
    pub reservation: Reservation,
}

impl Publication {
    /// Publishes the records; gives what became of each envelope, in order. One is accepted when
    /// all of its records and all of its pages are acknowledged, whichever envelope brought
    /// them.
    ///
    /// # Errors
    /// When nothing was tried.
    pub async fn publish(
        self,
        gateway: &Gateway,
        headers: &RecordHeaders,
        request: Option<&RequestContext>,
    ) -> Result<Vec<Result<Accepted, Problem>>, Problem> {
        let Self { envelopes, pages, reservation } = self;
        if envelopes.is_empty() {
            return Ok(Vec::new());
        }
        let _pass = gateway.breaker.admit().map_err(|closed| {
            let problem = Problem::from(closed);
            gateway.metrics.count_refused(problem.kind, &envelopes);
            problem
        })?;
        let records = envelopes.iter().map(|envelope| envelope.records.len()).sum();
        let (topic, traces) = (&gateway.events_topic, &gateway.traces);
        let mut span = spans::of_publication(traces, request, topic, records, pages.len());
        let headers = spans::record_headers(&span, headers).to_kafka();
        let publish = |topic: &str, key: &str, value: &[u8]| {
            gateway.publisher.publish(Record { topic, key, value }, headers.clone())
        };
        let page_reports: Vec<_> = pages
            .iter()
            .map(|page| publish(&gateway.webstates_topic, &page.hash.to_hex(), &page.value))
            .collect();
        let record_reports: Vec<Vec<_>> = envelopes
            .iter()
            .map(|envelope| {
                let values = envelope.records.iter().map(|record| &record.value);
                values
                    .map(|value| publish(&gateway.events_topic, &envelope.replay_id, value))
                    .collect()
            })
            .collect();
        // The producer has copies, which its own limit bounds.
        let page_hashes: Vec<_> = pages.into_iter().map(|page| page.hash).collect();
        let waiting: Vec<_> = envelopes.into_iter().map(Waiting::from).collect();
        drop(reservation);
        if failpoint::is_on("gateway::acknowledge-early") {
            return Ok(waiting.into_iter().map(|envelope| Ok(envelope.sent)).collect());
        }

        let page_results = join_all(page_reports).await;
        for (hash, _) in page_hashes.iter().zip(&page_results).filter(|(_, result)| result.is_ok())
        {
            gateway.memory.acknowledged(*hash);
            gateway.metrics.pages_published.inc();
        }
        let mut outcomes = Vec::with_capacity(waiting.len());
        for (envelope, reports) in waiting.into_iter().zip(record_reports) {
            let record_results = join_all(reports).await;
            let page_results = envelope.pages.iter().map(|&place| page_results[place]);
            let result: Result<(), PublishError> =
                record_results.into_iter().chain(page_results).collect();
            outcomes.push(envelope.conclude(result, gateway));
        }
        spans::published(&mut span, &outcomes);
        failpoint::pass("gateway::after-delivery-report");
        Ok(outcomes)
    }
}

/// An envelope whose records are with the producer.
struct Waiting {
    pages: Vec<usize>,
    sent: Accepted,
}

impl From<Prepared> for Waiting {
    fn from(envelope: Prepared) -> Self {
        let sent = Accepted { events: envelope.events, webstates: envelope.webstates };
        Self { pages: envelope.pages, sent }
    }
}

impl Waiting {
    fn conclude(
        self,
        result: Result<(), PublishError>,
        gateway: &Gateway,
    ) -> Result<Accepted, Problem> {
        match result {
            Ok(()) => {
                gateway.metrics.envelopes_accepted.inc();
                gateway.metrics.events_accepted.inc_by(self.sent.events as u64);
                Ok(self.sent)
            }
            Err(error) => {
                let problem = Problem::from(error);
                gateway.metrics.count_refused_envelope(problem.kind, self.sent.events);
                Err(problem)
            }
        }
    }
}

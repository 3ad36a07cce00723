//! From the bodies of a request to the records that Kafka has to acknowledge: everything that
//! needs the processor and nothing else.

use std::collections::HashMap;

use common::limits::SizeLimits;
use common::page_hash::PageHash;
use common::record::events::{EncodedRecord, Item, ItemTooLarge};
use common::record::webstates;
use common::time::Timestamp;

use crate::envelope::{self, EnvelopeRules, Page, Refused};
use crate::metrics::GatewayMetrics;
use crate::pages::PageMemory;
use crate::problem::{Kind, Problem};

/// An envelope whose records are made.
#[derive(Debug)]
pub struct Prepared {
    /// The key of its records.
    pub replay_id: String,
    /// The values of its records.
    pub records: Vec<EncodedRecord>,
    /// The pages that must be in Kafka as well before it is accepted, by their place in
    /// [`Preparation::into_pages`].
    pub pages: Vec<usize>,
    /// How many events it holds.
    pub events: usize,
    /// How many page states it holds.
    pub webstates: usize,
}

/// A page that has to be sent.
#[derive(Debug)]
pub struct PageRecord {
    /// Its hash, the record's key.
    pub hash: PageHash,
    /// The record's value.
    pub value: Vec<u8>,
}

/// Makes the records of the envelopes of one request, each page once.
pub struct Preparation<'a> {
    rules: &'a EnvelopeRules,
    limits: SizeLimits,
    memory: &'a PageMemory,
    metrics: &'a GatewayMetrics,
    now: Timestamp,
    pages: Vec<PageRecord>,
    places: HashMap<PageHash, usize>,
    record_bytes: usize,
}

impl<'a> Preparation<'a> {
    /// For a request that arrived at `now`.
    pub fn new(
        rules: &'a EnvelopeRules,
        limits: SizeLimits,
        memory: &'a PageMemory,
        metrics: &'a GatewayMetrics,
        now: Timestamp,
    ) -> Self {
        let (pages, places) = (Vec::new(), HashMap::new());
        Self { rules, limits, memory, metrics, now, pages, places, record_bytes: 0 }
    }

    /// Reads one envelope and makes its records.
    ///
    /// # Errors
    /// Why it is refused, whole.
    pub fn envelope(&mut self, body: &mut [u8]) -> Result<Prepared, Problem> {
        let result = envelope::read(body, self.rules, self.now).and_then(|envelope| {
            self.metrics.escapes_replaced.inc_by(envelope.replaced_escapes);
            let events = envelope.events.len();
            self.records(&envelope).map_err(|problem| Refused { problem, events })
        });
        match result {
            Ok(prepared) => {
                self.metrics.events_received.inc_by(prepared.events as u64);
                Ok(prepared)
            }
            Err(Refused { problem, events }) => {
                self.metrics.events_received.inc_by(events as u64);
                self.metrics.count_refused_envelope(problem.kind, events);
                Err(problem)
            }
        }
    }

    /// The bytes of all records made so far.
    pub fn record_bytes(&self) -> usize {
        self.record_bytes
    }

    /// The pages that have to be sent.
    pub fn into_pages(self) -> Vec<PageRecord> {
        self.pages
    }

    fn records(&mut self, envelope: &envelope::Envelope<'_>) -> Result<Prepared, Problem> {
        let limit_bytes = self.limits.value_limit_bytes();
        let records = envelope.record().encode(limit_bytes).map_err(too_large)?;
        let mut new = Vec::new();
        let mut pages = Vec::with_capacity(envelope.pages.len());
        let mut saved: Vec<&Page<'_>> = Vec::new();
        for page in &envelope.pages {
            self.check_size(page)?;
            if self.memory.knows(page.hash) {
                saved.push(page);
                continue;
            }
            let known_here = self.places.get(&page.hash).copied().or_else(|| {
                let earlier = new.iter().position(|it: &PageRecord| it.hash == page.hash)?;
                Some(self.pages.len() + earlier)
            });
            match known_here {
                Some(place) => {
                    saved.push(page);
                    pages.push(place);
                }
                None => {
                    pages.push(self.pages.len() + new.len());
                    new.push(compress(page, limit_bytes)?);
                }
            }
        }
        // Only now is it certain that the envelope is not refused.
        for page in saved {
            self.metrics.pages_deduplicated.inc();
            self.metrics.deduplicated_bytes.inc_by(page.content.len() as u64);
        }
        for page in new {
            self.record_bytes += page.value.len();
            self.places.insert(page.hash, self.pages.len());
            self.pages.push(page);
        }
        self.record_bytes += records.iter().map(|record| record.value.len()).sum::<usize>();
        Ok(Prepared {
            replay_id: envelope.replay.replay_id.to_string(),
            records,
            pages,
            events: envelope.events.len(),
            webstates: envelope.sightings.len(),
        })
    }

    fn check_size(&self, page: &Page<'_>) -> Result<(), Problem> {
        let (bytes, limit_bytes) = (page.content.len(), self.limits.page_limit_bytes);
        if bytes <= limit_bytes {
            return Ok(());
        }
        let detail = format!("has {bytes} bytes; the limit is {limit_bytes}");
        Err(Problem::new(Kind::TooLarge, detail).at_path(content_path(page)))
    }
}

fn compress(page: &Page<'_>, limit_bytes: usize) -> Result<PageRecord, Problem> {
    let value = webstates::encode(page.content.as_bytes())
        .map_err(|error| Problem::new(Kind::Internal, format!("cannot compress: {error}")))?;
    if value.len() > limit_bytes {
        let detail = format!("has {} bytes compressed; the limit is {limit_bytes}", value.len());
        return Err(Problem::new(Kind::TooLarge, detail).at_path(content_path(page)));
    }
    Ok(PageRecord { hash: page.hash, value })
}

fn content_path(page: &Page<'_>) -> String {
    format!("/webstates/{}/html_content", page.position)
}

fn too_large(error: ItemTooLarge) -> Problem {
    let path = match error.item {
        Item::Replay => "/replay".to_owned(),
        Item::Event(position) => format!("/events/{position}"),
        Item::Webstate(position) => format!("/webstates/{position}"),
    };
    Problem::new(Kind::TooLarge, error.to_string()).at_path(path)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::pages::PageMemoryOptions;

    const NOW_MILLIS: i64 = 1_704_067_200_123;

    /// What a request needs around it.
    struct Fixture {
        rules: EnvelopeRules,
        memory: PageMemory,
        metrics: GatewayMetrics,
        limits: SizeLimits,
    }

    impl Fixture {
        fn new() -> Self {
            let options = PageMemoryOptions { page_memory_entries: 100, page_memory_seconds: 60 };
            Self {
                rules: EnvelopeRules::default(),
                memory: PageMemory::new(options),
                metrics: GatewayMetrics::with_series(&prometheus::Registry::new()).unwrap(),
                limits: SizeLimits { record_limit_bytes: 64 << 10, page_limit_bytes: 256 << 10 },
            }
        }

        fn preparation(&self) -> Preparation<'_> {
            let now = Timestamp::from_micros(NOW_MILLIS * 1_000);
            Preparation::new(&self.rules, self.limits, &self.memory, &self.metrics, now)
        }
    }

    fn envelope(pages: &[&str], event_data: &Value) -> Vec<u8> {
        let webstates: Vec<_> = pages
            .iter()
            .map(|page| json!({"html_content": page, "captured_at": NOW_MILLIS}))
            .collect();
        let event = json!({"seq": 0, "timestamp": NOW_MILLIS, "event_type": "click", "event_data": event_data});
        json!({
            "replay": {
                "replay_id": "2237a107-3a76-4f18-887f-a033138e750e",
                "initial_url": "https://shop.example/",
                "start_time": NOW_MILLIS,
                "user": {"user_id": "6f0e2c9a-0000-4000-8000-00000000000a"},
            },
            "events": vec![event; 3],
            "webstates": webstates,
        })
        .to_string()
        .into_bytes()
    }

    #[test]
    fn each_page_of_a_request_is_sent_once_and_waited_for_by_all() {
        let fixture = Fixture::new();
        fixture.memory.acknowledged(PageHash::of(b"known"));
        let mut preparation = fixture.preparation();
        let first =
            preparation.envelope(&mut envelope(&["a", "known", "b", "a"], &json!(1))).unwrap();
        let second = preparation.envelope(&mut envelope(&["b", "c"], &json!(1))).unwrap();
        assert_eq!((first.pages, second.pages), (vec![0, 1, 0], vec![1, 2]));
        assert_eq!((first.webstates, first.events), (4, 3));
        let pages = preparation.into_pages();
        let contents: Vec<_> =
            pages.iter().map(|page| webstates::decode(&page.value, 100).unwrap()).collect();
        assert_eq!(contents, [b"a", b"b", b"c"]);
        assert_eq!(fixture.metrics.pages_deduplicated.get(), 3);
        assert_eq!(fixture.metrics.deduplicated_bytes.get(), 7);
    }

    #[test]
    fn a_refused_envelope_leaves_no_page_behind() {
        let fixture = Fixture::new();
        let mut preparation = fixture.preparation();
        let large = "x".repeat(fixture.limits.page_limit_bytes + 1);
        let problem = preparation.envelope(&mut envelope(&["a", &large], &json!(1))).unwrap_err();
        assert_eq!(problem.kind, Kind::TooLarge);
        assert_eq!(problem.place.path.as_deref(), Some("/webstates/1/html_content"));
        assert_eq!(preparation.record_bytes(), 0);
        assert!(preparation.into_pages().is_empty());
        assert_eq!(fixture.metrics.events_received.get(), 3);
        let rejected = fixture.metrics.events_rejected.with_label_values(&["too_large"]);
        assert_eq!(rejected.get(), 3);
    }

    #[test]
    fn a_page_that_does_not_compress_is_refused() {
        let fixture = Fixture::new();
        let noise: String =
            (0_u32..4_000).map(|number| PageHash::of(&number.to_le_bytes()).to_hex()).collect();
        let problem =
            fixture.preparation().envelope(&mut envelope(&[&noise], &json!(1))).unwrap_err();
        assert_eq!(problem.kind, Kind::TooLarge);
        assert!(problem.detail.contains("compressed"), "{problem}");
    }

    #[test]
    fn a_large_envelope_is_split_and_a_large_event_refused() {
        let fixture = Fixture::new();
        let data = json!("x".repeat(40_000));
        let prepared = fixture.preparation().envelope(&mut envelope(&[], &data)).unwrap();
        assert_eq!(prepared.records.len(), 3);
        assert!(prepared.records.iter().all(|record| record.events == 1));
        let data = json!("x".repeat(70_000));
        let problem = fixture.preparation().envelope(&mut envelope(&[], &data)).unwrap_err();
        assert_eq!(problem.kind, Kind::TooLarge);
        assert_eq!(problem.place.path.as_deref(), Some("/events/0"));
    }
}

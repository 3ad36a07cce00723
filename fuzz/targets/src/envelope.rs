//! An envelope's way from its bytes to the rows that the writer makes of its records.

use std::sync::LazyLock;

use common::event_id::carries;
use common::json_text::JsonText;
use common::limits::{RECORD_OVERHEAD_BYTES, SizeLimits};
use common::page_hash::PageHash;
use common::record::webstates;
use common::time::Timestamp;
use ingest_gateway::envelope::{self, Envelope, EnvelopeRules, escapes};
use ingest_gateway::metrics::GatewayMetrics;
use ingest_gateway::pages::{PageMemory, PageMemoryOptions};
use ingest_gateway::prepare::{Preparation, Prepared};
use ingest_gateway::problem::Kind;
use prometheus::Registry;

use crate::events_record::read_all;
use crate::rows::Rows;

/// So small that envelopes are split.
const VALUE_LIMIT_BYTES: usize = 1_024;

/// Limits of sizes, for the same reason small.
const LIMITS: SizeLimits = SizeLimits {
    record_limit_bytes: VALUE_LIMIT_BYTES + RECORD_OVERHEAD_BYTES,
    page_limit_bytes: 512,
};

/// The gateway's clock.
const NOW: Timestamp = Timestamp::from_micros(1_900_000_000_000_000);

const RULES: EnvelopeRules = EnvelopeRules {
    events_limit: 16,
    webstates_limit: 8,
    email_limit_bytes: 64,
    name_limit_bytes: 64,
    url_limit_bytes: 256,
    event_data_limit_bytes: 512,
    event_data_depth_limit: 8,
    earliest_time: Timestamp::from_micros(946_684_800_000_000),
    hours_ahead_limit: 24,
};

/// What a gateway has besides.
struct Gateway {
    memory: PageMemory,
    metrics: GatewayMetrics,
}

static GATEWAY: LazyLock<Gateway> = LazyLock::new(|| Gateway {
    memory: PageMemory::new(PageMemoryOptions { page_memory_entries: 1, page_memory_seconds: 1 }),
    metrics: GatewayMetrics::register(&Registry::new()).expect("the names are valid"),
});

/// What is accepted becomes records that the writer reads as the same rows as if there were no
/// limit of sizes; its data are those sent, but for escapes; what is refused says why.
pub fn check(data: &[u8]) {
    let mut preparation = Preparation::new(&RULES, LIMITS, &GATEWAY.memory, &GATEWAY.metrics, NOW);
    let mut body = data.to_vec();
    match preparation.envelope(&mut body) {
        Ok(prepared) => {
            let mut body = data.to_vec();
            let envelope = envelope::read(&mut body, &RULES, NOW).expect("it was accepted");
            check_members(&envelope);
            check_data(&envelope, data);
            check_records(&envelope, &prepared);
            check_pages(&envelope, preparation);
        }
        Err(problem) => {
            let kinds = [Kind::NotReadable, Kind::Invalid, Kind::TooLarge];
            assert!(kinds.contains(&problem.kind), "{problem:?}");
            assert!(problem.place.offset.is_none_or(|offset| offset <= data.len()));
        }
    }
}

fn check_members(envelope: &Envelope<'_>) {
    let replay = &envelope.replay;
    let times = envelope.events.iter().map(|event| event.timestamp);
    let captures = envelope.sightings.iter().map(|sighting| sighting.captured_at);
    let latest = times.chain(captures).chain(replay.end_time).fold(replay.start_time, Ord::max);
    assert_eq!(envelope.as_of, latest);
    let user = [replay.user.email.as_deref(), replay.user.name.as_deref()];
    for text in user.into_iter().flatten().chain([replay.initial_url.as_ref()]) {
        assert!(!text.contains('\0'), "Postgres stores no U+0000");
    }
    assert!(envelope.events.iter().all(|it| carries(it.event_id, it.timestamp)));
}

/// Every event's data stand in the body as they are stored, but for the escapes that Postgres
/// cannot store.
fn check_data(envelope: &Envelope<'_>, body: &[u8]) {
    let mut body = body.to_vec();
    escapes::mend_surrogates(&mut body);
    let body = std::str::from_utf8(&body).expect("it was accepted");
    let (body, _) = escapes::mend_nulls(body);
    for event in &envelope.events {
        let data = event.event_data.get();
        assert!(body.contains(data), "{data}");
        assert_eq!(escapes::mend_nulls(data).1, 0);
        assert_eq!(JsonText::parse(data).expect("data are JSON").as_str(), data);
    }
}

fn check_records(envelope: &Envelope<'_>, prepared: &Prepared) {
    assert!(prepared.records.iter().all(|record| record.value.len() <= VALUE_LIMIT_BYTES));
    assert_eq!(prepared.records.iter().map(|it| it.events).sum::<usize>(), prepared.events);
    let whole = envelope.record().encode(usize::MAX).expect("there is no limit");
    let rows = Rows::of(&read_all(&prepared.records));
    assert_eq!(rows, Rows::of(&read_all(&whole)), "splitting changes no row");
    for row in &rows.events {
        // Of two events under one id the first is stored.
        let sent = envelope.events.iter().find(|event| event.event_id == row.event_id);
        let sent = sent.expect("no row that was not sent");
        assert_eq!(row.event_data, sent.event_data.get().as_bytes());
        assert_eq!(row.event_type, sent.event_type.as_bytes());
        assert_eq!((row.timestamp, row.webstate_hash), (sent.timestamp, sent.webstate_hash));
    }
    assert!(envelope.events.iter().all(|event| {
        rows.events.binary_search_by_key(&event.event_id, |row| row.event_id).is_ok()
    }));
}

fn check_pages(envelope: &Envelope<'_>, preparation: Preparation<'_>) {
    let pages = preparation.into_pages();
    assert!(envelope.pages.iter().all(|sent| pages.iter().any(|page| page.hash == sent.hash)));
    for page in pages {
        let content = webstates::decode(&page.value, LIMITS.page_limit_bytes);
        let sent = envelope.pages.iter().find(|sent| sent.hash == page.hash);
        assert_eq!(content.as_deref(), Ok(sent.expect("it was sent").content.as_bytes()));
        assert_eq!(PageHash::of(content.as_deref().unwrap_or_default()), page.hash);
    }
}

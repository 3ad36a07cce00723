//! What page states cost: new ones in the gateway and the writer, and repeats everywhere.

use std::borrow::Cow;
use std::io::Read;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use common::page_hash::PageHash;
use common::record::events::{EventsRecord, Replay, Sighting};
use common::record::webstates;
use common::time::Timestamp;
use flate2::read::GzDecoder;
use futures::future::try_join_all;
use nix::time::{ClockId, clock_gettime};
use serde::Deserialize;

use super::bodies;
use super::comparison::{Comparison, Figure, Run, SERVER};
use super::database::{Database, Rows};
use super::drain::{self, Setup};
use super::figures::Goal;
use super::load::Connection;
use super::measurement::{Measurement, Unit};
use super::pages::Pages;
use super::report::Report;
use super::usage::{Meter, Usage};
use super::{Case, Options, Tell};
use crate::fleet::body::Encoding;
use crate::model::records;
use crate::recordings::envelope::{Capture, Envelope};
use crate::recordings::{self, seed};
use crate::stack::{Environment, Ports, Service, Stack, Tuning};

/// Sizes of pages, with how many of each are sent in a round.
const SIZES: [(usize, u64); 3] = [(50_000, 4_000), (200_000, 1_000), (1_000_000, 200)];

/// Connections on which they are sent: so many that the gateway always has something to do.
const CONNECTIONS: usize = 16;

/// Pages that a writer stores in a round, of that size.
const STORED_PAGES: u64 = 12_000;
const STORED_PAGE_BYTES: usize = 100_000;

/// Page states of the envelope by which a repeat's bytes are counted.
const REPEATS: u64 = 100;

const CPU: Goal = Goal::AtMost(1.2);
const STORED_RATE: Goal = Goal::AtLeast(0.8);
const REPEAT_BYTES: Goal = Goal::AtMost(150.0);
const REPEAT_ROWS: Goal = Goal::AtMost(0.0);

/// Measures all, interleaved.
pub(super) async fn run(options: &Options, tell: Tell<'_>) -> Result<Report> {
    let stack = Stack::start(Ports::default(), Tuning::Benchmarks).await?;
    let environment = Environment::new(&stack).await?;
    drain::make_topics(&environment).await?;
    let gateway = environment.gateway().start().await?;
    gateway.wait_ready().await?;
    let pages = Pages::recorded()?;
    let replay = recordings::own()?.into_iter().next().context("no recording")?.replay;

    let mut new = SIZES.map(|(bytes, _)| {
        let name = format!("new pages of {} kB", bytes / 1_000);
        let goals = vec![(Figure::Cpu, CPU)];
        Comparison::new(name, "gateway", "decode, unescape, hash, compress", goals)
    });
    let mut known = SIZES.map(|(bytes, _)| {
        let name = format!("pages of {} kB sent again", bytes / 1_000);
        Comparison::new(name, "gateway", "new", Vec::new())
    });
    let mut stored = Comparison::new(
        format!("new pages of {} kB", STORED_PAGE_BYTES / 1_000),
        "writer",
        "COPY BINARY",
        vec![(Figure::Rate, STORED_RATE)],
    );
    let mut first = 0;
    for round in 1..=options.runs {
        tell(&format!("round {round} of {}", options.runs));
        for (((bytes, count), new), known) in SIZES.into_iter().zip(&mut new).zip(&mut known) {
            let bodies: Vec<Bytes> = (first..first + count)
                .map(|number| body(&replay, &pages.page(number, bytes), number))
                .collect::<Result<_>>()?;
            first += count;
            let work = work(&bodies)?;
            let sent = send(&stack, &gateway, &environment, &bodies).await?;
            let sent_again = send(&stack, &gateway, &environment, &bodies).await?;
            new.add(&sent, &work);
            known.add(&sent_again, &sent);
        }
        let (drained, loaded) = store(&stack, &pages).await?;
        stored.add(&drained, &loaded);
    }
    let comparisons = new.into_iter().chain(known).chain([stored]).collect();
    tell("repeats");
    let measurements = repeats(&environment, &replay, &pages).await?;
    Report::of(Case::PageStates, &stack, comparisons, measurements).await
}

/// A batch with nothing but a page, as a recorder sends it: compressed by gzip.
fn body(replay: &Replay<'static>, page: &str, number: u64) -> Result<Bytes> {
    let envelope = envelope(replay, number, [capture(page, true)]);
    Ok(Encoding::Gzip.encode(serde_json::to_vec(&envelope)?)?.into())
}

/// The envelope of copy `number` of a replay.
fn envelope(
    replay: &Replay<'static>,
    number: u64,
    webstates: impl IntoIterator<Item = Capture>,
) -> Envelope {
    let replay_id = seed::uuid(0, number, replay.replay_id);
    let replay = Replay { replay_id, ..replay.clone() };
    Envelope { replay, events: Vec::new(), webstates: webstates.into_iter().collect() }
}

fn capture(page: &str, with_content: bool) -> Capture {
    Capture {
        html_hash: PageHash::of(page.as_bytes()),
        html_content: with_content.then(|| page.into()),
        captured_at: Timestamp::from_micros(1_791_158_400_000_000),
    }
}

/// Sends each body once; gives what the gateway took.
async fn send(
    stack: &Stack,
    gateway: &Service,
    environment: &Environment,
    bodies: &[Bytes],
) -> Result<Run> {
    let head = bodies::head(environment, Encoding::Gzip)?;
    let meter = Meter::start(stack, &[(SERVER, gateway.process())]).await?;
    let shares = (0..CONNECTIONS).map(|number| {
        let (head, share) = (&head, bodies.iter().skip(number).step_by(CONNECTIONS));
        async move {
            let mut connection = Connection::open(gateway.address()).await?;
            for body in share {
                connection.ask(head, body.clone()).await?;
            }
            anyhow::Ok(())
        }
    });
    try_join_all(shares).await?;
    Ok(Run { count: bodies.len() as u64, usage: meter.read().await?, memory_bytes: None })
}

/// What of a body [`work`] looks at.
#[derive(Deserialize)]
struct Sent<'a> {
    #[serde(borrow)]
    webstates: [Page<'a>; 1],
}

#[derive(Deserialize)]
struct Page<'a> {
    html_hash: PageHash,
    #[serde(borrow)]
    html_content: Cow<'a, str>,
}

/// What the pages of these bodies cannot be had without: decoding, unescaping, hashing,
/// compressing. On this thread, by its CPU clock.
fn work(bodies: &[Bytes]) -> Result<Run> {
    let begun = Instant::now();
    let cpu_before = thread_cpu_seconds()?;
    for body in bodies {
        let mut plain = Vec::new();
        GzDecoder::new(&**body).read_to_end(&mut plain)?;
        let Sent { webstates: [page] } = serde_json::from_slice(&plain)?;
        let hash = PageHash::of(page.html_content.as_bytes());
        ensure!(hash == page.html_hash, "another page");
        ensure!(!webstates::encode(page.html_content.as_bytes())?.is_empty(), "no page");
    }
    let usage = Usage {
        wall_seconds: begun.elapsed().as_secs_f64(),
        cpu_seconds: [(SERVER.to_owned(), thread_cpu_seconds()? - cpu_before)].into(),
        wal_bytes: 0,
    };
    Ok(Run { count: bodies.len() as u64, usage, memory_bytes: None })
}

fn thread_cpu_seconds() -> Result<f64> {
    let time = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)?;
    Ok(std::time::Duration::from(time).as_secs_f64())
}

/// Has a writer store pages, and loads the same rows.
async fn store(stack: &Stack, pages: &Pages) -> Result<(Run, Run)> {
    let environment = Environment::new(stack).await?;
    drain::make_topics(&environment).await?;
    let encode = |number| {
        let page = pages.page(number, STORED_PAGE_BYTES);
        let hash = PageHash::of(page.as_bytes());
        anyhow::Ok(records::record(hash.to_hex(), webstates::encode(page.as_bytes())?))
    };
    let encoded: Vec<_> = (0..STORED_PAGES).map(encode).collect::<Result<_>>()?;
    environment.records().produce(&environment.topic("replay-webstates"), &encoded).await?;

    let database = Database::like(stack, environment.consumer_group()).await?;
    let drained =
        drain::drain_pages(stack, &environment, STORED_PAGES, &database.url(), Setup::USUAL)
            .await?;
    let rows = Rows::of(&database).await?;
    ensure!(rows.count("webstates") == STORED_PAGES, "{} pages", rows.count("webstates"));
    let expected = database.fingerprints().await?;
    database.drop().await?;

    let database = Database::like(stack, environment.consumer_group()).await?;
    let meter = Meter::start(stack, &[]).await?;
    rows.load(&database, Setup::USUAL.lanes).await?;
    let usage = meter.read().await?;
    ensure!(database.fingerprints().await? == expected, "other rows were loaded");
    database.drop().await?;
    Ok((drained, Run { count: STORED_PAGES, usage, memory_bytes: None }))
}

/// What a page that is known already costs: what its recorder sends, what Kafka keeps, what
/// Postgres changes.
async fn repeats(
    environment: &Environment,
    replay: &Replay<'static>,
    pages: &Pages,
) -> Result<Vec<Measurement>> {
    let all: Vec<_> = (0..REPEATS).map(|number| pages.page(number, SIZES[0].0)).collect();
    let captures = |with_content| all.iter().map(move |page| capture(page, with_content));
    let each = |with: usize, without: usize| (with - without) as f64 / REPEATS as f64;
    let compressed = |value: &[u8]| anyhow::Ok(Encoding::Gzip.encode(value.to_vec())?.len());

    let empty = envelope(replay, 0, []);
    let full = envelope(replay, 0, captures(false));
    let first = envelope(replay, 0, captures(true));
    let sent =
        each(compressed(&serde_json::to_vec(&full)?)?, compressed(&serde_json::to_vec(&empty)?)?);
    let hashes: Vec<PageHash> = all.iter().map(|page| PageHash::of(page.as_bytes())).collect();
    let asked = serde_json::json!({ "html_hashes": hashes });
    let asked = compressed(&serde_json::to_vec(&asked)?)? as f64 / REPEATS as f64;

    let record = |envelope: &Envelope| -> Result<usize> {
        let sighting = |capture: &Capture| Sighting {
            html_hash: capture.html_hash,
            captured_at: capture.captured_at,
        };
        let record = EventsRecord {
            replay: envelope.replay.clone(),
            as_of: envelope.as_of(),
            events: Vec::new(),
            webstates: envelope.webstates.iter().map(sighting).collect(),
        };
        Ok(record.encode(1 << 20)?.iter().map(|record| record.value.len()).sum())
    };
    let kept = each(record(&full)?, record(&empty)?);

    let bytes = |name: &str, goal, value| Measurement::new(name, Unit::Bytes, goal).with(value);
    Ok(vec![
        bytes("a repeat, asked about and sent by its hash", Some(REPEAT_BYTES), asked + sent),
        bytes("of this the question", None, asked),
        bytes("a repeat in Kafka, before compression", Some(REPEAT_BYTES), kept),
        Measurement::new("rows that a repeat changes", Unit::Ratio, Some(REPEAT_ROWS))
            .with(rows_changed(environment, &first, &full).await?),
    ])
}

/// Rows of `webstates` that a writer changes when a batch names pages that are stored, each once
/// more and later.
async fn rows_changed(
    environment: &Environment,
    first: &Envelope,
    repeated: &Envelope,
) -> Result<f64> {
    const CHANGED: &str = "tapedeck_writer_rows_merged_total";
    const WEBSTATES: [(&str, &str); 1] = [("table", "webstates")];
    const WITHIN: std::time::Duration = std::time::Duration::from_secs(60);
    let records = environment.records();
    records.produce(&environment.topic("replay-webstates"), &records::of_pages(first)?).await?;
    let events_topic = environment.topic("replay-events");
    records.produce(&events_topic, &records::of_events(first, 1 << 20)?).await?;
    let writer = environment.writer().start().await?;
    environment.wait_committed(WITHIN).await?;
    let before = writer.metrics().await?.sum(CHANGED, &WEBSTATES).context(CHANGED)?;
    ensure!(before > 0.0, "nothing was stored");
    records.produce(&events_topic, &records::of_events(repeated, 1 << 20)?).await?;
    environment.wait_committed(WITHIN).await?;
    let after = writer.metrics().await?.sum(CHANGED, &WEBSTATES).context(CHANGED)?;
    Ok((after - before) / REPEATS as f64)
}

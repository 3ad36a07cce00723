//! Writes the inputs with which fuzzing begins: `cargo run -p fuzz-targets --example seeds --
//! FOLDER`. They are cut from the sample recordings to a size at which millions can be tried, and
//! joined by spellings that recordings do not have.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use common::page_hash::PageHash;
use common::record::headers::RecordHeaders;
use common::record::webstates;
use common::time::Timestamp;
use fuzz_targets::TARGETS;
use ingest_gateway::envelope::{self, EnvelopeRules};
use ingest_gateway::keys::KeyHash;
use ingest_gateway::keys::file::KeysFile;
use rdkafka::message::{Header, Headers, OwnedHeaders};
use serde_json::{Value, json};
use tests::recordings;
use tests::recordings::Session;

/// The largest event data, and the longest piece of a page, that is taken from a recording.
const PIECE_LIMIT_BYTES: usize = 200;

/// Events of one session's envelope.
const EVENTS: usize = 3;

/// Bytes of a bomb: beyond the limit of the target.
const BOMB_BYTES: usize = 16 * 1024;

const TIMES: [&str; 14] = [
    "0",
    "1704067200123",
    "1704067200123.5",
    "1.7040672001239999e12",
    "17040672E+5",
    "1704067200123000e-3",
    "-1.5",
    "1e17",
    "0e999999999999",
    "\"2024-01-01T00:00:00.1239999Z\"",
    "2024-01-01T01:00:00+01:00",
    "2016-12-31T23:59:60.999999999Z",
    "9999-12-31T23:59:59-23:59",
    "0000-01-01T00:00:00+23:59",
];

const ESCAPED: [&str; 6] = [
    r#"{"text":"\ud83d\ude00 \ud83d \ude00"}"#,
    r#""\uD83D\uDE00\uDE00\u0000""#,
    r#""\\u0000 \\\u0000 \\\\ud800""#,
    r#"["\ud9ffx",{"\udabc":"x\uDCBA"}]"#,
    r"\ud8zz\ud800",
    r#""\ud800\u0000\u0041\n\"""#,
];

fn main() -> anyhow::Result<()> {
    let folder = std::env::args_os().nth(1).context("usage: seeds FOLDER")?;
    let seeds = Seeds { folder: PathBuf::from(folder) };
    let sessions = recordings::own()?;
    let envelopes: Vec<Vec<u8>> = sessions
        .iter()
        .map(|session| envelope(session).to_string().into_bytes())
        .chain([spelt_otherwise().to_string().into_bytes(), escaped_envelope()])
        .collect();
    seeds.write("envelope", &envelopes)?;
    seeds.write("lines", &lines(&envelopes))?;
    seeds.write("escapes", &ESCAPED.map(str::as_bytes))?;
    seeds.write("timestamp", &TIMES.map(str::as_bytes))?;
    seeds.write("events_record", &events_records(&envelopes)?)?;
    seeds.write("page_record", &page_records(&sessions)?)?;
    seeds.write("record_headers", &[message("key", &headers(), b"value"), b"key".to_vec()])?;
    seeds.write("dead_letter", &dead_letters())?;
    seeds.write("keys_file", &keys_files()?)?;
    seeds.write("content_encoding", &encoded(&envelopes)?)
}

/// Where the seeds go: a folder a target.
struct Seeds {
    folder: PathBuf,
}

impl Seeds {
    fn write<T: AsRef<[u8]>>(&self, target: &str, inputs: &[T]) -> anyhow::Result<()> {
        ensure!(TARGETS.iter().any(|known| known.name == target), "no target {target}");
        let folder: &Path = &self.folder.join(target);
        std::fs::create_dir_all(folder)?;
        for (number, input) in inputs.iter().enumerate() {
            std::fs::write(folder.join(format!("seed-{number:02}")), input)?;
        }
        Ok(())
    }
}

/// A session's first small events, each of another type than those before, and its first page.
fn envelope(session: &Session) -> Value {
    let mut types: Vec<&str> = Vec::new();
    let mut events = Vec::new();
    for event in session.events() {
        let small = event.event_data.get().len() <= PIECE_LIMIT_BYTES;
        if small && !types.contains(&event.event_type) && events.len() < EVENTS {
            types.push(event.event_type);
            events.push(json!(event));
        }
    }
    let page = session.pages().next().map(|capture| {
        let content = piece(capture.html_content.as_deref().unwrap_or_default());
        let hash = PageHash::of(content.as_bytes());
        json!({"html_hash": hash, "html_content": content, "captured_at": capture.captured_at})
    });
    json!({
        "replay": session.replay,
        "events": events,
        "webstates": page.into_iter().collect::<Vec<_>>(),
    })
}

/// The first bytes of a page.
fn piece(page: &str) -> &str {
    let end = (0..=PIECE_LIMIT_BYTES).rev().find(|end| page.is_char_boundary(*end));
    &page[..end.unwrap_or_default()]
}

/// What the recorder API takes besides: other times, no `seq`, an id of the recorder's own, `null`
/// for what is absent, unknown members.
fn spelt_otherwise() -> Value {
    json!({
        "replay": {
            "replay_id": "2237A107-3A76-4F18-887F-A033138E750E",
            "initial_url": "/",
            "start_time": "2024-01-01T00:00:00.123456Z",
            "end_time": null,
            "user": {
                "user_id": "00000000-0000-0000-0000-00000000000a",
                "email": null,
                "name": "Zoë",
                "created_at": 1_704_067_200_000_u64,
            },
            "more": [1, {}],
        },
        "events": [
            {"event_id": "018cc251-f47b-7000-8000-d125acf2d2c3", "timestamp": 1_704_067_200_123_u64,
             "event_type": "click", "event_data": null},
            {"timestamp": 1_704_067_200_123.5, "event_type": "scroll", "event_data": [1.0, "x"]},
            {"timestamp": 1_704_067_200_123.5, "event_type": "scroll", "event_data": [1.0, "x"]},
        ],
        "webstates": [{"html_hash": PageHash::of(b"page"), "captured_at": "2024-01-01T00:00:00Z"}],
    })
}

/// Escapes that Postgres cannot store, wherever they may stand.
fn escaped_envelope() -> Vec<u8> {
    let text = r#"{"replay":{"replay_id":"2237a107-3a76-4f18-887f-a033138e750e",
        "initial_url":"/\u0000\ud800","start_time":1704067200000,
        "user":{"user_id":"2237a107-3a76-4f18-887f-a033138e750e","name":"\ud83d\ude00\u0000"}},
        "events":[{"timestamp":1704067200000,"event_type":"\u0063lick",
        "event_data":{ "\u0000" : "\\u0000 \udc00" }}],
        "webstates":[{"html_content":"<p>\u00fc\ud83d</p>","captured_at":1704067200000}]}"#;
    text.as_bytes().to_vec()
}

fn lines(envelopes: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let of_envelopes = envelopes.chunks(2).map(|pair| pair.join(&b"\n"[..])).take(2);
    let short = [&b"\n\na\r\n\nb\n"[..], b" \n\t\r\n", b"1\n2\n3\n4\n5\n6\n7\n8\n9", b""];
    of_envelopes.chain(short.map(<[u8]>::to_vec)).collect()
}

fn events_records(envelopes: &[Vec<u8>]) -> anyhow::Result<Vec<Vec<u8>>> {
    #[derive(clap::Parser)]
    struct Defaults {
        #[command(flatten)]
        rules: EnvelopeRules,
    }
    let rules = <Defaults as clap::Parser>::parse_from(["seeds"]).rules;
    let mut records = Vec::new();
    for body in envelopes {
        let mut body = body.clone();
        let envelope = envelope::read(&mut body, &rules, Timestamp::now())
            .map_err(|refused| anyhow::anyhow!("{}", refused.problem))?;
        let key = envelope.replay.replay_id.to_string();
        for record in envelope.record().encode(usize::MAX)? {
            records.push(message(&key, &headers(), &record.value));
        }
    }
    Ok(records)
}

fn page_records(sessions: &[Session]) -> anyhow::Result<Vec<Vec<u8>>> {
    let pages = sessions.iter().filter_map(|session| session.pages().next());
    let mut contents: Vec<Vec<u8>> = pages
        .filter_map(|capture| capture.html_content.as_deref())
        .map(|page| piece(page).as_bytes().to_vec())
        .collect();
    contents.dedup();
    contents.extend([Vec::new(), vec![b' '; BOMB_BYTES]]);
    let record = |content: Vec<u8>| {
        let key = PageHash::of(&content).to_hex();
        Ok(message(&key, &headers(), &webstates::encode(&content)?))
    };
    contents.into_iter().map(record).collect()
}

fn headers() -> OwnedHeaders {
    let received_at = Timestamp::from_micros(1_704_067_200_123_456);
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    RecordHeaders { received_at, traceparent: Some(trace.to_owned()) }.to_kafka()
}

fn dead_letters() -> Vec<Vec<u8>> {
    let letter = |events: Option<&str>| {
        let mut headers = headers();
        let of_all = [
            ("error.class", "not_json"),
            ("error.message", "not JSON at line 1, column 2"),
            ("original.topic", "replay-events"),
            ("original.partition", "3"),
            ("original.offset", "17"),
        ];
        for (key, value) in of_all.into_iter().chain(events.map(|it| ("error.events", it))) {
            headers = headers.insert(Header { key, value: Some(value) });
        }
        message("2237a107-3a76-4f18-887f-a033138e750e", &headers, b"{")
    };
    vec![letter(None), letter(Some("0-2,17"))]
}

/// A record as the targets read it, see [`fuzz_targets::message::read`].
fn message(key: &str, headers: &OwnedHeaders, value: &[u8]) -> Vec<u8> {
    let mut message = format!("{key}\n").into_bytes();
    for header in headers.iter() {
        message.extend_from_slice(header.key.as_bytes());
        message.extend_from_slice(b": ");
        message.extend_from_slice(header.value.unwrap_or_default());
        message.push(b'\n');
    }
    message.push(b'\n');
    message.extend_from_slice(value);
    message
}

fn keys_files() -> anyhow::Result<Vec<Vec<u8>>> {
    let mut file = KeysFile::default();
    let empty = serde_json::to_vec(&file)?;
    file.add("shop", KeyHash::of("a"), Timestamp::from_micros(1_704_067_200_000_000))?;
    file.add("blog", KeyHash::of("b"), Timestamp::from_micros(1_704_067_200_000_001))?;
    file.disable("shop", Timestamp::from_micros(1_704_067_300_000_000))?;
    let written = serde_json::to_string_pretty(&file)?;
    let by_number = written.replace("\"2024-01-01T00:00:00.000001Z\"", "253402300800000");
    Ok(vec![empty, written.into_bytes(), by_number.into_bytes()])
}

/// Contents in each encoding, its number first, see the target.
fn encoded(envelopes: &[Vec<u8>]) -> anyhow::Result<Vec<Vec<u8>>> {
    let mut inputs = Vec::new();
    let bomb = vec![b' '; BOMB_BYTES];
    for content in [&envelopes[0][..PIECE_LIMIT_BYTES], b"", &bomb] {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        gzip.write_all(content)?;
        let gzip = gzip.finish()?;
        let zstd = zstd::encode_all(content, 3)?;
        let mut brotli = brotli::CompressorWriter::new(Vec::new(), 4_096, 5, 18);
        brotli.write_all(content)?;
        let brotli = brotli.into_inner();
        for (number, wire) in (0..).zip([&gzip[..], content, &gzip, &zstd, &brotli]) {
            let wire = &wire[..wire.len().min(1_024)];
            inputs.push([&[number], wire].concat());
            inputs.push([&[number], wire, wire].concat());
        }
    }
    Ok(inputs)
}

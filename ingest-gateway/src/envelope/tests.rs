//! Whole envelopes: what is accepted, and what is refused where.

use serde_json::{Value, json};

use super::*;
use crate::problem::Kind;

const NOW_MILLIS: i64 = 1_704_067_200_123;

fn now() -> Timestamp {
    Timestamp::from_micros(NOW_MILLIS * 1_000)
}

fn envelope() -> Value {
    json!({
        "replay": {
            "replay_id": "2237a107-3a76-4f18-887f-a033138e750e",
            "initial_url": "https://shop.example/",
            "start_time": NOW_MILLIS,
            "user": {"user_id": "6F0e2c9a-0000-4000-8000-00000000000a"},
        },
        "events": [
            {"seq": 0, "timestamp": NOW_MILLIS, "event_type": "click", "event_data": {"x": 1}},
        ],
        "webstates": [{"html_content": "<p>", "captured_at": NOW_MILLIS + 5}],
    })
}

fn accepted(body: &str) -> String {
    let mut bytes = body.as_bytes().to_vec();
    let envelope = read(&mut bytes, &EnvelopeRules::default(), now()).unwrap();
    let mut records = envelope.record().encode(1 << 20).unwrap();
    String::from_utf8(records.remove(0).value).unwrap()
}

fn refused(body: &str) -> Problem {
    let mut bytes = body.as_bytes().to_vec();
    read(&mut bytes, &EnvelopeRules::default(), now()).unwrap_err().problem
}

/// Sets the member at `pointer` (removes it for `None`) and checks what becomes of the envelope.
fn check(pointer: &str, value: impl Into<Option<Value>>, expected: Result<(), &str>) {
    let mut body = envelope();
    let (parent, name) = pointer.rsplit_once('/').unwrap();
    let value = value.into();
    match (body.pointer_mut(parent).unwrap(), &value) {
        (Value::Object(members), Some(value)) => {
            members.insert(name.to_owned(), value.clone());
        }
        (Value::Object(members), None) => {
            members.remove(name);
        }
        (Value::Array(items), Some(value)) => items[name.parse::<usize>().unwrap()] = value.clone(),
        other => panic!("no member {pointer} in {other:?}"),
    }
    match expected {
        Ok(()) => drop(accepted(&body.to_string())),
        Err(detail) => {
            let problem = refused(&body.to_string());
            assert_eq!(problem.kind, Kind::Invalid, "{pointer} = {value:?}: {problem}");
            assert_eq!(problem.place.path.as_deref(), Some(pointer), "{value:?}: {problem}");
            assert!(problem.detail.contains(detail), "{pointer} = {value:?}: {problem}");
        }
    }
}

#[test]
fn what_may_be_left_out_may_be_null_and_the_rest_may_not() {
    for required in [
        "/replay",
        "/replay/replay_id",
        "/replay/initial_url",
        "/replay/start_time",
        "/replay/user",
        "/replay/user/user_id",
        "/events/0/timestamp",
        "/events/0/event_type",
        "/webstates/0/captured_at",
    ] {
        check(required, None, Err("is missing"));
        check(required, Value::Null, Err("is missing"));
    }
    for optional in [
        "/events",
        "/webstates",
        "/replay/end_time",
        "/replay/user/email",
        "/replay/user/name",
        "/replay/user/created_at",
        "/events/0/event_id",
        "/events/0/seq",
        "/events/0/webstate_hash",
        "/webstates/0/html_hash",
    ] {
        check(optional, None, Ok(()));
        check(optional, Value::Null, Ok(()));
    }
    check("/events", json!([]), Ok(()));
    check("/webstates", json!([]), Ok(()));
    // null is data; nothing is not.
    check("/events/0/event_data", Value::Null, Ok(()));
    check("/events/0/event_data", None, Err("is missing"));
    check("/unknown", json!({"x": [1]}), Ok(()));
}

#[test]
fn members_of_the_wrong_kind_are_named() {
    check("/replay", json!([]), Err("is not an object"));
    check("/replay/replay_id", json!(7), Err("is not a text"));
    check("/replay/replay_id", json!("x"), Err("is not a UUID"));
    check("/replay/initial_url", json!({}), Err("is not a text"));
    check("/replay/user", json!("x"), Err("is not an object"));
    check("/replay/user/email", json!(false), Err("is not a text"));
    check("/events", json!({}), Err("is not an array"));
    check("/events/0", json!([0]), Err("is not an object"));
    check("/events/0/seq", json!(-1), Err("is not an integer"));
    check("/events/0/event_type", json!("Click"), Err("does not match"));
    check("/events/0/webstate_hash", json!("abc"), Err("64 hex digits"));
    check("/webstates/0/html_hash", json!("abc"), Err("64 hex digits"));
    check("/webstates/0/html_content", json!(1), Err("is not a text"));
}

#[test]
fn times_lie_between_the_year_2000_and_tomorrow() {
    let day_millis = 24 * 3_600_000;
    for pointer in [
        "/replay/start_time",
        "/replay/end_time",
        "/replay/user/created_at",
        "/events/0/timestamp",
        "/webstates/0/captured_at",
    ] {
        check(pointer, json!("2000-01-01T00:00:00Z"), Ok(()));
        check(pointer, json!("1999-12-31T23:59:59.999999Z"), Err("is before 2000"));
        check(pointer, json!(NOW_MILLIS / 1_000), Err("seconds sent for milliseconds?"));
        check(pointer, json!(NOW_MILLIS + day_millis), Ok(()));
        check(pointer, json!(NOW_MILLIS + day_millis + 1), Err("ahead of the gateway's clock"));
        check(pointer, json!("yesterday"), Err("RFC 3339"));
        check(pointer, json!([]), Err("neither RFC 3339 text nor a number"));
    }
}

#[test]
fn lengths_are_limited_in_bytes() {
    check("/replay/user/email", json!("é".repeat(160)), Ok(()));
    check("/replay/user/email", json!("é".repeat(161)), Err("has 322 bytes; the limit is 320"));
    check("/replay/user/name", json!("n".repeat(1_024)), Ok(()));
    check("/replay/user/name", json!("n".repeat(1_025)), Err("the limit is 1024"));
    check("/replay/initial_url", json!("u".repeat(65_536)), Ok(()));
    check("/replay/initial_url", json!("u".repeat(65_537)), Err("the limit is 65536"));
}

#[test]
fn lists_are_limited_in_items() {
    let event = envelope()["events"][0].clone();
    check("/events", json!(vec![event.clone(); 10_000]), Ok(()));
    check("/events", json!(vec![event; 10_001]), Err("has 10001 items; the limit is 10000"));
    let webstate = envelope()["webstates"][0].clone();
    check("/webstates", json!(vec![webstate.clone(); 1_000]), Ok(()));
    check("/webstates", json!(vec![webstate; 1_001]), Err("has 1001 items; the limit is 1000"));
}

#[test]
fn an_own_event_id_carries_the_events_millisecond() {
    check("/events/0/event_id", json!("018cc251-f47b-7000-8000-d125acf2d2c3"), Ok(()));
    check("/events/0/event_id", json!("018cc251-f47c-7000-8000-d125acf2d2c3"), Err("version 7"));
    check("/events/0/event_id", json!("018cc251-f47b-4000-8000-d125acf2d2c3"), Err("version 7"));
}

#[test]
fn a_page_is_its_hash_its_content_or_both() {
    let hash = PageHash::of(b"<p>").to_hex();
    check("/webstates/0/html_hash", json!(hash.to_uppercase()), Ok(()));
    check("/webstates/0", json!({"html_hash": hash, "captured_at": NOW_MILLIS}), Ok(()));
    let other = PageHash::of(b"<b>").to_hex();
    check("/webstates/0/html_hash", json!(other), Err(&other));
    check("/webstates/0/html_hash", json!(other), Err(&hash));
    let mut neither = envelope();
    neither["webstates"][0] = json!({"captured_at": NOW_MILLIS});
    let problem = refused(&neither.to_string());
    assert_eq!(problem.place.path.as_deref(), Some("/webstates/0/html_hash"));
}

#[test]
fn large_and_deep_data_is_refused() {
    let with_data = |data: &str| {
        envelope()
            .to_string()
            .replace(r#""event_data":{"x":1}"#, &format!(r#""event_data":{data}"#))
    };
    let nested = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
    accepted(&with_data(&nested(10_000)));
    let path = Some("/events/0/event_data");
    for levels in [10_001, 100_000] {
        let problem = refused(&with_data(&nested(levels)));
        assert_eq!((problem.kind, problem.place.path.as_deref()), (Kind::Invalid, path));
    }
    let limit = EnvelopeRules::default().event_data_limit_bytes;
    let problem = refused(&with_data(&format!("\"{}\"", "x".repeat(limit - 1))));
    assert_eq!((problem.kind, problem.place.path.as_deref()), (Kind::TooLarge, path));
}

#[test]
fn data_travels_byte_for_byte_but_for_what_postgres_cannot_read() {
    fn check(sent: &str, expected: &str, expected_replaced: u64) {
        let body = envelope()
            .to_string()
            .replace(r#""event_data":{"x":1}"#, &format!(r#""event_data": {sent} "#));
        let mut bytes = body.into_bytes();
        let envelope = read(&mut bytes, &EnvelopeRules::default(), now()).unwrap();
        assert_eq!(envelope.events[0].event_data.get(), expected);
        assert_eq!(envelope.replaced_escapes, expected_replaced);
    }
    let odd = r#"{ "b" :1.0, "a":1e400,"b": 18446744073709551616 , "é":"\u00e9\/" }"#;
    check(odd, odd, 0);
    check("null", "null", 0);
    check(r#""\u0000\ud800 \\u0000""#, r#""\ufffd\ufffd \\u0000""#, 2);
    check(r#"{"\uDfff":"\ud83d\ude00"}"#, r#"{"\ufffd":"\ud83d\ude00"}"#, 1);
}

#[test]
fn texts_and_pages_are_mended() {
    let body = envelope()
        .to_string()
        .replace("https://shop.example/", r"https://shop.example/\u0000\ud800")
        .replace("<p>", r"<p>\u0000\udfff");
    let mut bytes = body.into_bytes();
    let envelope = read(&mut bytes, &EnvelopeRules::default(), now()).unwrap();
    assert_eq!(envelope.replay.initial_url, "https://shop.example/\u{fffd}\u{fffd}");
    // A page is bytes, which may be any.
    assert_eq!(envelope.pages[0].content, "<p>\0\u{fffd}");
    assert_eq!(envelope.pages[0].hash, PageHash::of("<p>\0\u{fffd}".as_bytes()));
    assert_eq!(envelope.replaced_escapes, 3);
}

#[test]
fn ids_are_derived_as_published() {
    let mut body = envelope();
    let scroll = json!({"timestamp": NOW_MILLIS, "event_type": "scroll", "event_data": {"y": 120}});
    body["events"] = json!([
        scroll,
        {"seq": 17, "timestamp": NOW_MILLIS, "event_type": "click", "event_data": 1},
        scroll,
        {"seq": 0, "timestamp": NOW_MILLIS, "event_type": "click", "event_data": 1},
    ]);
    let mut bytes = body.to_string().into_bytes();
    let envelope = read(&mut bytes, &EnvelopeRules::default(), now()).unwrap();
    let ids: Vec<_> = envelope.events.iter().map(|event| event.event_id.to_string()).collect();
    let expected = [
        "018cc251-f47b-7000-8001-6e0c75a17412",
        "018cc251-f47b-7000-8044-87595dc80b77",
        "018cc251-f47b-7000-8005-6e0c75a17412",
        "018cc251-f47b-7000-8000-d125acf2d2c3",
    ];
    assert_eq!(ids, expected);
}

#[test]
fn the_record_says_how_new_the_envelope_is() {
    fn check(pointer: &str, time: i64, expected: i64) {
        let mut body = envelope();
        let (parent, name) = pointer.rsplit_once('/').unwrap();
        body.pointer_mut(parent).unwrap()[name] = json!(time);
        let mut bytes = body.to_string().into_bytes();
        let envelope = read(&mut bytes, &EnvelopeRules::default(), now()).unwrap();
        assert_eq!(envelope.as_of.millis(), expected, "{pointer}");
    }
    check("/replay/start_time", NOW_MILLIS + 10, NOW_MILLIS + 10);
    check("/replay/end_time", NOW_MILLIS + 11, NOW_MILLIS + 11);
    check("/events/0/timestamp", NOW_MILLIS + 12, NOW_MILLIS + 12);
    check("/webstates/0/captured_at", NOW_MILLIS + 13, NOW_MILLIS + 13);
    // When a user came to be says nothing about how new the statement is.
    check("/replay/user/created_at", NOW_MILLIS + 14, NOW_MILLIS + 5);
}

#[test]
fn what_is_refused_says_how_many_events_it_had() {
    let mut body = envelope();
    body["replay"]["replay_id"] = json!("x");
    let mut bytes = body.to_string().into_bytes();
    let refused = read(&mut bytes, &EnvelopeRules::default(), now()).unwrap_err();
    assert_eq!(refused.events, 1);
}

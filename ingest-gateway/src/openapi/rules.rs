//! What the derived description does not say: the limits that this gateway was set to, and rules
//! that bind several members.
//!
//! A length counts characters here and bytes in the gateway: it is said all the same, as what has
//! more characters has more bytes. Sizes of more than that (bodies, pages, an event's data) are in
//! no schema. How far ahead of the clock a time may be is in none either: it moves.

use serde_json::{Value, json};

use crate::envelope::EnvelopeRules;
use crate::options::RequestOptions;

/// The hash of a page, in either case.
const HASH_PATTERN: &str = "^[0-9a-fA-F]{64}$";

/// A keyword of JSON Schema, and where in the description it is put.
struct Addition {
    /// RFC 6901 pointer to the schema.
    schema: &'static str,
    keyword: &'static str,
    value: Value,
}

/// Adds to a description what its gateway's settings say.
pub(super) fn add(description: &mut Value, rules: &EnvelopeRules, requests: RequestOptions) {
    for Addition { schema, keyword, value } in additions(rules, requests) {
        if let Some(Value::Object(schema)) = description.pointer_mut(schema) {
            schema.insert(keyword.to_owned(), value);
        }
    }
}

fn additions(rules: &EnvelopeRules, requests: RequestOptions) -> Vec<Addition> {
    let to = |schema, keyword, value| Addition { schema, keyword, value };
    let member_is_text =
        |name: &str| json!({"required": [name], "properties": {name: {"type": "string"}}});
    vec![
        to(
            "/paths/~1v1~1batches/post/requestBody/content/application~1x-ndjson/schema",
            "maxItems",
            json!(requests.lines_limit),
        ),
        to("/components/schemas/Envelope/properties/events", "maxItems", json!(rules.events_limit)),
        to(
            "/components/schemas/Envelope/properties/webstates",
            "maxItems",
            json!(rules.webstates_limit),
        ),
        to(
            "/components/schemas/Replay/properties/initial_url",
            "maxLength",
            json!(rules.url_limit_bytes),
        ),
        to(
            "/components/schemas/User/properties/email",
            "maxLength",
            json!(rules.email_limit_bytes),
        ),
        to("/components/schemas/User/properties/name", "maxLength", json!(rules.name_limit_bytes)),
        to("/components/schemas/Time/oneOf/0", "format", json!("date-time")),
        to("/components/schemas/Time/oneOf/1", "minimum", json!(rules.earliest_time.millis())),
        to(
            "/components/schemas/Webstate",
            "anyOf",
            json!([member_is_text("html_hash"), member_is_text("html_content")]),
        ),
        to(
            "/components/schemas/MissingQuestion/properties/html_hashes",
            "maxItems",
            json!(requests.hashes_limit),
        ),
        to(
            "/components/schemas/MissingQuestion/properties/html_hashes/items",
            "pattern",
            json!(HASH_PATTERN),
        ),
    ]
}

#[cfg(test)]
mod tests {
    use common::time::Timestamp;

    use super::*;
    use crate::openapi::derived;

    const REQUESTS: RequestOptions =
        RequestOptions { in_flight_limit_bytes: 1, lines_limit: 21, hashes_limit: 22 };

    #[test]
    fn every_addition_has_its_place_and_replaces_nothing() {
        let description = derived().unwrap();
        for Addition { schema, keyword, .. } in additions(&EnvelopeRules::default(), REQUESTS) {
            let place = description.pointer(schema).unwrap_or_else(|| panic!("no {schema}"));
            assert!(place.is_object() && place.get(keyword).is_none(), "{schema} {keyword}");
        }
    }

    #[test]
    fn the_limits_told_are_those_set() {
        let rules = EnvelopeRules {
            events_limit: 11,
            webstates_limit: 12,
            email_limit_bytes: 13,
            name_limit_bytes: 14,
            url_limit_bytes: 15,
            earliest_time: Timestamp::parse_rfc3339("2024-01-01T00:00:00Z").unwrap(),
            ..EnvelopeRules::default()
        };
        let mut description = derived().unwrap();
        add(&mut description, &rules, REQUESTS);
        let schemas = &description["components"]["schemas"];
        let check = |told: &Value, expected: i64| assert_eq!(told, &json!(expected));
        check(&schemas["Envelope"]["properties"]["events"]["maxItems"], 11);
        check(&schemas["Envelope"]["properties"]["webstates"]["maxItems"], 12);
        check(&schemas["User"]["properties"]["email"]["maxLength"], 13);
        check(&schemas["User"]["properties"]["name"]["maxLength"], 14);
        check(&schemas["Replay"]["properties"]["initial_url"]["maxLength"], 15);
        check(&schemas["Time"]["oneOf"][1]["minimum"], 1_704_067_200_000);
        check(&schemas["MissingQuestion"]["properties"]["html_hashes"]["maxItems"], 22);
        let body = &description["paths"][crate::routes::BATCHES]["post"]["requestBody"];
        check(&body["content"]["application/x-ndjson"]["schema"]["maxItems"], 21);
    }
}

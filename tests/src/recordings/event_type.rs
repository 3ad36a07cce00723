//! What rrweb's events are called in the recorder API.

use serde::Deserialize;
use serde_json::value::RawValue;

/// rrweb's `type` of an event that says what changed since the last one.
const INCREMENTAL: u64 = 3;
/// Among those, rrweb's `data.source` of presses, clicks, touches and changes of focus.
const MOUSE_INTERACTION: u64 = 2;
/// Among those, rrweb's `data.type` of a click.
const CLICK: u64 = 2;

#[derive(Deserialize)]
struct Source {
    source: u64,
}

#[derive(Deserialize)]
struct Interaction {
    r#type: u64,
}

/// The `event_type` of an rrweb event. Kinds that this list does not know, and incremental ones
/// without a readable source, are named by what is known of them.
pub(super) fn of(rrweb_type: u64, data: &RawValue) -> &'static str {
    match rrweb_type {
        0 => "dom_content_loaded",
        1 => "load",
        2 => "full_snapshot",
        INCREMENTAL => incremental(data),
        4 => "meta",
        5 => "custom",
        6 => "plugin",
        _ => "unknown",
    }
}

fn incremental(data: &RawValue) -> &'static str {
    let Ok(Source { source }) = serde_json::from_str(data.get()) else {
        return "incremental";
    };
    match source {
        0 => "dom_mutation",
        1 => "mouse_move",
        MOUSE_INTERACTION => match serde_json::from_str(data.get()) {
            Ok(Interaction { r#type: CLICK }) => "click",
            _ => "mouse_interaction",
        },
        3 => "scroll",
        4 => "viewport_resize",
        5 => "keypress",
        6 => "touch_move",
        7 => "media_interaction",
        8 => "style_sheet_rule",
        9 => "canvas_mutation",
        10 => "font",
        11 => "log",
        12 => "drag",
        13 => "style_declaration",
        14 => "selection",
        15 => "adopted_style_sheet",
        16 => "custom_element",
        _ => "incremental",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rrweb_events_have_recorder_names() {
        fn check(rrweb_type: u64, data: &str, expected: &str) {
            let data = RawValue::from_string(data.to_owned()).unwrap();
            assert_eq!(of(rrweb_type, &data), expected, "{rrweb_type} {data}");
        }
        check(3, r#"{"source":2,"type":2,"id":7}"#, "click");
        check(3, r#"{"source":2,"type":1,"id":7}"#, "mouse_interaction");
        check(3, r#"{"source":5,"text":"é"}"#, "keypress");
        check(3, r#"{"source":3,"y":120}"#, "scroll");
        check(3, r#"{"source":0,"adds":[]}"#, "dom_mutation");
        check(3, r#"{"source":4,"width":1}"#, "viewport_resize");
        check(2, r#"{"node":{}}"#, "full_snapshot");
        check(0, "null", "dom_content_loaded");
        check(3, "null", "incremental");
        check(3, r#"{"source":99}"#, "incremental");
        check(17, "{}", "unknown");
    }
}

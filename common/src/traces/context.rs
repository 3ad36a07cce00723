//! The W3C trace context, as it travels in headers of requests and records.

use opentelemetry::trace::{SpanContext, SpanId, TraceFlags, TraceId, TraceState};

/// Reads a `traceparent`: `version-trace_id-parent_id-flags`, each in lower-case hex; ids are not
/// all zero, version `ff` is forbidden.
pub fn parse(traceparent: &str) -> Option<SpanContext> {
    let parts: Vec<&str> = traceparent.split('-').collect();
    let &[version, trace_id, parent_id, flags] = parts.as_slice() else {
        return None;
    };
    let hex = |text: &str, length: usize| {
        text.len() == length && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    };
    if !hex(version, 2) || version == "ff" || !hex(flags, 2) {
        return None;
    }
    let trace_id = hex(trace_id, 32).then(|| TraceId::from_hex(trace_id).ok()).flatten()?;
    let span_id = hex(parent_id, 16).then(|| SpanId::from_hex(parent_id).ok()).flatten()?;
    // Of the other bits this version of the standard does not know what they mean.
    let flags = TraceFlags::new(u8::from_str_radix(flags, 16).ok()?) & TraceFlags::SAMPLED;
    let context = SpanContext::new(trace_id, span_id, flags, true, TraceState::NONE);
    context.is_valid().then_some(context)
}

/// Writes a `traceparent`.
pub fn header(context: &SpanContext) -> String {
    let (trace_id, span_id) = (context.trace_id(), context.span_id());
    format!("00-{trace_id}-{span_id}-{:02x}", context.trace_flags())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_well_formed_contexts_are_read() {
        fn check(traceparent: &str, sampled: Option<bool>) {
            let context = parse(traceparent);
            assert_eq!(context.map(|it| it.is_sampled()), sampled, "{traceparent}");
        }
        check("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", Some(true));
        check("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00", Some(false));
        check("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-ff", Some(true));
        check("00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01", None);
        check("ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", None);
        check("00-00000000000000000000000000000000-b7ad6b7169203331-01", None);
        check("00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01", None);
        check("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331", None);
        check("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-0", None);
        check("", None);
    }

    #[test]
    fn what_is_written_is_read_back() {
        for flags in ["00", "01"] {
            let text = format!("00-0af7651916cd43dd8448eb211c80319c-00ad6b7169203331-{flags}");
            assert_eq!(parse(&text).as_ref().map(header), Some(text));
        }
    }
}

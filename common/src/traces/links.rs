//! What a batch refers to: the contexts of the records in it.

use std::collections::HashSet;

use opentelemetry::trace::SpanContext;

/// The most links that a span has: OpenTelemetry's own limit.
pub const MAX_LINKS: usize = 128;

/// The links of a span.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Links {
    /// Each context once. Where none of those found is sampled, one that is not: so that the
    /// sampler knows.
    pub contexts: Vec<SpanContext>,
    /// Sampled contexts that there was no room for.
    pub dropped: usize,
}

impl Links {
    /// To each of the contexts that is sampled.
    pub fn to(found: impl IntoIterator<Item = SpanContext>) -> Self {
        let mut links = Self::default();
        let mut known = HashSet::new();
        let mut unsampled = None;
        for context in found {
            if !context.is_sampled() {
                unsampled.get_or_insert(context);
            } else if known.insert((context.trace_id(), context.span_id())) {
                match links.contexts.len() < MAX_LINKS {
                    true => links.contexts.push(context),
                    false => links.dropped += 1,
                }
            }
        }
        if links.contexts.is_empty() {
            links.contexts.extend(unsampled);
        }
        links
    }
}

#[cfg(test)]
mod tests {
    use opentelemetry::trace::{SpanId, TraceFlags, TraceId, TraceState};

    use super::*;

    fn context(number: u64, sampled: bool) -> SpanContext {
        let flags = TraceFlags::default().with_sampled(sampled);
        let ids = (TraceId::from(u128::from(number)), SpanId::from(number));
        SpanContext::new(ids.0, ids.1, flags, true, TraceState::NONE)
    }

    #[test]
    fn sampled_contexts_are_linked_once_and_no_more_than_fit() {
        fn check(found: &[(u64, bool)], contexts: &[(u64, bool)], dropped: usize) {
            let of = |numbers: &[(u64, bool)]| -> Vec<_> {
                numbers.iter().map(|(number, sampled)| context(*number, *sampled)).collect()
            };
            let expected = Links { contexts: of(contexts), dropped };
            assert_eq!(Links::to(of(found)), expected);
        }
        check(&[], &[], 0);
        check(&[(1, true), (2, true), (1, true)], &[(1, true), (2, true)], 0);
        check(&[(1, false), (2, true)], &[(2, true)], 0);
        check(&[(1, false), (2, false)], &[(1, false)], 0);
        let many: Vec<_> = (1..=130).map(|number| (number, true)).collect();
        check(&[&many[..], &many[..]].concat(), &many[..MAX_LINKS], 2);
    }
}

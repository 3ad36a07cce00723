//! Which spans without a parent are sampled.

use opentelemetry::trace::{Link, SpanKind, TraceContextExt, TraceId, TraceState};
use opentelemetry::{Context, KeyValue};
use opentelemetry_sdk::trace::{Sampler, SamplingDecision, SamplingResult, ShouldSample};

/// Decides as the sampler of the options does, except that where that one follows parents, a span
/// that has links instead follows these: it is sampled if one of them is. Else of a hundred batches
/// with sampled requests, a ratio of one in a hundred would show one.
#[derive(Clone, Debug)]
pub(super) struct ByLinks(Sampler);

impl ByLinks {
    pub(super) const fn around(sampler: Sampler) -> Self {
        Self(sampler)
    }
}

impl ShouldSample for ByLinks {
    fn should_sample(
        &self,
        parent: Option<&Context>,
        trace_id: TraceId,
        name: &str,
        kind: &SpanKind,
        attributes: &[KeyValue],
        links: &[Link],
    ) -> SamplingResult {
        let is_root = !parent.is_some_and(TraceContextExt::has_active_span);
        if !(is_root && matches!(self.0, Sampler::ParentBased(_)) && !links.is_empty()) {
            return self.0.should_sample(parent, trace_id, name, kind, attributes, links);
        }
        let sampled = links.iter().any(|link| link.span_context.is_sampled());
        SamplingResult {
            decision: match sampled {
                true => SamplingDecision::RecordAndSample,
                false => SamplingDecision::Drop,
            },
            attributes: Vec::new(),
            trace_state: TraceState::NONE,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::traces::parse;

    #[test]
    fn a_span_without_a_parent_follows_its_links_where_others_follow_their_parents() {
        fn check(sampler: Sampler, links: &[&str], expected: &SamplingDecision) {
            let links: Vec<_> = links
                .iter()
                .map(|flags| {
                    format!("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-{flags}")
                })
                .map(|traceparent| Link::new(parse(&traceparent).unwrap(), Vec::new(), 0))
                .collect();
            let (context, trace_id) = (Context::new(), TraceId::from(u128::MAX));
            let kind = SpanKind::Consumer;
            let by_links = ByLinks::around(sampler);
            let result = by_links.should_sample(Some(&context), trace_id, "", &kind, &[], &links);
            assert_eq!(&result.decision, expected);
        }
        use SamplingDecision::{Drop, RecordAndSample};
        let never = || Sampler::ParentBased(Box::new(Sampler::AlwaysOff));
        let always = || Sampler::ParentBased(Box::new(Sampler::AlwaysOn));
        check(never(), &[], &Drop);
        check(never(), &["00", "01"], &RecordAndSample);
        check(always(), &[], &RecordAndSample);
        check(always(), &["00"], &Drop);
        check(Sampler::AlwaysOn, &["00"], &RecordAndSample);
        check(Sampler::AlwaysOff, &["01"], &Drop);
    }
}

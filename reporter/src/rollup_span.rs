//! The span of a roll-up. It holds no row's content.

use common::traces::{Beginning, KeyValue, SpanKind, TraceSpan, Traces};

use crate::plan::Kind;
use crate::rollup::{Rollup, RollupError};
use crate::serve::TurnError;

/// Begins with the search for a session and the lock.
pub(crate) fn begin(traces: &Traces, kind: Kind) -> TraceSpan {
    traces.begin(|| Beginning {
        name: "roll up".into(),
        kind: SpanKind::Internal,
        parent: None,
        links: Vec::new(),
        attributes: vec![
            KeyValue::new("db.system.name", "postgresql"),
            KeyValue::new("tapedeck.kind", kind.name()),
        ],
    })
}

/// Notes how it ended: as another kind than it was meant to be, where the window needed everything.
pub(crate) fn end(span: &mut TraceSpan, result: &Result<Option<Rollup>, TurnError>) {
    match result {
        Ok(Some(done)) => {
            let months = i64::try_from(done.reports.len()).unwrap_or(i64::MAX);
            span.set("tapedeck.outcome", "success");
            span.set("tapedeck.kind", done.kind.name());
            span.set("tapedeck.months", months);
        }
        Ok(None) => span.set("tapedeck.outcome", "standby"),
        Err(error) => {
            span.set("tapedeck.outcome", "failure");
            span.fail(error_type(error));
        }
    }
}

fn error_type(error: &TurnError) -> &'static str {
    match error {
        TurnError::Connect(_) => "connect",
        TurnError::Lock(_) => "lock",
        TurnError::Rollup(RollupError::NotBegun(_)) => "not_begun",
        TurnError::Rollup(RollupError::BeyondCalendar(_)) => "beyond_calendar",
        TurnError::Rollup(RollupError::Database(_)) => "database",
        TurnError::Rollup(RollupError::TimedOut(_)) => "timed_out",
    }
}

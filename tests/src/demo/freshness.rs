//! How old events were once they were stored, from the writer's histogram.

use std::time::Duration;

use crate::stack::Metrics;

/// The writer's histogram: commit time less the time at which the gateway received the request.
const HISTOGRAM: &str = "tapedeck_writer_freshness_seconds";

/// A cumulative histogram at one moment: upper bounds in seconds, and how many values lie below.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Freshness(Vec<(f64, f64)>);

impl Freshness {
    /// As a writer exports it.
    pub(super) fn of(metrics: &Metrics) -> Self {
        Self(metrics.buckets(HISTOGRAM))
    }

    /// What was observed after `earlier`.
    pub(super) fn since(&self, earlier: &Self) -> Self {
        let before = |bound: f64| {
            earlier.0.iter().find(|(earlier, _)| *earlier == bound).map_or(0.0, |(_, count)| *count)
        };
        Self(self.0.iter().map(|(bound, count)| (*bound, count - before(*bound))).collect())
    }

    /// The value below which a share of the observations lie, interpolated within its bucket as
    /// Prometheus does it; none without observations, or beyond the last bound.
    pub(super) fn quantile(&self, share: f64) -> Option<Duration> {
        let all = self.0.last().map(|(_, count)| *count).filter(|count| *count > 0.0)?;
        let rank = share * all;
        let (mut lower, mut below) = (0.0, 0.0);
        for (upper, count) in &self.0 {
            if *count >= rank {
                let within = if *count > below { (rank - below) / (count - below) } else { 1.0 };
                return Duration::try_from_secs_f64(lower + (upper - lower) * within).ok();
            }
            (lower, below) = (*upper, *count);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_interpolated_within_their_bucket() {
        let freshness = Freshness(vec![(0.1, 50.0), (0.2, 90.0), (1.0, 100.0)]);
        let check = |share, seconds: f64| {
            let found = freshness.quantile(share).unwrap().as_secs_f64();
            assert!((found - seconds).abs() < 1e-6, "{share}: {found}, not {seconds}");
        };
        check(0.25, 0.05);
        check(0.5, 0.1);
        check(0.7, 0.15);
        check(0.95, 0.6);
        check(1.0, 1.0);
    }

    #[test]
    fn what_was_not_observed_has_no_quantile() {
        let none = Freshness(vec![(0.1, 0.0), (f64::INFINITY, 0.0)]);
        assert_eq!(none.quantile(0.5), None);
        assert_eq!(Freshness::default().quantile(0.5), None);
        let beyond = Freshness(vec![(0.1, 1.0), (f64::INFINITY, 10.0)]);
        assert_eq!(beyond.quantile(0.99), None);
        assert_eq!(beyond.since(&beyond).quantile(0.5), None);
    }
}

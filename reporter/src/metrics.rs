//! What the reporter exports.

use common::metrics::LATENCY_BUCKETS_SECONDS;
use common::time::Timestamp;

use crate::plan::Kind;

common::metrics! {
    /// Metrics of `reporter serve`.
    pub struct ReporterMetrics {
        /// When all reports of this kind of roll-up were last brought up to date, in seconds since 1970: by this process (window), or by any, as the stored reports say (full). 0 until known.
        last_success: GaugeVec = "tapedeck_reporter_last_success_timestamp_seconds", labels ["kind"];
        /// Roll-ups ended, by kind (window or full) and outcome (success or failure).
        runs: IntCounterVec = "tapedeck_reporter_runs_total", labels ["kind", "outcome"];
        /// Seconds that a roll-up took, failed ones included.
        run_seconds: HistogramVec = "tapedeck_reporter_run_seconds", labels ["kind", "outcome"], buckets LATENCY_BUCKETS_SECONDS;
        /// 1 while another reporter was found at work when this one last tried, else 0.
        standby: IntGauge = "tapedeck_reporter_standby";
        /// Monthly reports written, those with unchanged figures included.
        months_written: IntCounter = "tapedeck_reporter_months_written_total";
        /// Connections to Postgres opened in place of one that was lost or could not be opened.
        reconnects: IntCounter = "tapedeck_reporter_reconnects_total";
    }
}

/// How a roll-up ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Its reports are stored.
    Success,
    /// Nothing is stored.
    Failure,
}

impl Outcome {
    const ALL: [Self; 2] = [Self::Success, Self::Failure];

    const fn name(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Failure => "failure",
        }
    }
}

impl ReporterMetrics {
    /// Makes every series, so that none is missing before its first event.
    pub fn create_series(&self) {
        for kind in Kind::ALL {
            self.last_success.with_label_values(&[kind.name()]);
            for outcome in Outcome::ALL {
                self.runs.with_label_values(&[kind.name(), outcome.name()]);
                self.run_seconds.with_label_values(&[kind.name(), outcome.name()]);
            }
        }
    }

    /// Notes how a roll-up ended.
    pub fn ended(&self, kind: Kind, outcome: Outcome, seconds: f64) {
        let labels = [kind.name(), outcome.name()];
        self.runs.with_label_values(&labels).inc();
        self.run_seconds.with_label_values(&labels).observe(seconds);
    }

    /// Notes since when the reports of this kind are up to date.
    pub fn up_to_date(&self, kind: Kind, since: Timestamp) {
        self.last_success.with_label_values(&[kind.name()]).set(since.as_seconds());
    }
}

//! What the writer exports, besides the events' [accounts](crate::accounts).

use common::metrics::LATENCY_BUCKETS_SECONDS;
use prometheus::Registry;

use crate::batch::CloseReason;
use crate::failure::{Failure, Poison};
use crate::record::Unreadable;
use crate::store::insertion::Insertion;

/// Buckets for the rows of a batch.
const ROW_BUCKETS: [f64; 10] =
    [1.0, 10.0, 50.0, 100.0, 500.0, 1_000.0, 2_500.0, 5_000.0, 10_000.0, 20_000.0];

common::metrics! {
    /// The writer's metrics.
    pub struct WriterMetrics {
        /// Records taken from Kafka, readable or not, by topic.
        records_consumed: IntCounterVec = "tapedeck_writer_records_consumed_total", labels ["topic"];
        /// Bytes of the values of records taken from Kafka.
        record_bytes: IntCounter = "tapedeck_writer_record_bytes_total";
        /// Records sent to the dead letters, by class of error.
        records_dead_lettered: IntCounterVec = "tapedeck_writer_records_dead_lettered_total", labels ["class"];
        /// Batches settled, by what closed them.
        batches: IntCounterVec = "tapedeck_writer_batches_total", labels ["closed_by"];
        /// Events of a batch when it was settled.
        batch_events: Histogram = "tapedeck_writer_batch_events", buckets ROW_BUCKETS;
        /// Seconds from handing a batch over until it was settled, retries included.
        settle_seconds: Histogram = "tapedeck_writer_batch_settle_seconds", buckets LATENCY_BUCKETS_SECONDS;
        /// Seconds of one transaction from its first statement to the answer of its commit, by outcome.
        transaction_seconds: HistogramVec = "tapedeck_writer_transaction_seconds", labels ["outcome"], buckets LATENCY_BUCKETS_SECONDS;
        /// Transactions committed, by how their events were inserted: copy (all were new), on_conflict (one by one, because repeats were likely).
        insertions: IntCounterVec = "tapedeck_writer_insertions_total", labels ["way"];
        /// Transactions that failed and were retried, by what was wrong: repeated (COPY met an event that is stored), crossed (deadlock), parent_gone, waited (lock or statement time-out), session (anything else).
        retries: IntCounterVec = "tapedeck_writer_retries_total", labels ["cause"];
        /// Sessions opened with Postgres, the first ones included.
        connections: IntCounter = "tapedeck_writer_postgres_connections_opened_total";
        /// Rows of users, replays and webstates inserted or changed, by table.
        rows_merged: IntCounterVec = "tapedeck_writer_rows_merged_total", labels ["table"];
        /// Page states whose content was stored.
        pages_written: IntCounter = "tapedeck_writer_pages_written_total";
        /// Page states that came although their content was stored.
        page_repeats: IntCounter = "tapedeck_writer_page_repeats_total";
        /// Compressed bytes of page states that needed no storing because their content was stored.
        page_bytes_saved: IntCounter = "tapedeck_writer_page_bytes_saved_total";
        /// Users written whose claimed address belongs to another user.
        email_conflicts: IntCounter = "tapedeck_writer_email_conflicts_total";
        /// Seconds from a gateway's receipt of an event until the commit that stored it; one observation an event.
        freshness: Histogram = "tapedeck_writer_freshness_seconds", buckets LATENCY_BUCKETS_SECONDS;
        /// Records of a partition that are in Kafka and not yet committed by this writer.
        lag_records: IntGaugeVec = "tapedeck_writer_lag_records", labels ["topic", "partition"];
        /// Seconds that the newest record written lies behind now while its partition has records waiting; 0 without.
        lag_seconds: GaugeVec = "tapedeck_writer_lag_seconds", labels ["topic", "partition"];
        /// Partitions assigned to this writer, over all lanes.
        partitions_assigned: IntGauge = "tapedeck_writer_partitions_assigned";
        /// Partitions given to this writer of which it does not know yet where they begin: nothing of theirs is consumed.
        partitions_unplaced: IntGauge = "tapedeck_writer_partitions_unplaced";
        /// Partitions assigned, revoked and lost, over all rebalances.
        rebalanced_partitions: IntCounterVec = "tapedeck_writer_rebalanced_partitions_total", labels ["change"];
        /// Offset commits, by outcome.
        offset_commits: IntCounterVec = "tapedeck_writer_offset_commits_total", labels ["outcome"];
        /// Records that Kafka deleted before this writer had read them.
        records_lost: IntCounter = "tapedeck_writer_records_lost_to_retention_total";
        /// Partitions whose position lay outside what Kafka keeps, by side.
        offsets_out_of_range: IntCounterVec = "tapedeck_writer_offsets_out_of_range_total", labels ["side"];
        /// Partitions that wait for a newer writer because of a record of a newer format.
        partitions_stopped: IntGauge = "tapedeck_writer_partitions_stopped";
        /// Lanes that stopped because more than half of their last records were poison.
        lanes_halted: IntGauge = "tapedeck_writer_lanes_halted";
        /// Errors reported by Kafka's client while consuming.
        kafka_errors: IntCounter = "tapedeck_writer_kafka_errors_total";
        /// Bytes held in batches, over all lanes.
        batch_bytes_held: IntGauge = "tapedeck_writer_batch_held_bytes";
        /// Bytes that batches may hold, over all lanes; one record may exceed it.
        batch_bytes_limit: IntGauge = "tapedeck_writer_batch_limit_bytes";
        /// When a batch was last settled, in seconds since 1970.
        last_settled: Gauge = "tapedeck_writer_last_settled_timestamp_seconds";
    }
}

impl WriterMetrics {
    /// Makes and registers the metrics, every known label present from the start.
    ///
    /// # Errors
    /// When a name is taken.
    pub fn new(registry: &Registry) -> prometheus::Result<Self> {
        let metrics = Self::register(registry)?;
        for class in Unreadable::CLASSES.into_iter().chain(Poison::ALL.map(Poison::class)) {
            metrics.records_dead_lettered.with_label_values(&[class]);
        }
        for reason in CloseReason::ALL {
            metrics.batches.with_label_values(&[reason.label()]);
        }
        for cause in Failure::RETRIED {
            metrics.retries.with_label_values(&[cause]);
        }
        for way in Insertion::ALL {
            metrics.insertions.with_label_values(&[way.label()]);
        }
        for outcome in ["committed", "failed"] {
            metrics.transaction_seconds.with_label_values(&[outcome]);
            metrics.offset_commits.with_label_values(&[outcome]);
        }
        for change in ["assigned", "revoked", "lost"] {
            metrics.rebalanced_partitions.with_label_values(&[change]);
        }
        for side in ["below_oldest", "above_newest"] {
            metrics.offsets_out_of_range.with_label_values(&[side]);
        }
        for table in ["users", "replays", "webstates"] {
            metrics.rows_merged.with_label_values(&[table]);
        }
        Ok(metrics)
    }
}

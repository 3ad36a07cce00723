//! What the gateway exports.

use common::metrics::LATENCY_BUCKETS_SECONDS;
use prometheus::Registry;

use crate::prepare::Prepared;
use crate::problem::Kind;
use crate::rate_limit;
use crate::tls;

/// Bounds of what is left of a limit: refused, nearly used up, and so on.
const LEFT_BUCKETS: &[f64] = &[0.0, 0.05, 0.1, 0.25, 0.5, 0.75, 1.0];

common::metrics! {
    /// The gateway's metrics, all of them registered at once.
    pub struct GatewayMetrics {
        /// Events of envelopes that could be parsed, whatever became of them.
        events_received: IntCounter = "tapedeck_gateway_events_received_total";
        /// Events acknowledged to their recorders, after Kafka had acknowledged them.
        events_accepted: IntCounter = "tapedeck_gateway_events_accepted_total";
        /// Events of envelopes that were parsed and then refused, by reason.
        events_rejected: IntCounterVec = "tapedeck_gateway_events_rejected_total", labels ["reason"];
        /// Envelopes acknowledged to their recorders.
        envelopes_accepted: IntCounter = "tapedeck_gateway_envelopes_accepted_total";
        /// Envelopes refused, by reason, unreadable ones included.
        envelopes_rejected: IntCounterVec = "tapedeck_gateway_envelopes_rejected_total", labels ["reason"];
        /// Requests refused as a whole, by reason.
        requests_refused: IntCounterVec = "tapedeck_gateway_requests_refused_total", labels ["reason"];
        /// Part of its burst that a key had left after it asked for a request or for bytes of a body, by limit; 0 where it was refused. Observed where the limit is set.
        rate_limit_left: HistogramVec = "tapedeck_gateway_rate_limit_left_ratio", labels ["limit"], buckets LEFT_BUCKETS;
        /// Requests answered, by path and status; aborted ones were given up by their client.
        requests: IntCounterVec = "tapedeck_gateway_requests_total", labels ["path", "status"];
        /// Seconds from a request's head to its answer's, refused and aborted ones included.
        request_seconds: HistogramVec = "tapedeck_gateway_request_seconds", labels ["path"], buckets LATENCY_BUCKETS_SECONDS;
        /// Seconds from handing a record to the producer until Kafka acknowledged it or it failed.
        produce_seconds: HistogramVec = "tapedeck_gateway_produce_seconds", labels ["outcome"], buckets LATENCY_BUCKETS_SECONDS;
        /// Bytes of request bodies as they came over the wire.
        wire_bytes: IntCounter = "tapedeck_gateway_wire_bytes_total";
        /// Bytes of request bodies once decompressed.
        decompressed_bytes: IntCounter = "tapedeck_gateway_decompressed_bytes_total";
        /// Bytes that requests in flight hold, bodies and records.
        in_flight_bytes: IntGauge = "tapedeck_gateway_in_flight_bytes";
        /// Bytes that requests in flight may hold.
        in_flight_limit_bytes: IntGauge = "tapedeck_gateway_in_flight_limit_bytes";
        /// Bytes of records that wait in the producer, refreshed every second.
        producer_queue_bytes: IntGauge = "tapedeck_gateway_producer_queue_bytes";
        /// Bytes of records that may wait in the producer.
        producer_queue_limit_bytes: IntGauge = "tapedeck_gateway_producer_queue_limit_bytes";
        /// Producers replaced because librdkafka called an error fatal.
        producer_renewals: IntCounter = "tapedeck_gateway_producer_renewals_total";
        /// 1 while Kafka is taken to be reachable; 0 from a failed delivery to the next acknowledgement, and until the topics have been checked.
        kafka_available: IntGauge = "tapedeck_gateway_kafka_available";
        /// Pages that Kafka acknowledged.
        pages_published: IntCounter = "tapedeck_gateway_pages_published_total";
        /// Pages sent by recorders and not sent on, being known to be in Kafka or in the same request before.
        pages_deduplicated: IntCounter = "tapedeck_gateway_pages_deduplicated_total";
        /// Bytes of content of pages that were not sent on.
        deduplicated_bytes: IntCounter = "tapedeck_gateway_deduplicated_bytes_total";
        /// Pages remembered as acknowledged.
        page_memory_entries: IntGauge = "tapedeck_gateway_page_memory_entries";
        /// Pages that may be remembered.
        page_memory_limit_entries: IntGauge = "tapedeck_gateway_page_memory_limit_entries";
        /// Escapes replaced because Postgres could not read them: U+0000 and lone surrogates.
        escapes_replaced: IntCounter = "tapedeck_gateway_escapes_replaced_total";
        /// Connections open on the public port.
        connections: IntGauge = "tapedeck_gateway_connections";
        /// Connections that may be open on the public port.
        connections_limit: IntGauge = "tapedeck_gateway_connections_limit";
        /// Seconds until the public port and a client were agreed on TLS or were not, by outcome.
        tls_handshake_seconds: HistogramVec = "tapedeck_gateway_tls_handshake_seconds", labels ["outcome"], buckets LATENCY_BUCKETS_SECONDS;
        /// Times that certificate or key could not be read again; those before stay in use.
        tls_reload_failures: IntCounter = "tapedeck_gateway_tls_reload_failures_total";
        /// Keys in the file that was last read.
        keys: IntGauge = "tapedeck_gateway_keys";
        /// Times that the keys file could not be read again; the keys read before stay valid.
        keys_reload_failures: IntCounter = "tapedeck_gateway_keys_reload_failures_total";
    }
}

/// How a request's path is labelled: the routes, and one for all others.
pub const PATHS: [&str; 4] =
    [crate::routes::BATCHES, crate::routes::MISSING, crate::routes::OPENAPI, OTHER_PATH];

/// The label of paths that the API does not have.
pub const OTHER_PATH: &str = "other";

/// The status label of a request that its client gave up.
pub const ABORTED: &str = "aborted";

/// The outcome labels of a produced record.
pub const ACKNOWLEDGED: &str = "acknowledged";
/// See [`ACKNOWLEDGED`].
pub const FAILED: &str = "failed";

impl GatewayMetrics {
    /// Registers all metrics, with every series that alerts may look for at zero.
    ///
    /// # Errors
    /// When a name is taken.
    pub fn with_series(registry: &Registry) -> prometheus::Result<Self> {
        let metrics = Self::register(registry)?;
        for kind in Kind::ALL {
            let reason = kind.label();
            metrics.events_rejected.with_label_values(&[&reason]);
            metrics.envelopes_rejected.with_label_values(&[&reason]);
            metrics.requests_refused.with_label_values(&[&reason]);
        }
        for path in PATHS {
            metrics.request_seconds.with_label_values(&[path]);
            for status in ["200", ABORTED] {
                metrics.requests.with_label_values(&[path, status]);
            }
        }
        // What alerts take the rate of must be there before it first happens.
        metrics.requests.with_label_values(&[crate::routes::BATCHES, "207"]);
        for status in Kind::ALL.map(Kind::status) {
            metrics.requests.with_label_values(&[crate::routes::BATCHES, status.as_str()]);
        }
        for limit in [rate_limit::REQUESTS, rate_limit::BYTES] {
            metrics.rate_limit_left.with_label_values(&[limit]);
        }
        for outcome in [ACKNOWLEDGED, FAILED] {
            metrics.produce_seconds.with_label_values(&[outcome]);
        }
        for outcome in [tls::AGREED, tls::FAILED] {
            metrics.tls_handshake_seconds.with_label_values(&[outcome]);
        }
        Ok(metrics)
    }
}

impl GatewayMetrics {
    /// Counts envelopes that are refused with the whole request, for this reason.
    pub fn count_refused(&self, kind: Kind, envelopes: &[Prepared]) {
        for envelope in envelopes {
            self.count_refused_envelope(kind, envelope.events);
        }
    }

    /// Counts an envelope that is refused for this reason.
    pub fn count_refused_envelope(&self, kind: Kind, events: usize) {
        let reason = kind.label();
        self.envelopes_rejected.with_label_values(&[&reason]).inc();
        self.events_rejected.with_label_values(&[&reason]).inc_by(events as u64);
    }
}

/// A size as a gauge's value.
pub fn gauge_value(size: usize) -> i64 {
    i64::try_from(size).unwrap_or(i64::MAX)
}

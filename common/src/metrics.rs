//! Metrics declared once: in a struct whose doc comments are the HELP texts.
//!
//! ```
//! common::metrics! {
//!     /// What the example counts.
//!     pub struct ExampleMetrics {
//!         /// Requests answered, by status.
//!         requests: IntCounterVec = "tapedeck_example_requests_total", labels ["status"];
//!         /// Seconds from request to answer.
//!         seconds: Histogram = "tapedeck_example_request_seconds", buckets [0.01, 0.1, 1.0];
//!     }
//! }
//! let registry = prometheus::Registry::new();
//! let metrics = ExampleMetrics::register(&registry)?;
//! metrics.requests.with_label_values(&["200"]).inc();
//! # Ok::<(), prometheus::Error>(())
//! ```

use prometheus::{
    Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Opts, Registry,
};

/// Buckets for latencies, in seconds: from a millisecond to beyond every time-out.
pub const LATENCY_BUCKETS_SECONDS: &[f64] = &[
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0,
];

/// How a metric's values are to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It only grows, and begins at 0 with its process.
    Counter,
    /// It goes up and down.
    Gauge,
    /// Counts of observations up to each of its bounds, and their sum.
    Histogram,
}

impl Kind {
    /// The name in Prometheus' text format.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// What is declared of one metric.
#[derive(Clone, Copy, Debug)]
pub struct Declaration {
    /// Its full name.
    pub name: &'static str,
    /// How to read it.
    pub kind: Kind,
    /// Its HELP text, as the doc comment's lines have it.
    pub help: &'static str,
    /// The names of its labels.
    pub labels: &'static [&'static str],
    /// A histogram's upper bounds.
    pub buckets: &'static [f64],
}

/// A kind of metric that can be made from its declaration.
pub trait FromDeclaration: Sized {
    /// How it is read.
    const KIND: Kind;

    /// Makes and registers the metric.
    ///
    /// # Errors
    /// When the name is taken or malformed.
    fn register(declaration: Declaration, registry: &Registry) -> prometheus::Result<Self>;
}

macro_rules! from_declaration {
    ($metric:ty, $kind:ident, |$declaration:ident, $help:ident| $make:expr) => {
        impl FromDeclaration for $metric {
            const KIND: Kind = Kind::$kind;

            fn register(
                $declaration: Declaration,
                registry: &Registry,
            ) -> prometheus::Result<Self> {
                let $help = $declaration.help.trim();
                let metric = $make?;
                registry.register(Box::new(metric.clone()))?;
                Ok(metric)
            }
        }
    };
}

from_declaration!(IntCounter, Counter, |it, help| IntCounter::new(it.name, help));
from_declaration!(IntGauge, Gauge, |it, help| IntGauge::new(it.name, help));
from_declaration!(Gauge, Gauge, |it, help| Gauge::new(it.name, help));
from_declaration!(IntCounterVec, Counter, |it, help| IntCounterVec::new(
    Opts::new(it.name, help),
    it.labels
));
from_declaration!(IntGaugeVec, Gauge, |it, help| IntGaugeVec::new(
    Opts::new(it.name, help),
    it.labels
));
from_declaration!(GaugeVec, Gauge, |it, help| GaugeVec::new(Opts::new(it.name, help), it.labels));
from_declaration!(Histogram, Histogram, |it, help| Histogram::with_opts(
    HistogramOpts::new(it.name, help).buckets(it.buckets.to_vec())
));
from_declaration!(HistogramVec, Histogram, |it, help| HistogramVec::new(
    HistogramOpts::new(it.name, help).buckets(it.buckets.to_vec()),
    it.labels
));

/// Declares a struct of metrics, see [the module](crate::metrics).
#[macro_export]
macro_rules! metrics {
    (
        $(#[$attribute:meta])*
        $visibility:vis struct $Struct:ident {
            $(
                $(#[doc = $help:literal])+
                $field:ident: $kind:ident = $name:literal
                    $(, labels [$($label:literal),+])?
                    $(, buckets $buckets:expr)?;
            )+
        }
    ) => {
        $(#[$attribute])*
        #[derive(Clone, Debug)]
        $visibility struct $Struct {
            $( $(#[doc = $help])+ pub $field: $crate::prometheus::$kind, )+
        }

        impl $Struct {
            /// What is declared, in the order of the fields.
            pub const DECLARATIONS: &[$crate::metrics::Declaration] = &[
                $( $crate::metrics!(
                    @declaration $kind $name [$($help),+] [$($($label),+)?] [$($buckets)?]
                ), )+
            ];

            /// Makes all metrics and registers them.
            ///
            /// # Errors
            /// When a name is taken or malformed.
            pub fn register(
                registry: &$crate::prometheus::Registry,
            ) -> $crate::prometheus::Result<Self> {
                Ok(Self {
                    $( $field: $crate::metrics::FromDeclaration::register(
                        $crate::metrics!(
                            @declaration $kind $name [$($help),+] [$($($label),+)?] [$($buckets)?]
                        ),
                        registry,
                    )?, )+
                })
            }
        }
    };
    (
        @declaration $kind:ident $name:literal
        [$($help:literal),+] [$($label:literal),*] [$($buckets:expr)?]
    ) => {
        $crate::metrics::Declaration {
            name: $name,
            kind: <$crate::prometheus::$kind as $crate::metrics::FromDeclaration>::KIND,
            help: concat!($($help),+),
            labels: &[$($label),*],
            buckets: $crate::metrics!(@buckets $($buckets)?),
        }
    };
    (@buckets) => { &[] };
    (@buckets $buckets:expr) => { &$buckets };
}

crate::metrics! {
    /// Which build runs.
    pub struct BuildMetrics {
        /// Always 1; the labels say which build runs.
        info: IntGaugeVec = "tapedeck_build_info", labels ["service", "version"];
    }
}

/// A registry with what every service exports: the process's own figures, the build, and
/// what the log leaves out.
///
/// # Errors
/// When a name is taken.
pub fn service_registry(service: &str) -> prometheus::Result<Registry> {
    let registry = Registry::new();
    let process = prometheus::process_collector::ProcessCollector::for_self();
    registry.register(Box::new(process))?;
    let build = BuildMetrics::register(&registry)?;
    build.info.with_label_values(&[service, env!("CARGO_PKG_VERSION")]).set(1);
    crate::repeats::register(&registry)?;
    Ok(registry)
}

//! The usual variables of OpenTelemetry, as options like all others
//! (<https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/>).

use clap::{ArgAction, Args, ValueEnum};

use crate::options::{CheckOptions, Problems, Secret};

/// The one protocol that is spoken.
pub(super) const PROTOCOL: &str = "http/protobuf";

/// Whether spans are made, which of them, and where they go.
#[derive(Clone, Debug, Args)]
pub struct TraceOptions {
    /// Address of a receiver of OTLP over HTTP, such as a collector, to which `/v1/traces` is added.
    /// Without it, and without one for traces alone, no span is made.
    ///
    /// Set it to see requests, batches and roll-ups as traces, like `http://collector:4318`.
    #[arg(long, env = "OTEL_EXPORTER_OTLP_ENDPOINT")]
    pub otel_exporter_otlp_endpoint: Option<String>,

    /// Address for traces alone, taken as it is.
    ///
    /// Set it where traces go elsewhere than what else is exported in your environment.
    #[arg(long, env = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")]
    pub otel_exporter_otlp_traces_endpoint: Option<String>,

    /// Headers of each export, `name=value`, comma separated, percent-encoded; never logged.
    ///
    /// Set it where the receiver wants to know who sends, as by a token.
    #[arg(long, env = "OTEL_EXPORTER_OTLP_HEADERS", hide_env_values = true)]
    pub otel_exporter_otlp_headers: Option<Secret>,

    /// Headers for traces alone, instead of the others.
    ///
    /// Set it where traces need others than what else is exported.
    #[arg(long, env = "OTEL_EXPORTER_OTLP_TRACES_HEADERS", hide_env_values = true)]
    pub otel_exporter_otlp_traces_headers: Option<Secret>,

    /// How long the receiver may take for an export, tries again included.
    ///
    /// Raise it for a receiver that is far away; nobody but the queue waits for it.
    #[arg(long, env = "OTEL_EXPORTER_OTLP_TIMEOUT", default_value_t = 10_000)]
    pub otel_exporter_otlp_timeout: u64,

    /// The same for traces alone.
    ///
    /// Set it where traces should wait for another time than what else is exported.
    #[arg(long, env = "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT")]
    pub otel_exporter_otlp_traces_timeout: Option<u64>,

    /// How spans are sent. Only `http/protobuf` is spoken; others are refused.
    ///
    /// Leave it, or set it to that where your environment names another one for all.
    #[arg(long, env = "OTEL_EXPORTER_OTLP_PROTOCOL", default_value = PROTOCOL)]
    pub otel_exporter_otlp_protocol: String,

    /// The same for traces alone.
    ///
    /// Set it to `http/protobuf` where your environment names another one for all.
    #[arg(long, env = "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL")]
    pub otel_exporter_otlp_traces_protocol: Option<String>,

    /// Which spans are sampled, of those whose sender has not decided it already: browsers send no
    /// trace context as a rule.
    ///
    /// Use `parentbased_traceidratio` with a small share where recorders are many.
    #[arg(long, env = "OTEL_TRACES_SAMPLER", value_enum, default_value_t = SamplerName::ParentbasedAlwaysOn)]
    pub otel_traces_sampler: SamplerName,

    /// The share that a `traceidratio` samples, from 0 to 1; 1 without it.
    ///
    /// Set it together with such a sampler, like 0.01 for one trace in a hundred.
    #[arg(long, env = "OTEL_TRACES_SAMPLER_ARG")]
    pub otel_traces_sampler_arg: Option<f64>,

    /// The service's name on its spans; its own without it: `ingest-gateway`, `writer`, `reporter`.
    ///
    /// Set it where several Tapedecks send to one place.
    #[arg(long, env = "OTEL_SERVICE_NAME")]
    pub otel_service_name: Option<String>,

    /// What else stands on all spans, `name=value`, comma separated, percent-encoded.
    ///
    /// Set it to tell deployments apart, like `deployment.environment.name=staging`.
    #[arg(long, env = "OTEL_RESOURCE_ATTRIBUTES")]
    pub otel_resource_attributes: Option<String>,

    /// Who gets spans: the receiver, or nobody.
    ///
    /// Set it to `none` to have no spans made where the environment names a receiver for others.
    #[arg(long, env = "OTEL_TRACES_EXPORTER", value_enum, default_value_t = ExporterName::Otlp)]
    pub otel_traces_exporter: ExporterName,

    /// No span is made, whatever else is set.
    ///
    /// Set it to `true` to switch all of OpenTelemetry off.
    #[arg(long, env = "OTEL_SDK_DISABLED", action = ArgAction::Set, default_value_t = false,
        value_parser = boolean)]
    pub otel_sdk_disabled: bool,

    /// How long a span waits for others at most before a batch of them is exported.
    ///
    /// Lower it to see spans sooner.
    #[arg(long, env = "OTEL_BSP_SCHEDULE_DELAY", default_value_t = 5_000)]
    pub otel_bsp_schedule_delay: u64,

    /// How long the export of a batch may take, whatever it waits for.
    ///
    /// Raise it together with the receiver's time-out, which must be no longer.
    #[arg(long, env = "OTEL_BSP_EXPORT_TIMEOUT", default_value_t = 30_000)]
    pub otel_bsp_export_timeout: u64,

    /// Spans that may wait to be exported; beyond them they are dropped and counted.
    ///
    /// Raise it when spans are dropped in bursts; a span takes some kilobytes at most.
    #[arg(long, env = "OTEL_BSP_MAX_QUEUE_SIZE", default_value_t = 2_048)]
    pub otel_bsp_max_queue_size: usize,

    /// Spans exported at a time.
    ///
    /// Raise it together with the queue where the receiver is far away.
    #[arg(long, env = "OTEL_BSP_MAX_EXPORT_BATCH_SIZE", default_value_t = 512)]
    pub otel_bsp_max_export_batch_size: usize,
}

/// The samplers that OpenTelemetry names, but for those that ask somebody else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub enum SamplerName {
    /// All, whatever the sender decided.
    AlwaysOn,
    /// None, whatever the sender decided.
    AlwaysOff,
    /// A share, whatever the sender decided.
    Traceidratio,
    /// As the sender decided; all where it did not.
    ParentbasedAlwaysOn,
    /// As the sender decided; none where it did not.
    ParentbasedAlwaysOff,
    /// As the sender decided; a share where it did not.
    ParentbasedTraceidratio,
}

/// Who gets spans.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ExporterName {
    /// A receiver of OTLP.
    Otlp,
    /// Nobody.
    None,
}

impl CheckOptions for TraceOptions {
    fn check(&self, problems: &mut Problems) {
        // What service it is changes nothing.
        if let Err(found) = self.settings("check") {
            for problem in found {
                problems.add(problem);
            }
        }
    }
}

fn boolean(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err("is neither true nor false".to_owned()),
    }
}

//! What the options come to.

use std::borrow::Cow;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, Uri};
use opentelemetry::KeyValue;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::resource::TelemetryResourceDetector;
use opentelemetry_sdk::trace::Sampler;
use percent_encoding::percent_decode_str;

use super::export;
use super::options::{ExporterName, PROTOCOL, SamplerName, TraceOptions};
use crate::options::Problems;

/// What is added to a receiver's address for traces.
const TRACES_PATH: &str = "/v1/traces";

/// Which spans are made, and where they go.
#[derive(Clone, Debug)]
pub(super) struct TraceSettings {
    pub(super) endpoint: Uri,
    pub(super) headers: HeaderMap,
    pub(super) timeout: Duration,
    pub(super) batch_timeout: Duration,
    pub(super) schedule_delay: Duration,
    pub(super) queue_limit: usize,
    pub(super) batch_limit: usize,
    pub(super) sampler: Sampler,
    pub(super) resource: Resource,
}

impl TraceOptions {
    /// The settings, or none where no span is to be made. `service` is the name of a service that
    /// the options name no other for.
    ///
    /// # Errors
    /// Every mistake.
    pub(super) fn settings(&self, service: &str) -> Result<Option<TraceSettings>, Vec<String>> {
        let disabled = self.otel_sdk_disabled || self.otel_traces_exporter == ExporterName::None;
        let Some(address) = self.address().filter(|_| !disabled) else {
            return Ok(None);
        };
        let mut problems = Problems::default();
        let endpoint = noted(&mut problems, endpoint(&address));
        let headers = noted(&mut problems, self.headers());
        let attributes = noted(&mut problems, self.attributes());
        let sampler = noted(&mut problems, self.sampler());
        let protocol = self.otel_exporter_otlp_traces_protocol.as_ref();
        let protocol = protocol.unwrap_or(&self.otel_exporter_otlp_protocol);
        problems.require(
            protocol == PROTOCOL,
            format!("--otel-exporter-otlp-protocol: {protocol} is not spoken, only {PROTOCOL}"),
        );
        let timeout =
            self.otel_exporter_otlp_traces_timeout.unwrap_or(self.otel_exporter_otlp_timeout);
        problems.require(
            (1..=self.otel_bsp_export_timeout).contains(&timeout),
            "--otel-exporter-otlp-timeout must not be 0, and not be longer than \
             --otel-bsp-export-timeout",
        );
        problems
            .require(self.otel_bsp_schedule_delay > 0, "--otel-bsp-schedule-delay must not be 0");
        problems.require(
            (1..=self.otel_bsp_max_queue_size).contains(&self.otel_bsp_max_export_batch_size),
            "--otel-bsp-max-export-batch-size must not be 0, and not be more than \
             --otel-bsp-max-queue-size",
        );
        let (Some(endpoint), Some(headers), Some(attributes), Some(sampler)) =
            (endpoint, headers, attributes, sampler)
        else {
            return Err(problems.into_vec());
        };
        let settings = TraceSettings {
            endpoint,
            headers,
            timeout: Duration::from_millis(timeout),
            batch_timeout: Duration::from_millis(self.otel_bsp_export_timeout),
            schedule_delay: Duration::from_millis(self.otel_bsp_schedule_delay),
            queue_limit: self.otel_bsp_max_queue_size,
            batch_limit: self.otel_bsp_max_export_batch_size,
            sampler,
            resource: self.resource(service, attributes),
        };
        // It knows more variables than these.
        if let Err(problem) = export::check(&settings) {
            problems.add(problem);
        }
        let problems = problems.into_vec();
        if problems.is_empty() { Ok(Some(settings)) } else { Err(problems) }
    }

    fn address(&self) -> Option<Cow<'_, str>> {
        if let Some(address) = &self.otel_exporter_otlp_traces_endpoint {
            return Some(address.into());
        }
        let base = self.otel_exporter_otlp_endpoint.as_ref()?;
        Some(format!("{}{TRACES_PATH}", base.trim_end_matches('/')).into())
    }

    fn headers(&self) -> Result<HeaderMap, String> {
        let own = self.otel_exporter_otlp_traces_headers.as_ref();
        let Some(text) = own.or(self.otel_exporter_otlp_headers.as_ref()) else {
            return Ok(HeaderMap::new());
        };
        let header = |(name, value): (String, String)| {
            let name = HeaderName::try_from(name).ok()?;
            let mut value = HeaderValue::try_from(value).ok()?;
            value.set_sensitive(true);
            Some((name, value))
        };
        let pairs = pairs(text.expose()).and_then(|pairs| pairs.into_iter().map(header).collect());
        // They may hold a secret: only that they are wrong is told.
        pairs.ok_or_else(|| {
            "--otel-exporter-otlp-headers is not NAME=VALUE, comma separated".to_owned()
        })
    }

    fn attributes(&self) -> Result<Vec<(String, String)>, String> {
        let text = self.otel_resource_attributes.as_deref().unwrap_or_default();
        pairs(text).ok_or_else(|| {
            format!("--otel-resource-attributes: {text} is not NAME=VALUE, comma separated")
        })
    }

    fn sampler(&self) -> Result<Sampler, String> {
        let share = self.otel_traces_sampler_arg.unwrap_or(1.0);
        let ratio = || match (0.0..=1.0).contains(&share) {
            true => Ok(Sampler::TraceIdRatioBased(share)),
            false => Err(format!("--otel-traces-sampler-arg: {share} is not from 0 to 1")),
        };
        let by_parent = |root| Sampler::ParentBased(Box::new(root));
        Ok(match self.otel_traces_sampler {
            SamplerName::AlwaysOn => Sampler::AlwaysOn,
            SamplerName::AlwaysOff => Sampler::AlwaysOff,
            SamplerName::Traceidratio => ratio()?,
            SamplerName::ParentbasedAlwaysOn => by_parent(Sampler::AlwaysOn),
            SamplerName::ParentbasedAlwaysOff => by_parent(Sampler::AlwaysOff),
            SamplerName::ParentbasedTraceidratio => by_parent(ratio()?),
        })
    }

    fn resource(&self, service: &str, attributes: Vec<(String, String)>) -> Resource {
        let own = [("service.name", service), ("service.version", env!("CARGO_PKG_VERSION"))];
        let own = own.map(|(name, value)| KeyValue::new(name, value.to_owned()));
        let others = attributes.into_iter().map(|(name, value)| KeyValue::new(name, value));
        let named = self.otel_service_name.clone();
        // Of two with one name the later counts.
        Resource::builder_empty()
            .with_detector(Box::new(TelemetryResourceDetector))
            .with_attributes(own)
            .with_attributes(others)
            .with_attributes(named.map(|name| KeyValue::new("service.name", name)))
            .build()
    }
}

/// The value, or a mistake noted.
fn noted<T>(problems: &mut Problems, value: Result<T, String>) -> Option<T> {
    value.map_err(|problem| problems.add(problem)).ok()
}

fn endpoint(address: &str) -> Result<Uri, String> {
    let uri: Option<Uri> = address.parse().ok();
    let usable =
        |uri: &Uri| uri.host().is_some() && matches!(uri.scheme_str(), Some("http" | "https"));
    uri.filter(usable).ok_or_else(|| {
        format!("--otel-exporter-otlp-endpoint: {address} is no address like http://host:4318")
    })
}

/// `name=value` pairs, comma separated; values are percent-encoded.
fn pairs(text: &str) -> Option<Vec<(String, String)>> {
    let pairs = text.split(',').map(str::trim).filter(|pair| !pair.is_empty());
    let pair = |pair: &str| {
        let (name, value) = pair.split_once('=')?;
        let name = name.trim();
        let value = percent_decode_str(value.trim()).decode_utf8().ok()?;
        (!name.is_empty()).then(|| (name.to_owned(), value.into_owned()))
    };
    pairs.map(pair).collect()
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use opentelemetry::{Key, Value};

    use super::*;
    use crate::options::{CheckOptions, Refused, Secret, try_parse};

    #[derive(Debug, Parser)]
    struct Example {
        #[command(flatten)]
        traces: TraceOptions,
    }

    impl CheckOptions for Example {
        fn check(&self, problems: &mut Problems) {
            self.traces.check(problems);
        }
    }

    fn parse(line: &str) -> Result<TraceOptions, Vec<String>> {
        let arguments = format!("example {line}");
        let arguments = arguments.split_whitespace().map(std::ffi::OsString::from);
        match try_parse::<Example>(arguments) {
            Ok(example) => Ok(example.traces),
            Err(Refused::Problems(problems)) => Err(problems),
            Err(Refused::Clap(error)) => Err(vec![error.to_string()]),
        }
    }

    const AT: &str = "--otel-exporter-otlp-endpoint http://collector:4318";

    /// Headers are refused as arguments: they may hold a token.
    fn with_headers(line: &str, headers: &str) -> TraceOptions {
        let headers = Some(Secret::from(headers));
        TraceOptions { otel_exporter_otlp_headers: headers, ..parse(line).unwrap() }
    }

    #[test]
    fn spans_go_where_the_options_say() {
        fn check(line: &str, expected: Option<&str>) {
            let settings = parse(line).unwrap().settings("writer").unwrap();
            assert_eq!(settings.map(|it| it.endpoint.to_string()).as_deref(), expected, "{line}");
        }
        check("", None);
        check(AT, Some("http://collector:4318/v1/traces"));
        check("--otel-exporter-otlp-endpoint http://c/base/", Some("http://c/base/v1/traces"));
        let own = "--otel-exporter-otlp-traces-endpoint https://c/own";
        check(own, Some("https://c/own"));
        check(&format!("{AT} {own}"), Some("https://c/own"));
        check(&format!("{AT} --otel-sdk-disabled True"), None);
        check(&format!("{AT} --otel-traces-exporter none"), None);
    }

    #[test]
    fn every_mistake_is_named_and_no_secret() {
        fn check(line: &str, expected: &[&str]) {
            let problems = parse(line).err().unwrap_or_default();
            assert_eq!(problems.len(), expected.len(), "{problems:?}");
            for part in expected {
                assert!(problems.iter().any(|it| it.contains(part)), "{problems:?}: {part}");
            }
            assert!(!format!("{problems:?}").contains("hunter2"), "{problems:?}");
        }
        check("--otel-exporter-otlp-endpoint collector:4318", &["collector:4318"]);
        check(
            &format!(
                "{AT} --otel-exporter-otlp-protocol grpc \
                 --otel-resource-attributes name --otel-traces-sampler traceidratio \
                 --otel-traces-sampler-arg 2 --otel-bsp-max-queue-size 10 \
                 --otel-bsp-schedule-delay 0 --otel-exporter-otlp-timeout 60000"
            ),
            &[
                "grpc is not spoken",
                "--otel-resource-attributes",
                "--otel-traces-sampler-arg",
                "--otel-bsp-max-export-batch-size",
                "--otel-bsp-schedule-delay",
                "--otel-exporter-otlp-timeout",
            ],
        );
        let problems = with_headers(AT, "hunter2").settings("writer").unwrap_err();
        assert!(problems[0].contains("--otel-exporter-otlp-headers"), "{problems:?}");
        assert!(!format!("{problems:?}").contains("hunter2"), "{problems:?}");
        check("--otel-traces-sampler xray", &["--otel-traces-sampler"]);
        check("--otel-sdk-disabled 1", &["--otel-sdk-disabled"]);
        // Nothing of it is used.
        check("--otel-exporter-otlp-protocol grpc", &[]);
    }

    #[test]
    fn headers_and_attributes_are_decoded() {
        let line = format!(
            "{AT} --otel-resource-attributes deployment.environment.name=st%C3%A4ging,service.name=other"
        );
        let options = with_headers(&line, "authorization=Bearer%20hunter2,x-scope=a=b");
        let settings = options.settings("writer").unwrap().unwrap();
        assert_eq!(settings.headers["authorization"], "Bearer hunter2");
        assert_eq!(settings.headers["x-scope"], "a=b");
        assert!(!format!("{options:?} {settings:?}").contains("hunter2"));
        let attribute = |settings: &TraceSettings, name| {
            settings.resource.get(&Key::from_static_str(name)).map(|it| it.to_string())
        };
        assert_eq!(attribute(&settings, "deployment.environment.name").as_deref(), Some("stäging"));
        assert_eq!(attribute(&settings, "service.name").as_deref(), Some("other"));
        let named = parse(&format!("{line} --otel-service-name mine")).unwrap();
        let named = named.settings("writer").unwrap().unwrap();
        assert_eq!(named.resource.get(&"service.name".into()), Some(Value::from("mine")));
        let plain = parse(AT).unwrap().settings("writer").unwrap().unwrap();
        assert_eq!(plain.resource.get(&"service.name".into()), Some(Value::from("writer")));
    }

    #[test]
    fn samplers_are_those_named() {
        fn check(line: &str, expected: &str) {
            let settings = parse(&format!("{AT} {line}")).unwrap().settings("writer").unwrap();
            assert_eq!(format!("{:?}", settings.unwrap().sampler), expected, "{line}");
        }
        check("", "ParentBased(AlwaysOn)");
        check("--otel-traces-sampler always_off", "AlwaysOff");
        check("--otel-traces-sampler traceidratio", "TraceIdRatioBased(1.0)");
        check(
            "--otel-traces-sampler parentbased_traceidratio --otel-traces-sampler-arg 0.25",
            "ParentBased(TraceIdRatioBased(0.25))",
        );
    }
}

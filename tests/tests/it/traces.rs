//! Traces: from a request through Kafka to the batch that its events are written in, as a receiver
//! of OTLP sees them; and what becomes of requests where there is no receiver, or a bad one.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use common::record::headers::{RECEIVED_AT, SCHEMA, TRACEPARENT};
use common::time::Timestamp;
use futures::future::try_join_all;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use serde_json::Value;
use tests::stack::otlp::{ReceivedSpan, Receiver};
use tests::stack::records::Record;
use tests::stack::{Environment, Service, Stack, eventually};

use crate::gateway::support::{BATCHES, Gateway, answer, envelope};
use crate::writer::support::{PATIENCE, feed};

const ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";

/// How the name of the thread begins that sends spans.
const EXPORTER_THREAD: &str = "OpenTelemetry";

/// What a busy machine may add to an end that comes at once.
const AT_ONCE: Duration = Duration::from_secs(5);

/// How long the last spans may take.
const LAST_SPANS: Duration = Duration::from_secs(5);

/// A trace that somebody else began.
fn traceparent(sampled: bool) -> String {
    let trace_id = uuid::Uuid::new_v4().simple();
    format!("00-{trace_id}-b7ad6b7169203331-0{}", u8::from(sampled))
}

fn trace_id(traceparent: &str) -> &str {
    traceparent.split('-').nth(1).unwrap_or_default()
}

async fn send(gateway: &Gateway, traceparent: &str) -> Result<()> {
    let request = gateway.post(BATCHES, envelope(1).to_string());
    let answer = answer(request.header("traceparent", traceparent)).await?;
    ensure!(answer.status == 200, "{answer:?}");
    Ok(())
}

/// The context that the one record of an environment's events topic carries.
async fn recorded(environment: &Environment) -> Result<String> {
    let records = environment.records().read_all(&environment.topic("replay-events")).await?;
    let [record] = records.as_slice() else { anyhow::bail!("{} records", records.len()) };
    Ok(record.header(TRACEPARENT).context("no context")?.to_owned())
}

fn is_in(trace: &str) -> impl Fn(&ReceivedSpan) -> bool {
    move |it| hex::encode(&it.span.trace_id) == trace
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sampled_request_is_followed_to_its_batch_and_an_unsampled_one_is_not() -> Result<()> {
    const SECRET: &str = "a-token-for-the-receiver";
    let receiver = Receiver::start().await?;
    let settings = [
        (ENDPOINT, receiver.url()),
        ("OTEL_BSP_SCHEDULE_DELAY", "100".to_owned()),
        ("OTEL_EXPORTER_OTLP_HEADERS", format!("authorization=Bearer%20{SECRET}")),
        ("TAPEDECK_LANES", "1".to_owned()),
    ];
    let pairs = || settings.iter().map(|(name, value)| (*name, value.as_str()));
    let environment = Environment::new(Stack::shared().await?).await?;
    let writer = environment.writer().variables(pairs()).start().await?;
    let reporter = environment.reporter().variables(pairs()).start().await?;
    let gateway = Gateway::start_in(environment, &pairs().collect::<Vec<_>>()).await?;
    gateway.service.wait_ready().await?;
    writer.wait_ready().await?;
    ensure!(threads(&gateway.service)?.iter().any(|name| name.starts_with(EXPORTER_THREAD)));

    // Nobody sees this one.
    let unsampled = traceparent(false);
    send(&gateway, &unsampled).await?;
    let written = "tapedeck_writer_events_written_total";
    writer.wait_for_metric(written, &[], PATIENCE, |it| it == 1.0).await?;
    let carried = recorded(&gateway.environment).await?;
    ensure!(trace_id(&carried) == trace_id(&unsampled) && carried.ends_with("-00"), "{carried}");
    ensure!(carried != unsampled, "the record has the request's context, not the gateway's");

    let sampled = traceparent(true);
    send(&gateway, &sampled).await?;
    let trace = trace_id(&sampled);
    let request = receiver.wait_span("POST /v1/batches", is_in(trace)).await?;
    let publication = receiver.wait_span("publish", is_in(trace)).await?;
    ensure!(request.service == "ingest-gateway", "{request:?}");
    ensure!(hex::encode(&request.span.parent_span_id) == "b7ad6b7169203331", "{request:?}");
    ensure!(request.span.kind() == SpanKind::Server, "{request:?}");
    ensure!(request.attribute("http.response.status_code").as_deref() == Some("200"));
    ensure!(request.attribute("http.route").as_deref() == Some("/v1/batches"));
    ensure!(publication.span.parent_span_id == request.span.span_id, "{publication:?}");
    ensure!(publication.span.kind() == SpanKind::Producer, "{publication:?}");

    let batch = receiver.wait_span("write batch", |it| !it.links().is_empty()).await?;
    let context = publication.traceparent();
    ensure!(batch.links() == [&context[3..context.len() - 3]], "{batch:?} {context}");
    ensure!(batch.service == "writer" && batch.span.parent_span_id.is_empty(), "{batch:?}");
    ensure!(batch.span.kind() == SpanKind::Consumer, "{batch:?}");
    ensure!(batch.attribute("tapedeck.outcome").as_deref() == Some("settled"), "{batch:?}");
    ensure!(batch.attribute("tapedeck.events.written").as_deref() == Some("1"), "{batch:?}");

    let rolled_up = receiver.wait_span("roll up", |it| it.service == "reporter").await?;
    ensure!(rolled_up.attribute("tapedeck.outcome").as_deref() == Some("success"), "{rolled_up:?}");

    // All that came before these has come as well.
    let spans = receiver.spans();
    ensure!(!spans.iter().any(is_in(trace_id(&unsampled))), "{spans:#?}");
    let batches = spans.iter().filter(|it| it.span.name == "write batch").count();
    ensure!(batches == 1, "{batches} batches were traced");

    buried_with_its_trace(&gateway.environment, &writer, &receiver).await?;
    for headers in receiver.headers() {
        ensure!(headers["authorization"] == format!("Bearer {SECRET}"));
    }
    let exported = [("outcome", "exported")];
    for service in [&gateway.service, &writer, &reporter] {
        let metric = "tapedeck_trace_spans_total";
        service.wait_for_metric(metric, &exported, PATIENCE, |it| it > 0.0).await?;
        ensure!(!service.log().contains(SECRET));
    }
    Ok(())
}

/// A record that cannot be read keeps its context in the dead letters, and the line that tells of
/// it names the trace of its batch.
async fn buried_with_its_trace(
    environment: &Environment,
    writer: &Service,
    receiver: &Receiver,
) -> Result<()> {
    let context = traceparent(true);
    let headers = [
        (SCHEMA, "1".to_owned()),
        (RECEIVED_AT, Timestamp::now().to_string()),
        (TRACEPARENT, context.clone()),
    ];
    let headers = headers.map(|(name, value)| (name.to_owned(), value.into_bytes())).to_vec();
    feed(environment, &[Record { value: Some(b"{".to_vec()), headers, ..Record::default() }])
        .await?;
    let buried = eventually("the log tells of the dead letter", PATIENCE, async || {
        let log = writer.log();
        let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let mut lines = lines.filter(|line| line["message"] == "record sent to the dead letters");
        lines.next().ok_or(log)
    })
    .await?;
    let trace = buried["span"]["trace_id"].as_str().with_context(|| buried.to_string())?;
    let batch = receiver.wait_span("write batch", is_in(trace)).await?;
    ensure!(batch.links() == [&context[3..context.len() - 3]], "{batch:?} {context}");
    let letters = environment.records().read_all(&environment.topic("replay-dead-letters")).await?;
    let [letter] = letters.as_slice() else { anyhow::bail!("{} dead letters", letters.len()) };
    ensure!(letter.header(TRACEPARENT) == Some(&context), "{letter:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_never_answers_costs_spans_and_nothing_else() -> Result<()> {
    const REQUESTS: usize = 30;
    let receiver = Receiver::silent().await?;
    let url = receiver.url();
    let settings = [
        (ENDPOINT, url.as_str()),
        ("OTEL_BSP_SCHEDULE_DELAY", "50"),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "4"),
        ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "4"),
        // Longer than the test takes.
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "60000"),
        ("OTEL_BSP_EXPORT_TIMEOUT", "60000"),
    ];
    let environment = Environment::new(Stack::shared().await?).await?;
    let writer = environment.writer().variables(settings).start().await?;
    let gateway = Gateway::start_in(environment, &settings).await?;
    gateway.service.wait_ready().await?;
    try_join_all((0..REQUESTS).map(async |_| send(&gateway, &traceparent(true)).await)).await?;
    let all = |events: f64| events == REQUESTS as f64;
    writer.wait_for_metric("tapedeck_writer_events_written_total", &[], PATIENCE, all).await?;
    // Two spans a request, and room for four.
    let metric = "tapedeck_trace_spans_total";
    let too_many = (2 * REQUESTS - 4) as f64;
    let dropped = [("outcome", "dropped")];
    gateway.service.wait_for_metric(metric, &dropped, PATIENCE, |it| it >= too_many).await?;
    let queue = gateway.service.metrics().await?.sum("tapedeck_trace_queue_spans", &[]);
    ensure!(queue == Some(4.0), "{queue:?}");
    for service in [&gateway.service, &writer] {
        let asked = Instant::now();
        let status = service.terminate().await?;
        let took = asked.elapsed();
        println!("{} drained within {took:?}", service.process().name());
        ensure!(status.success() && took < LAST_SPANS + AT_ONCE, "{took:?} {}", service.log());
        ensure!(service.log().contains("the last spans are not exported"), "{}", service.log());
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_is_away_is_told_once_and_counted() -> Result<()> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    let closed = format!("http://{}", listener.local_addr()?);
    drop(listener);
    let settings = [
        (ENDPOINT, closed.as_str()),
        ("OTEL_BSP_SCHEDULE_DELAY", "50"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "500"),
    ];
    let gateway = Gateway::start(&settings).await?;
    let failed = [("outcome", "failed")];
    for round in 1..=3 {
        send(&gateway, &traceparent(true)).await?;
        let spans = f64::from(2 * round);
        let metric = "tapedeck_trace_spans_total";
        gateway.service.wait_for_metric(metric, &failed, PATIENCE, |it| it >= spans).await?;
    }
    let log = gateway.service.log();
    let told: Vec<_> = log.lines().filter(|it| it.contains("spans are not exported")).collect();
    ensure!(told.len() == 1 && told[0].contains("Connection refused"), "{told:?}");
    ensure!(told[0].contains(&closed), "{told:?}");
    Ok(())
}

/// The names of a process' threads, as far as the kernel keeps them.
fn threads(service: &Service) -> Result<Vec<String>> {
    let tasks = std::fs::read_dir(format!("/proc/{}/task", service.pid()))?;
    let name = |task: std::io::Result<std::fs::DirEntry>| {
        Ok(std::fs::read_to_string(task?.path().join("comm"))?.trim().to_owned())
    };
    tasks.map(name).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_variables_nothing_is_exported_and_contexts_travel_as_they_came() -> Result<()>
{
    let receiver = Receiver::start().await?;
    let url = receiver.url();
    let nothing = [(ENDPOINT, ""), ("OTEL_TRACES_SAMPLER", ""), ("OTEL_BSP_MAX_QUEUE_SIZE", "")];
    let disabled = [(ENDPOINT, url.as_str()), ("OTEL_SDK_DISABLED", "true")];
    let none = [(ENDPOINT, url.as_str()), ("OTEL_TRACES_EXPORTER", "none")];
    for settings in [&nothing[..], &disabled, &none] {
        let gateway = Gateway::start(settings).await?;
        let context = traceparent(true);
        send(&gateway, &context).await?;
        ensure!(recorded(&gateway.environment).await? == context);
        let metrics = gateway.service.metrics().await?;
        ensure!(metrics.sum("tapedeck_trace_queue_limit_spans", &[]) == Some(0.0));
        let threads = threads(&gateway.service)?;
        ensure!(!threads.iter().any(|name| name.starts_with(EXPORTER_THREAD)), "{threads:?}");
        ensure!(gateway.service.terminate().await?.success(), "{}", gateway.service.log());
    }
    ensure!(receiver.headers().is_empty(), "something was exported");
    Ok(())
}

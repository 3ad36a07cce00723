//! SIGTERM: what is in flight is finished, nothing new is taken, and the exit is clean.

use anyhow::Result;
use tests::stack::eventually;

use super::support::{DEADLINE, Gateway, envelope, read_answer, write};

#[tokio::test(flavor = "multi_thread")]
async fn a_request_in_flight_is_finished_and_no_other_is_taken() -> Result<()> {
    let gateway = Gateway::start(&[]).await?;
    let body = envelope(5).to_string();
    let (first, rest) = body.split_at(body.len() / 2);
    let mut in_flight = gateway.connect().await?;
    write(&mut in_flight, format!("{}{first}", gateway.head(body.len()))).await?;
    let held = |value: f64| value > 0.0;
    let metric = "tapedeck_gateway_in_flight_bytes";
    gateway.service.wait_for_metric(metric, &[], DEADLINE, held).await?;

    let finish = async {
        eventually("the listener is closed", DEADLINE, async || match gateway.connect().await {
            Ok(_) => Err("it takes connections"),
            Err(_) => Ok(()),
        })
        .await?;
        let readiness = gateway.service.readiness().await?;
        assert_eq!(readiness.unwrap_err().trim(), "draining");
        write(&mut in_flight, rest).await?;
        read_answer(&mut in_flight).await
    };
    let (status, answer) = tokio::try_join!(gateway.service.terminate(), finish)?;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert!(answer.contains("connection: close"), "{answer}");
    assert!(answer.ends_with(r#"{"events":5,"webstates":0}"#), "{answer}");
    assert_eq!(status.code(), Some(0));
    let topic = gateway.environment.topic("replay-events");
    assert_eq!(gateway.environment.records().read_all(&topic).await?.len(), 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_does_not_come_does_not_hold_up_the_end() -> Result<()> {
    let gateway = Gateway::start(&[]).await?;
    let mut stalled = gateway.connect().await?;
    write(&mut stalled, format!("{}{{", gateway.head(100))).await?;
    let metric = "tapedeck_gateway_in_flight_bytes";
    gateway.service.wait_for_metric(metric, &[], DEADLINE, |value| value > 0.0).await?;
    let (status, answer) =
        tokio::try_join!(gateway.service.terminate(), read_answer(&mut stalled))?;
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    assert!(answer.contains("retry-after: 1") && answer.contains("/problems/draining"), "{answer}");
    assert_eq!(status.code(), Some(0));
    Ok(())
}

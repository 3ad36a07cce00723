//! NDJSON: a result a line.

use anyhow::Result;
use serde_json::{Value, json};

use super::support::{Answer, BATCHES, Gateway, answer, envelope, envelope_with};

async fn send(gateway: &Gateway, body: String) -> Result<Answer> {
    answer(gateway.post(BATCHES, body).header("content-type", "application/x-ndjson")).await
}

#[tokio::test(flavor = "multi_thread")]
async fn each_line_that_is_not_blank_gets_a_result() -> Result<()> {
    let gateway = Gateway::start(&[]).await?;
    let good = envelope(2);
    let bad = envelope_with("/events/0/seq", json!("x"));
    let all_good = format!("{good}\n\r\n{}\r\n", envelope(3));
    let answer = send(&gateway, all_good).await?;
    assert_eq!((answer.status, answer.body), (200, json!({"events": 5, "webstates": 0})));

    let broken = r#"{"replay":"#;
    let answer = send(&gateway, format!("{good}\n  \n{bad}\n{broken}\n{good}")).await?;
    assert_eq!(answer.status, 207);
    let results = answer.body["results"].as_array().unwrap();
    let heads: Vec<Value> = results
        .iter()
        .map(|it| json!([it["line"], it["status"], it["retryable"], it["problem"]["status"]]))
        .collect();
    let expected = [
        json!([1, 200, null, null]),
        json!([3, 422, false, 422]),
        json!([4, 400, false, 400]),
        json!([5, 200, null, null]),
    ];
    assert_eq!(heads, expected);
    assert_eq!(results[1]["problem"]["path"], "/events/0/seq");
    assert_eq!(results[1]["problem"]["line"], 3);
    assert_eq!(results[2]["problem"]["offset"], broken.len());

    let records = gateway.environment.records();
    let stored = records.read_all(&gateway.environment.topic("replay-events")).await?;
    assert_eq!(stored.len(), 4);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_lines_are_taken_and_no_more() -> Result<()> {
    let gateway = Gateway::start(&[]).await?;
    let lines = format!("{}\n\n", envelope(1)).repeat(1_000);
    let answer = send(&gateway, lines.clone()).await?;
    assert_eq!((answer.status, answer.body), (200, json!({"events": 1_000, "webstates": 0})));
    let answer = send(&gateway, format!("{lines}{}", envelope(1))).await?;
    assert_eq!(answer.status, 422);
    assert!(answer.body["detail"].as_str().unwrap().contains("the limit is 1000"), "{answer:?}");
    assert_eq!(send(&gateway, "\n\n".to_owned()).await?.body, json!({"events": 0, "webstates": 0}));
    Ok(())
}

//! Kafka that asks who its clients are: the way of a record with permissions for just that, and
//! what the services do where they are refused.

mod permissions;
mod refusals;
mod way;
mod wire;

use std::time::Duration;

use anyhow::Result;
use serde_json::{Value, json};
use tests::stack::{Environment, SecureKafka, Stack};

use crate::gateway::support::{envelope, now_millis};

/// How long a test waits for a condition.
const PATIENCE: Duration = Duration::from_secs(60);

/// Room for a Tapedeck on a secure broker, with topics made by somebody else and the permissions
/// of `deploy/kafka/acls.sh`.
pub(crate) async fn permitted(kafka: &SecureKafka) -> Result<Environment> {
    let stack = Stack::shared().await?;
    let environment = Environment::on(stack.folder(), kafka.kafka(), stack.postgres()).await?;
    let maker = environment.gateway().start().await?;
    let (made, permitted) = tokio::join!(maker.wait_ready(), kafka.give_permissions(&environment));
    made.and(permitted)?;
    maker.kill()?;
    Ok(environment)
}

/// An envelope of one event and one page.
fn with_a_page() -> Value {
    let mut envelope = envelope(1);
    let page = format!("<!DOCTYPE html>\n<p>{}</p>\n", envelope["replay"]["replay_id"]);
    envelope["webstates"] = json!([{"html_content": page, "captured_at": now_millis()}]);
    envelope
}

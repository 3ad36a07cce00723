//! The description of the recorder API, made from the code that serves it.

mod rules;

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde_json::Value;
use utoipa::openapi::security::{ApiKey, ApiKeyValue, Http, HttpAuthScheme, SecurityScheme};
use utoipa::{Modify, OpenApi, ToSchema};

use crate::gateway::Gateway;
use crate::problem::{Kind, Place, Problem};

/// RFC 9457 problem details: why a request, or a line of it, is refused.
#[derive(ToSchema)]
#[schema(as = Problem)]
#[expect(dead_code, reason = "describes what the problem_details crate writes")]
pub struct ProblemDocument {
    /// Which kind of problem, relative to the gateway's address.
    r#type: String,
    /// The same for people, one title a type.
    title: String,
    /// The HTTP status.
    status: u16,
    /// What is wrong with this request.
    detail: String,
    #[schema(inline)]
    #[serde(flatten)]
    place: Place,
}

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Tapedeck recorder API",
        description = "Takes what session recorders capture. 200 means that Kafka has it.",
        license(name = "Apache-2.0", identifier = "Apache-2.0"),
    ),
    paths(crate::batches::batches, crate::missing::missing),
    modifiers(&Keys)
)]
struct Description;

/// How keys are sent.
struct Keys;

impl Modify for Keys {
    fn modify(&self, description: &mut utoipa::openapi::OpenApi) {
        let components = description.components.get_or_insert_default();
        components
            .add_security_scheme("bearer", SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer)));
        let query = ApiKey::Query(ApiKeyValue::new("key"));
        components.add_security_scheme("query", SecurityScheme::ApiKey(query));
    }
}

/// What the code alone says, whatever the settings.
fn derived() -> serde_json::Result<Value> {
    serde_json::to_value(Description::openapi())
}

/// `GET /openapi.json`.
///
/// # Errors
/// When the description is no JSON, which is a mistake of the gateway's own.
pub async fn document(State(gateway): State<Arc<Gateway>>) -> Result<Json<Value>, Problem> {
    let mut description =
        derived().map_err(|error| Problem::new(Kind::Internal, error.to_string()))?;
    rules::add(&mut description, &gateway.rules, gateway.requests);
    Ok(Json(description))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_description_names_every_path_and_its_parts() {
        let document = derived().unwrap();
        assert_eq!(document["openapi"], "3.1.0");
        let responses = &document["paths"][crate::routes::BATCHES]["post"]["responses"];
        for status in
            ["200", "207", "400", "401", "403", "408", "413", "415", "422", "429", "500", "503"]
        {
            assert!(responses[status].is_object(), "{status}");
        }
        assert!(document["paths"][crate::routes::MISSING]["post"].is_object());
        let schemas = &document["components"]["schemas"];
        for (schema, required) in [
            ("Envelope", vec!["replay"]),
            ("Replay", vec!["replay_id", "initial_url", "start_time", "user"]),
            ("User", vec!["user_id"]),
            ("Event", vec!["timestamp", "event_type", "event_data"]),
            ("Webstate", vec!["captured_at"]),
        ] {
            assert_eq!(schemas[schema]["required"], serde_json::json!(required), "{schema}");
        }
        for member in ["type", "title", "status", "detail", "path", "line", "offset"] {
            assert!(schemas["Problem"].to_string().contains(&format!("\"{member}\"")), "{member}");
        }
    }
}

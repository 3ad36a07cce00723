//! The description of the recorder API, made from the code that serves it.

use axum::Json;
use utoipa::openapi::security::{ApiKey, ApiKeyValue, Http, HttpAuthScheme, SecurityScheme};
use utoipa::{Modify, OpenApi, ToSchema};

use crate::problem::Place;

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

/// `GET /openapi.json`.
pub async fn document() -> Json<utoipa::openapi::OpenApi> {
    Json(Description::openapi())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_description_names_every_path_and_its_parts() {
        let document = serde_json::to_value(Description::openapi()).unwrap();
        assert_eq!(document["openapi"], "3.1.0");
        let responses = &document["paths"][crate::routes::BATCHES]["post"]["responses"];
        for status in ["200", "207", "400", "401", "403", "408", "413", "415", "422", "429", "503"]
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

//! Places at which a test breaks a service on purpose.
//!
//! They do nothing, and cost nothing, unless the feature `failpoints` is on, which it never is in
//! what is shipped. With it the admin port takes `PUT /failpoints/NAME`; the body is an action of
//! the [`fail`](https://docs.rs/fail) crate: `return`, `3*off->1*return(kill)`, `off`.
//!
//! At a *step* ([`pass`]) `return(kill)` ends the process there (SIGKILL) and `return(freeze)`
//! stops it (SIGSTOP). A *defect* ([`is_on`]) is a mistake that the durability oracle must find.
//!
//! | name | what |
//! |---|---|
//! | `gateway::after-delivery-report` | step: Kafka has acknowledged, the recorder has no answer yet |
//! | `writer::after-poll` | step: a record is taken from Kafka |
//! | `writer::before-database-commit` | step: everything of a batch is written, nothing committed |
//! | `writer::after-database-commit` | step: committed, and nobody knows |
//! | `writer::before-offset-commit` | step: before Kafka is asked to keep the offsets |
//! | `writer::on-revoke` | step: in the callback that announces that partitions go |
//! | `gateway::acknowledge-early` | defect: 200 before the delivery reports |
//! | `gateway::ids-from-clock` | defect: ids depend on when the event arrives |
//! | `writer::commit-early` | defect: offsets are committed before the transaction |
//! | `writer::drop-on-revoke` | defect: what is gathered when partitions go counts as done |

use axum::Router;

/// A step between two effects: the process may die or freeze here.
#[cfg(not(feature = "failpoints"))]
#[inline]
pub const fn pass(_name: &str) {}

/// Whether the defect of that name is switched on.
#[cfg(not(feature = "failpoints"))]
#[inline]
pub const fn is_on(_name: &str) -> bool {
    false
}

/// The admin port's way to switch failpoints; without the feature there is none.
#[cfg(not(feature = "failpoints"))]
pub(crate) fn router() -> Router {
    Router::new()
}

#[cfg(feature = "failpoints")]
pub use switched::{is_on, pass};

#[cfg(feature = "failpoints")]
pub(crate) fn router() -> Router {
    tracing::warn!("built with failpoints: whoever reaches the admin port can break this process");
    Router::new().route("/failpoints/{name}", axum::routing::put(switched::set))
}

#[cfg(feature = "failpoints")]
mod switched {
    use axum::extract::Path;
    use axum::http::StatusCode;
    use nix::sys::signal::{Signal, raise};

    /// See the module.
    pub fn pass(name: &str) {
        let signal = match action(name).as_deref() {
            Some("kill") => Signal::SIGKILL,
            Some("freeze") => Signal::SIGSTOP,
            _ => return,
        };
        if let Err(error) = raise(signal) {
            tracing::error!(%error, %signal, name, "a failpoint cannot signal its process");
        }
    }

    /// See the module.
    pub fn is_on(name: &str) -> bool {
        action(name).is_some()
    }

    /// What the failpoint returns now, if it does: empty without an argument.
    fn action(name: &str) -> Option<String> {
        fail::fail_point!(name, |argument| Some(argument.unwrap_or_default()));
        None
    }

    pub(super) async fn set(
        Path(name): Path<String>,
        actions: String,
    ) -> Result<StatusCode, (StatusCode, String)> {
        tracing::warn!(name, actions, "failpoint set");
        fail::cfg(name, actions.trim()).map_err(|error| (StatusCode::BAD_REQUEST, error))?;
        Ok(StatusCode::NO_CONTENT)
    }
}

//! JSON text that is known to be valid, byte for byte as it was written.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// JSON text that has been validated once: it is written without being looked at again.
#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(transparent)]
pub struct JsonText<'a>(#[serde(borrow)] &'a RawValue);

impl<'a> JsonText<'a> {
    /// Validates a text.
    ///
    /// # Errors
    /// When it is not one JSON value, with nothing around it but white space.
    pub fn parse(text: &'a str) -> serde_json::Result<Self> {
        serde_json::from_str(text)
    }

    /// The text.
    pub fn as_str(self) -> &'a str {
        self.0.get()
    }
}

impl<'a> From<&'a RawValue> for JsonText<'a> {
    fn from(raw: &'a RawValue) -> Self {
        Self(raw)
    }
}

/// The same bytes: not the same value written otherwise.
impl PartialEq for JsonText<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for JsonText<'_> {}

impl fmt::Debug for JsonText<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_valid_is_written_byte_for_byte_and_nothing_else_is_taken() {
        fn check(text: &str, expected: Option<&str>) {
            let parsed = JsonText::parse(text).ok();
            assert_eq!(parsed.map(JsonText::as_str), expected, "{text}");
            if let Some(parsed) = parsed {
                assert_eq!(serde_json::to_string(&parsed).unwrap(), parsed.as_str());
            }
        }
        for text in ["null", "{ \"a\" : 1.0,\"a\":1e5}", "[\"\\u00e9\"]", "-0"] {
            check(text, Some(text));
        }
        check(" 1 ", Some("1"));
        for text in ["", "1 2", "{", "[1,]", "nul"] {
            check(text, None);
        }
    }
}

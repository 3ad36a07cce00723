//! What a body holds, as its `Content-Type` says.

use http::HeaderMap;
use http::header::CONTENT_TYPE;

use crate::problem::{Kind, Problem};

/// What a body holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// One JSON document. `text/plain` too, and nothing said: a browser's beacon at unload can
    /// send nothing else without a preflight.
    Json,
    /// One JSON document a line.
    JsonLines,
}

impl Format {
    /// The format that a request's headers name.
    ///
    /// # Errors
    /// [`Kind::UnsupportedMediaType`] for others, and for another charset than UTF-8.
    pub fn of(headers: &HeaderMap) -> Result<Self, Problem> {
        let Some(value) = headers.get(CONTENT_TYPE) else {
            return Ok(Self::Json);
        };
        let value = value.to_str().unwrap_or_default().to_ascii_lowercase();
        let mut parts = value.split(';').map(str::trim);
        let format = match parts.next() {
            Some("application/json" | "text/plain" | "") => Self::Json,
            Some("application/x-ndjson") => Self::JsonLines,
            _ => {
                let detail = "Content-Type must be one of application/json, text/plain, \
                              application/x-ndjson, or absent";
                return Err(Problem::new(Kind::UnsupportedMediaType, detail));
            }
        };
        let foreign_charset = parts
            .filter_map(|parameter| parameter.strip_prefix("charset="))
            .map(|charset| charset.trim_matches('"'))
            .any(|charset| !["utf-8", "utf8", "us-ascii"].contains(&charset));
        if foreign_charset {
            let detail = "the charset must be utf-8";
            return Err(Problem::new(Kind::UnsupportedMediaType, detail));
        }
        Ok(format)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_types_are_told_apart() {
        fn check(value: Option<&'static str>, expected: Option<Format>) {
            let headers = value
                .map(|value| (CONTENT_TYPE, http::HeaderValue::from_static(value)))
                .into_iter()
                .collect();
            assert_eq!(Format::of(&headers).ok(), expected, "{value:?}");
        }
        check(None, Some(Format::Json));
        check(Some(""), Some(Format::Json));
        check(Some("application/json"), Some(Format::Json));
        check(Some("Application/JSON; charset=UTF-8"), Some(Format::Json));
        check(Some("text/plain;charset=\"utf-8\""), Some(Format::Json));
        check(Some("text/plain; charset=us-ascii; format=flowed"), Some(Format::Json));
        check(Some("application/x-ndjson"), Some(Format::JsonLines));
        check(Some("text/plain; charset=utf-16"), None);
        check(Some("application/xml"), None);
        check(Some("application/jsonx"), None);
        check(Some("multipart/form-data; boundary=x"), None);
    }
}

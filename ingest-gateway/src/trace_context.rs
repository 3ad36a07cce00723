//! The W3C trace context of a request, which travels on with its records.

use http::HeaderMap;

/// The request's `traceparent`, if it is well formed.
pub fn traceparent(headers: &HeaderMap) -> Option<String> {
    let value = headers.get("traceparent")?.to_str().ok()?;
    well_formed(value).then(|| value.to_owned())
}

/// `version-trace_id-parent_id-flags`, each in lower-case hex; ids are not all zero, version `ff`
/// is forbidden.
fn well_formed(value: &str) -> bool {
    let parts: Vec<&str> = value.split('-').collect();
    let &[version, trace_id, parent_id, flags] = parts.as_slice() else {
        return false;
    };
    let hex = |text: &str, length: usize| {
        text.len() == length && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    };
    let set = |id: &str| id.bytes().any(|byte| byte != b'0');
    hex(version, 2)
        && version != "ff"
        && hex(trace_id, 32)
        && set(trace_id)
        && hex(parent_id, 16)
        && set(parent_id)
        && hex(flags, 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_well_formed_contexts_travel() {
        fn check(value: &str, expected: bool) {
            assert_eq!(well_formed(value), expected, "{value}");
        }
        check("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", true);
        check("00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01", false);
        check("ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", false);
        check("00-00000000000000000000000000000000-b7ad6b7169203331-01", false);
        check("00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01", false);
        check("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331", false);
        check("", false);
    }
}

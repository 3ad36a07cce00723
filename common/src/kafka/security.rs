//! Whether the properties of Kafka's client mean what they seem to: credentials that are used,
//! passwords that never travel in clear text, brokers that have to prove who they are.
//!
//! Kafka's client itself takes all of these mistakes without a word.

use std::collections::BTreeMap;
use std::fmt;

/// Mechanisms by which the client sends the secret itself.
const REVEALING_MECHANISMS: [&str; 2] = ["PLAIN", "OAUTHBEARER"];

/// How a connection to a broker begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Protocol {
    Plaintext,
    Ssl,
    SaslPlaintext,
    SaslSsl,
}

impl Protocol {
    /// What the properties ask for; none where it is not one that the client knows, which it
    /// says itself.
    fn of(properties: &BTreeMap<String, String>) -> Option<Self> {
        let Some(name) = properties.get("security.protocol") else {
            return Some(Self::Plaintext);
        };
        [Self::Plaintext, Self::Ssl, Self::SaslPlaintext, Self::SaslSsl]
            .into_iter()
            .find(|protocol| protocol.to_string().eq_ignore_ascii_case(name))
    }

    const fn encrypts(self) -> bool {
        matches!(self, Self::Ssl | Self::SaslSsl)
    }

    const fn authenticates(self) -> bool {
        matches!(self, Self::SaslPlaintext | Self::SaslSsl)
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Plaintext => "plaintext",
            Self::Ssl => "ssl",
            Self::SaslPlaintext => "sasl_plaintext",
            Self::SaslSsl => "sasl_ssl",
        })
    }
}

/// Every mistake, in words that hold no value but that of `security.protocol`.
pub(super) fn mistakes(properties: &BTreeMap<String, String>) -> Vec<String> {
    let Some(protocol) = Protocol::of(properties) else {
        return Vec::new();
    };
    let mut mistakes = Vec::new();
    let get = |name: &str| properties.get(name).map(String::as_str);
    let beginning_with = |prefix: &str| {
        let names = properties.keys().map(String::as_str);
        names.filter(|name| name.starts_with(prefix)).collect::<Vec<_>>().join(", ")
    };
    let credentials = beginning_with("sasl.");
    if !protocol.authenticates() && !credentials.is_empty() {
        mistakes.push(format!(
            "Kafka's client never uses {credentials}: security.protocol is {protocol}, and must be \
             sasl_ssl"
        ));
    }
    let certificates = beginning_with("ssl.");
    if !protocol.encrypts() && !certificates.is_empty() {
        mistakes.push(format!(
            "Kafka's client never uses {certificates}, and sends everything in clear text: \
             security.protocol is {protocol}, and must be ssl or sasl_ssl"
        ));
    }
    if get("sasl.mechanism").is_some() && get("sasl.mechanisms").is_some() {
        // Which of them the client takes is left to chance.
        mistakes
            .push("sasl.mechanism and sasl.mechanisms are the same: give one of them".to_owned());
    }
    let mechanism = get("sasl.mechanism").or_else(|| get("sasl.mechanisms"));
    match (protocol, mechanism) {
        (_, None) if protocol.authenticates() => mistakes.push(
            "sasl.mechanism is missing: SCRAM-SHA-512, SCRAM-SHA-256, PLAIN or OAUTHBEARER"
                .to_owned(),
        ),
        (Protocol::SaslPlaintext, Some(mechanism))
            if REVEALING_MECHANISMS.iter().any(|it| it.eq_ignore_ascii_case(mechanism)) =>
        {
            mistakes.push(format!(
                "sasl.mechanism {mechanism} would send the secret in clear text: \
                 security.protocol is {protocol}, and must be sasl_ssl"
            ));
        }
        _ => {}
    }
    let is = |name: &str, wanted: &[&str]| {
        get(name).is_none_or(|value| wanted.iter().any(|it| it.eq_ignore_ascii_case(value)))
    };
    if !is("enable.ssl.certificate.verification", &["true", "t", "1"]) {
        mistakes.push(
            "enable.ssl.certificate.verification must be true: else anybody passes for a broker"
                .to_owned(),
        );
    }
    if !is("ssl.endpoint.identification.algorithm", &["https"]) {
        mistakes.push(
            "ssl.endpoint.identification.algorithm must be https: else whoever has any \
             certificate of the authority passes for a broker"
                .to_owned(),
        );
    }
    mistakes
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCRAM: &str = "sasl.mechanism=SCRAM-SHA-512 sasl.username=u sasl.password=hunter2";

    fn check(properties: &str, expected: &[&str]) {
        let properties = properties
            .split_whitespace()
            .map(|line| line.split_once('=').unwrap())
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        let found = mistakes(&properties);
        assert_eq!(found.len(), expected.len(), "{properties:?}: {found:?}");
        for (found, expected) in found.iter().zip(expected) {
            assert!(found.contains(expected), "{found} should name {expected}");
            assert!(!found.contains("hunter2"), "{found}");
        }
    }

    #[test]
    fn what_is_safe_is_taken() {
        check("", &[]);
        check("linger.ms=5", &[]);
        check("security.protocol=plaintext", &[]);
        check(&format!("security.protocol=SASL_SSL {SCRAM} ssl.ca.location=ca.crt"), &[]);
        check(&format!("security.protocol=sasl_plaintext {SCRAM}"), &[]);
        check("security.protocol=ssl ssl.certificate.location=c ssl.key.location=k", &[]);
        check("security.protocol=ssl ssl.endpoint.identification.algorithm=HTTPS", &[]);
        check("security.protocol=ssl enable.ssl.certificate.verification=true", &[]);
        // Kafka's client refuses it in its own words.
        check("security.protocol=tls sasl.password=hunter2", &[]);
    }

    #[test]
    fn credentials_that_would_not_be_used_are_named() {
        check(SCRAM, &["sasl.mechanism, sasl.password, sasl.username"]);
        check(&format!("security.protocol=plaintext {SCRAM}"), &["must be sasl_ssl"]);
        check(&format!("security.protocol=ssl {SCRAM}"), &["must be sasl_ssl"]);
        check("ssl.ca.location=ca.crt", &["in clear text"]);
        let both = format!("{SCRAM} ssl.ca.location=ca.crt");
        check(&both, &["sasl.password", "ssl.ca.location"]);
        check(
            &format!("security.protocol=sasl_plaintext {SCRAM} ssl.ca.location=ca.crt"),
            &["ssl.ca.location"],
        );
    }

    #[test]
    fn secrets_do_not_travel_in_clear_text() {
        let plain = "sasl.mechanisms=PLAIN sasl.username=u sasl.password=hunter2";
        check(&format!("security.protocol=sasl_plaintext {plain}"), &["in clear text"]);
        check(&format!("security.protocol=sasl_ssl {plain}"), &[]);
        check("security.protocol=sasl_ssl sasl.password=hunter2", &["sasl.mechanism is missing"]);
        let both = "sasl.mechanism=SCRAM-SHA-512 sasl.mechanisms=PLAIN";
        check(&format!("security.protocol=sasl_plaintext {both}"), &["give one of them"]);
    }

    #[test]
    fn a_broker_that_need_not_prove_itself_is_refused() {
        let off = "enable.ssl.certificate.verification";
        check(&format!("security.protocol=ssl {off}=false"), &[off]);
        check(&format!("security.protocol=ssl {off}=f"), &[off]);
        let algorithm = "ssl.endpoint.identification.algorithm";
        check(&format!("security.protocol=ssl {algorithm}=none"), &[algorithm]);
        check(&format!("security.protocol=ssl {algorithm}="), &[algorithm]);
    }
}

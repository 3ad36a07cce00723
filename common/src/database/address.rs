//! The database's address, and whether to speak TLS there.
//!
//! Of libpq's modes there are two: `disable` (as without any), and `verify-full`, which makes sure
//! that the server is who it should be. Those between fall back to clear text, or trust whoever
//! answers, and are refused
//! (<https://www.postgresql.org/docs/15/libpq-ssl.html#LIBPQ-SSL-PROTECTION>).

use std::path::PathBuf;

use percent_encoding::percent_decode_str;
use tokio_postgres::Config;
use tokio_postgres::config::SslMode;

/// Where the system's own certificates are meant.
const SYSTEM: &str = "system";

/// An address, read.
#[derive(Clone, Debug)]
pub(super) struct Address {
    /// What the driver is to know.
    pub(super) config: Config,
    /// How to speak TLS; none for clear text.
    pub(super) tls: Option<TlsFiles>,
}

/// What TLS needs, as the address names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TlsFiles {
    /// Who is trusted to say who the server is: a file of certificates, or without one the system.
    pub(super) root: Option<PathBuf>,
    /// The client's certificate and its key.
    pub(super) identity: Option<(PathBuf, PathBuf)>,
}

/// Parameters that the driver does not know.
#[derive(Default)]
struct Parameters {
    mode: Option<String>,
    root: Option<String>,
    certificate: Option<String>,
    key: Option<String>,
}

impl Address {
    /// Reads `postgres://…`, or the driver's list of `name=value`, which knows no TLS.
    ///
    /// # Errors
    /// What is wrong with it; never a part of it, as it may hold a password.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut parameters = Parameters::default();
        // A password may hold a question mark; what comes after it cannot hold an at sign.
        let server = text.rfind('@').map_or(0, |at| at + 1);
        let address = match text[server..].find('?').map(|place| text.split_at(server + place)) {
            Some((address, query)) if is_url(text) => {
                let pairs = query.trim_start_matches('?').split('&');
                let rest: Vec<&str> = pairs.filter(|pair| !parameters.take(pair)).collect();
                let separator = if rest.is_empty() { "" } else { "?" };
                format!("{address}{separator}{}", rest.join("&"))
            }
            _ => text.to_owned(),
        };
        // Only left over where it is no parameter of a URL.
        if address.contains("sslmode") {
            return Err(
                "sslmode belongs into an address like postgres://…?sslmode=verify-full".to_owned()
            );
        }
        let mut config: Config = address
            .parse()
            .map_err(|_| "the database's address is not one of Postgres".to_owned())?;
        // What is between the sockets is not the driver's business.
        config.ssl_mode(SslMode::Disable);
        Ok(Self { config, tls: parameters.tls()? })
    }
}

fn is_url(text: &str) -> bool {
    ["postgres://", "postgresql://"].iter().any(|scheme| text.starts_with(scheme))
}

impl Parameters {
    /// Takes a parameter; says whether it is one of these.
    fn take(&mut self, pair: &str) -> bool {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let taken = match name {
            "sslmode" => &mut self.mode,
            "sslrootcert" => &mut self.root,
            "sslcert" => &mut self.certificate,
            "sslkey" => &mut self.key,
            _ => return false,
        };
        *taken = Some(percent_decode_str(value).decode_utf8_lossy().into_owned());
        true
    }

    fn tls(self) -> Result<Option<TlsFiles>, String> {
        let Self { mode, root, certificate, key } = self;
        match mode.as_deref() {
            None | Some("disable") if root.is_none() && certificate.is_none() && key.is_none() => {
                Ok(None)
            }
            None | Some("disable") => Err("sslrootcert, sslcert and sslkey in the database's \
                                           address need sslmode=verify-full"
                .to_owned()),
            Some("verify-full") => {
                let identity = match (certificate, key) {
                    (Some(certificate), Some(key)) => Some((certificate.into(), key.into())),
                    (None, None) => None,
                    _ => return Err("sslcert and sslkey belong together".to_owned()),
                };
                let root = root.filter(|root| root != SYSTEM).map(PathBuf::from);
                Ok(Some(TlsFiles { root, identity }))
            }
            Some(other) => Err(of_mode(other)),
        }
    }
}

fn of_mode(mode: &str) -> String {
    format!(
        "sslmode={mode} in the database's address: verify-full makes sure of the server, disable \
         is clear text, and what lies between is neither"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tls_is_verified_in_full_or_not_spoken() {
        let parse = |query: &str| Address::parse(&format!("postgres://role:word@host/name{query}"));
        let check = |query: &str, expected: Option<TlsFiles>| {
            assert_eq!(parse(query).unwrap().tls, expected, "{query}");
        };
        let refused = |query: &str, why: &str| {
            let error = parse(query).expect_err(query);
            assert!(error.contains(why) && !error.contains("word"), "{query}: {error}");
        };
        let verified = |root: Option<&str>, identity: Option<[&str; 2]>| {
            let identity = identity.map(|[certificate, key]| (certificate.into(), key.into()));
            Some(TlsFiles { root: root.map(PathBuf::from), identity })
        };
        check("", None);
        check("?sslmode=disable", None);
        check("?connect_timeout=5&sslmode=disable", None);
        check("?sslmode=verify-full", verified(None, None));
        check("?sslmode=verify-full&sslrootcert=system", verified(None, None));
        check("?sslrootcert=%2Fa%20b&sslmode=verify-full", verified(Some("/a b"), None));
        check(
            "?sslmode=verify-full&sslcert=/c&sslkey=/k&connect_timeout=5",
            verified(None, Some(["/c", "/k"])),
        );
        for mode in ["allow", "prefer", "require", "verify-ca", "other"] {
            refused(&format!("?sslmode={mode}"), mode);
        }
        refused("?sslrootcert=/a", "verify-full");
        refused("?sslmode=disable&sslcert=/a", "verify-full");
        refused("?sslmode=verify-full&sslcert=/a", "belong together");
        refused("?unknown=1", "not one of Postgres");
    }

    #[test]
    fn the_drivers_own_form_is_clear_text() {
        let address = Address::parse("host=h dbname=n").unwrap();
        assert_eq!((address.config.get_dbname(), address.tls), (Some("n"), None));
        for mode in ["disable", "prefer", "require", "verify-full"] {
            let error = Address::parse(&format!("host=h sslmode={mode}")).unwrap_err();
            assert!(error.contains("postgres://"), "{mode}: {error}");
        }
    }

    #[test]
    fn a_password_may_hold_a_question_mark() {
        let parse = |query: &str| Address::parse(&format!("postgres://r:a?b&c@host/n{query}"));
        assert_eq!(parse("").unwrap().config.get_password(), Some(&b"a?b&c"[..]));
        let address = parse("?sslmode=verify-full").unwrap();
        assert_eq!(address.config.get_password(), Some(&b"a?b&c"[..]));
        assert!(address.tls.is_some());
        assert!(parse("?sslmode=prefer").is_err());
    }
}

//! Where the parts of a running Tapedeck are: the one thing that its users need to know.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use anyhow::{Context, Result};

/// Addresses and the key of a running Tapedeck; as a file, shell variables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Addresses {
    /// The recorder API, `http://host:port`.
    pub gateway_url: String,
    /// The gateway's admin port, `http://host:port`.
    pub gateway_admin_url: String,
    /// The writer's admin port, `http://host:port`.
    pub writer_admin_url: String,
    /// The reporter's admin port, `http://host:port`.
    pub reporter_admin_url: String,
    /// The database, for people's questions, with role and password.
    pub database_url: String,
    /// The database, for who may do everything.
    pub database_admin_url: String,
    /// Kafka, `host:port`.
    pub kafka_brokers: String,
    /// The key that recorders send.
    pub key: String,
    /// Prometheus, `http://host:port`, if there is one.
    pub prometheus_url: Option<String>,
}

impl Addresses {
    fn variables(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let always = [
            ("GATEWAY_URL", &*self.gateway_url),
            ("GATEWAY_ADMIN_URL", &*self.gateway_admin_url),
            ("WRITER_ADMIN_URL", &*self.writer_admin_url),
            ("REPORTER_ADMIN_URL", &*self.reporter_admin_url),
            ("DATABASE_URL", &*self.database_url),
            ("DATABASE_ADMIN_URL", &*self.database_admin_url),
            ("KAFKA_BROKERS", &*self.kafka_brokers),
            ("TAPEDECK_KEY", &*self.key),
        ];
        let prometheus = self.prometheus_url.as_deref().map(|url| ("PROMETHEUS_URL", url));
        always.into_iter().chain(prometheus)
    }

    /// As shell variables, one a line. No value of ours holds a quote.
    pub fn to_shell(&self) -> String {
        self.variables().map(|(name, value)| format!("{name}='{value}'\n")).collect()
    }

    /// Reads what [`Self::to_shell`] wrote.
    ///
    /// # Errors
    /// Names the variable that is missing.
    pub fn from_shell(text: &str) -> Result<Self> {
        let variables: BTreeMap<&str, &str> = text
            .lines()
            .filter_map(|line| line.split_once('='))
            .map(|(name, value)| (name, value.trim_matches('\'')))
            .collect();
        let get = |name: &str| {
            let value = variables.get(name).with_context(|| format!("{name} is missing"))?;
            anyhow::Ok((*value).to_owned())
        };
        Ok(Self {
            gateway_url: get("GATEWAY_URL")?,
            gateway_admin_url: get("GATEWAY_ADMIN_URL")?,
            writer_admin_url: get("WRITER_ADMIN_URL")?,
            reporter_admin_url: get("REPORTER_ADMIN_URL")?,
            database_url: get("DATABASE_URL")?,
            database_admin_url: get("DATABASE_ADMIN_URL")?,
            kafka_brokers: get("KAFKA_BROKERS")?,
            key: get("TAPEDECK_KEY")?,
            prometheus_url: get("PROMETHEUS_URL").ok(),
        })
    }

    /// Writes the file, whole or not at all, readable by its owner only: it holds a password.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, file: &Path) -> Result<()> {
        let unfinished = file.with_extension("unfinished");
        OpenOptions::new()
            .create(true)
            .write(true)
            .truncate(true)
            .mode(0o600)
            .open(&unfinished)
            .and_then(|mut output| output.write_all(self.to_shell().as_bytes()))
            .and_then(|()| fs::rename(&unfinished, file))
            .with_context(|| format!("cannot write {}", file.display()))
    }

    /// Reads the file.
    ///
    /// # Errors
    /// When it cannot be read or a variable is missing.
    pub fn read(file: &Path) -> Result<Self> {
        let text =
            fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
        Self::from_shell(&text).with_context(|| format!("{} is not complete", file.display()))
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    fn addresses() -> Addresses {
        Addresses {
            gateway_url: "http://127.0.0.1:1".into(),
            gateway_admin_url: "http://127.0.0.1:2".into(),
            writer_admin_url: "http://127.0.0.1:3".into(),
            reporter_admin_url: "http://127.0.0.1:4".into(),
            database_url: "postgres://name:word@127.0.0.1:5/base?a=b&c=$d".into(),
            database_admin_url: "postgres://other:word@127.0.0.1:5/base".into(),
            kafka_brokers: "127.0.0.1:6".into(),
            key: "key=with+signs/".into(),
            prometheus_url: Some("http://127.0.0.1:7".into()),
        }
    }

    #[test]
    fn the_file_is_read_back_and_is_private() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("env");
        addresses().write(&file).unwrap();
        assert_eq!(Addresses::read(&file).unwrap(), addresses());
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_shell_reads_the_same_values() {
        let script =
            format!("{}printf '%s %s' \"$DATABASE_URL\" \"$TAPEDECK_KEY\"", addresses().to_shell());
        let output = Command::new("sh").args(["-c", &script]).output().unwrap();
        let expected = format!("{} {}", addresses().database_url, addresses().key);
        assert_eq!(String::from_utf8(output.stdout).unwrap(), expected);
    }

    #[test]
    fn what_is_missing_is_named() {
        let text = addresses().to_shell().replace("KAFKA_BROKERS", "OTHER");
        let error = Addresses::from_shell(&text).unwrap_err();
        assert!(error.to_string().contains("KAFKA_BROKERS"));
    }
}

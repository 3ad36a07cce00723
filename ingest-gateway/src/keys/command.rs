//! `ingest-gateway keys`: makes, lists and disables keys.

use std::path::PathBuf;

use clap::builder::NonEmptyStringValueParser;
use clap::{Args, Subcommand};
use comfy_table::Table;
use common::options::Secret;
use common::time::Timestamp;

use super::KeyHash;
use super::file::{KeysFile, KeysFileError, change};

/// What every key begins with, so that one that has leaked is recognised.
const KEY_PREFIX: &str = "tdk_";

/// Random bytes of a key.
const KEY_BYTES: usize = 32;

/// Makes, lists and disables keys.
#[derive(Clone, Debug, Args)]
pub struct KeysOptions {
    /// The file with the hashes of the keys. A running gateway takes changes over by itself.
    #[arg(long, env = "TAPEDECK_KEYS_FILE", default_value = "keys.json", global = true)]
    pub keys_file: PathBuf,

    /// What to do.
    #[command(subcommand)]
    pub command: KeysCommand,
}

/// What to do with the keys.
#[derive(Clone, Debug, Subcommand)]
pub enum KeysCommand {
    /// Make a key and print it. It is shown this once: the file keeps its hash only.
    Add {
        /// What to call it.
        #[arg(value_parser = NonEmptyStringValueParser::new())]
        name: String,
    },
    /// Show the keys' names, the beginnings of their hashes and their times.
    List,
    /// Disable a key: requests with it get 403.
    Disable {
        /// What it is called.
        name: String,
    },
}

/// Does what the command says; gives what to print.
///
/// # Errors
/// See [`KeysFileError`].
pub fn execute(options: &KeysOptions) -> Result<String, KeysFileError> {
    let path = &options.keys_file;
    match &options.command {
        KeysCommand::Add { name } => {
            let key = generate();
            let hash = KeyHash::of(key.expose());
            change(path, |file| file.add(name, hash, Timestamp::now()))?;
            Ok(key.expose().to_owned())
        }
        KeysCommand::List => Ok(table(&KeysFile::read(path)?)),
        KeysCommand::Disable { name } => {
            change(path, |file| file.disable(name, Timestamp::now()))?;
            Ok(format!("{name} is disabled"))
        }
    }
}

/// A new key: random, and made of letters and digits that need no escapes in a URL.
fn generate() -> Secret {
    let random: [u8; KEY_BYTES] = rand::random();
    Secret::from(format!("{KEY_PREFIX}{}", hex::encode(random)))
}

fn table(file: &KeysFile) -> String {
    let mut table = Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    table.set_header(["NAME", "HASH", "CREATED", "DISABLED"]);
    for key in &file.keys {
        table.add_row([
            key.name.clone(),
            key.sha256.short(),
            key.created_at.to_string(),
            key.disabled_at.map_or_else(|| "-".to_owned(), |time| time.to_string()),
        ]);
    }
    table.trim_fmt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_made_listed_and_disabled() {
        let directory = tempfile::tempdir().unwrap();
        let keys_file = directory.path().join("keys.json");
        let run = |command| execute(&KeysOptions { keys_file: keys_file.clone(), command });
        let key = run(KeysCommand::Add { name: "shop".into() }).unwrap();
        assert!(key.starts_with(KEY_PREFIX) && key.len() == KEY_PREFIX.len() + 2 * KEY_BYTES);
        assert_ne!(key, run(KeysCommand::Add { name: "blog".into() }).unwrap());
        run(KeysCommand::Disable { name: "blog".into() }).unwrap();
        let list = run(KeysCommand::List).unwrap();
        let rows: Vec<Vec<&str>> =
            list.lines().map(|row| row.split_whitespace().collect()).collect();
        assert_eq!(rows.len(), 3);
        assert_eq!(
            (rows[1][0], rows[1][1], rows[1][3]),
            ("shop", &*KeyHash::of(&key).short(), "-")
        );
        assert_ne!(rows[2][3], "-");
        assert!(!std::fs::read_to_string(&keys_file).unwrap().contains(&key));
    }
}

//! Who connects to a database: the roles that users make with `deploy/postgres/roles.sql`.

use anyhow::{Context, Result};
use tokio_postgres::Client;

use super::paths;

/// A role. All of a server's have the same password.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// May do everything: for tests, and for who sets a database up.
    Superuser,
    /// Owns the tables.
    Migrate,
    /// The writers'.
    Writer,
    /// The reporters'.
    Reporter,
    /// For people's questions.
    Reader,
}

impl Role {
    /// Those of `roles.sql`.
    pub const OF_SERVICES: [Self; 4] = [Self::Migrate, Self::Writer, Self::Reporter, Self::Reader];

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Superuser => "tapedeck",
            Self::Migrate => "tapedeck_migrate",
            Self::Writer => "tapedeck_writer",
            Self::Reporter => "tapedeck_reporter",
            Self::Reader => "tapedeck_reader",
        }
    }

    /// The same address of a database, `postgres://ROLE:…`, for this role.
    ///
    /// # Errors
    /// When it is not such an address.
    pub fn url(self, url: &str) -> Result<String> {
        let (scheme, rest) = url.split_once("://").context("the address has no scheme")?;
        let (_, rest) = rest.split_once(':').context("the address has no password")?;
        Ok(format!("{scheme}://{}:{rest}", self.name()))
    }
}

/// Makes the roles of a new server and lets them in with the password.
pub(super) async fn create(superuser: &Client, password: &str) -> Result<()> {
    admit(superuser).await?;
    for role in Role::OF_SERVICES {
        let login = format!("ALTER ROLE {} LOGIN PASSWORD '{password}'", role.name());
        superuser.batch_execute(&login).await?;
    }
    Ok(())
}

/// Runs `roles.sql` in a database.
///
/// # Errors
/// When Postgres refuses.
pub async fn admit(superuser: &Client) -> Result<()> {
    let file = paths::repository().join("deploy/postgres/roles.sql");
    let statements = std::fs::read_to_string(&file)
        .with_context(|| format!("cannot read {}", file.display()))?;
    Ok(superuser.batch_execute(&statements).await?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_made_out_to_another_role() {
        let check = |url: &str, expected: Option<&str>| {
            assert_eq!(Role::Reader.url(url).ok().as_deref(), expected, "{url}");
        };
        let expected = "postgres://tapedeck_reader:word@127.0.0.1:5/base?a=b:c";
        check("postgres://tapedeck:word@127.0.0.1:5/base?a=b:c", Some(expected));
        check("host=127.0.0.1", None);
    }
}

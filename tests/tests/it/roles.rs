//! Each role may do its work and nothing else. That it may do its work all tests show, as their
//! services have these roles; here stands what else each may.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use tests::stack::{Environment, Program, Role, Stack, postgres, roles};
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

/// Everything that a role may be granted on a table.
const RIGHTS: [&str; 7] =
    ["SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE", "REFERENCES", "TRIGGER"];

/// All rights that are granted in a database, to see whether any has changed.
const GRANTED: &str = "
    SELECT concat_ws(' ', relname, relacl) FROM pg_class
        WHERE relnamespace = 'public'::regnamespace
    UNION ALL SELECT concat_ws(' ', attname, attacl) FROM pg_attribute WHERE attacl IS NOT NULL
    UNION ALL SELECT concat_ws(' ', proname, proacl) FROM pg_proc
        WHERE pronamespace = 'public'::regnamespace
    UNION ALL SELECT concat_ws(' ', nspname, nspacl) FROM pg_namespace WHERE nspname = 'public'
    UNION ALL SELECT concat_ws(' ', datacl) FROM pg_database WHERE datname = current_database()
    UNION ALL SELECT concat_ws(' ', defaclacl) FROM pg_default_acl
    ORDER BY 1";

async fn connect(environment: &Environment, role: Role) -> Result<Client> {
    postgres::connect(&environment.database_url_for(role)?).await
}

async fn granted(sql: &Client) -> Result<Vec<String>> {
    Ok(sql.query(GRANTED, &[]).await?.iter().map(|row| row.get(0)).collect())
}

#[tokio::test]
async fn a_role_has_the_rights_that_its_work_needs_and_no_others() -> Result<()> {
    let environment = Environment::new(Stack::shared().await?).await?;
    let sql = environment.sql().await?;
    let tables = "SELECT relname::text FROM pg_class WHERE relnamespace = 'public'::regnamespace \
                  AND relkind IN ('r', 'p')";
    let tables: Vec<String> = sql.query(tables, &[]).await?.iter().map(|row| row.get(0)).collect();
    let check = async |role: Role, expected: &[(&str, &[&str])]| -> Result<()> {
        let expected: BTreeMap<&str, &[&str]> = expected.iter().copied().collect();
        for table in &tables {
            let wanted = expected.get(table.as_str()).copied().unwrap_or_default();
            for right in RIGHTS {
                let question = "SELECT has_table_privilege($1, $2::text::regclass, $3)";
                let row = sql.query_one(question, &[&role.name(), table, &right]).await?;
                ensure!(
                    row.get::<_, bool>(0) == wanted.contains(&right),
                    "{right} on {table} for {role:?}, who should have {wanted:?}"
                );
            }
        }
        ensure!(expected.keys().all(|table| tables.iter().any(|it| it == table)), "{tables:?}");
        Ok(())
    };
    let merged: &[&str] = &["SELECT", "INSERT", "UPDATE"];
    let read: &[&str] = &["SELECT"];
    check(
        Role::Writer,
        &[
            ("users", merged),
            ("replays", merged),
            ("webstates", merged),
            ("events", &["SELECT", "INSERT"]),
            ("__diesel_schema_migrations", read),
        ],
    )
    .await?;
    check(Role::Reporter, &[("monthly_reports", merged)]).await?;
    let all = ["users", "replays", "webstates", "events", "events_default", "monthly_reports"];
    check(Role::Reader, &all.map(|table| (table, read))).await
}

#[tokio::test]
async fn what_a_role_may_not_do_is_refused() -> Result<()> {
    let environment = Environment::new(Stack::shared().await?).await?;
    let check = async |role: Role, statements: &[&str]| -> Result<()> {
        let client = connect(&environment, role).await?;
        client.batch_execute("SET default_transaction_read_only = off").await?;
        for statement in statements {
            let refusal = client.batch_execute(statement).await.err();
            let refusal = refusal.with_context(|| format!("{role:?} may {statement}"))?;
            let code = refusal.code();
            ensure!(code == Some(&SqlState::INSUFFICIENT_PRIVILEGE), "{statement}: {refusal:?}");
        }
        Ok(())
    };
    let of_owner = [
        "CREATE TABLE mine ()",
        "CREATE TEMPORARY TABLE mine ()",
        "DROP TABLE events",
        "ALTER TABLE users ADD COLUMN mine TEXT",
        "TRUNCATE users",
        "DELETE FROM events",
        "DELETE FROM replays",
        "UPDATE events SET event_type = 'other'",
    ];
    for role in [Role::Writer, Role::Reporter, Role::Reader] {
        check(role, &of_owner).await?;
    }
    check(Role::Writer, &["SELECT FROM monthly_reports", "DELETE FROM monthly_reports"]).await?;
    check(
        Role::Reporter,
        &[
            "SELECT email FROM users",
            "SELECT initial_url FROM replays",
            "SELECT FROM events",
            "SELECT html_content FROM webstates",
            "SELECT ensure_events_partition('2031-01-01')",
        ],
    )
    .await?;
    check(
        Role::Reader,
        &[
            "INSERT INTO users (user_id, created_at) VALUES (gen_random_uuid(), now())",
            "UPDATE monthly_reports SET new_users_count = 0",
            "SELECT ensure_events_partition('2031-01-01')",
        ],
    )
    .await
}

#[tokio::test]
async fn who_has_none_of_the_roles_does_not_get_in() -> Result<()> {
    let environment = Environment::new(Stack::shared().await?).await?;
    let sql = environment.sql().await?;
    let stranger = format!("stranger_{}", uuid::Uuid::new_v4().simple());
    sql.batch_execute(&format!("CREATE ROLE {stranger} LOGIN PASSWORD 'word'")).await?;
    let (_, server) = environment.database_url().split_once('@').context("no role is named")?;
    let url = format!("postgres://{stranger}:word@{server}");
    let refusal = postgres::connect(&url).await.err().context("a stranger got in")?;
    ensure!(format!("{refusal:?}").contains("permission denied for database"), "{refusal:?}");
    // A member of a role has its rights, under a name and with a password of its own.
    sql.batch_execute(&format!("GRANT tapedeck_reader TO {stranger}")).await?;
    postgres::connect(&url).await?.query("SELECT FROM events", &[]).await?;
    Ok(())
}

#[tokio::test]
async fn a_writer_makes_a_months_partition_with_the_owners_rights_and_readers_may_read_it()
-> Result<()> {
    let environment = Environment::new(Stack::shared().await?).await?;
    let writer = connect(&environment, Role::Writer).await?;
    let made = writer.query_one("SELECT ensure_events_partition('2031-01-01')", &[]).await?;
    ensure!(made.get::<_, bool>(0));
    let reader = connect(&environment, Role::Reader).await?;
    reader.query("SELECT FROM events_2031_01", &[]).await?;
    let owner = "SELECT tableowner::text FROM pg_tables WHERE tablename = 'events_2031_01'";
    let owner: String = reader.query_one(owner, &[]).await?.get(0);
    ensure!(owner == Role::Migrate.name(), "{owner}");
    Ok(())
}

#[tokio::test]
async fn running_it_all_again_changes_no_right() -> Result<()> {
    let environment = Environment::new(Stack::shared().await?).await?;
    let sql = environment.sql().await?;
    let before = granted(&sql).await?;
    roles::admit(&sql).await?;
    environment.migrate()?.run().await?.success()?;
    let after = granted(&sql).await?;
    ensure!(before == after, "{before:#?} became {after:#?}");
    ensure!(before.iter().any(|it| it.contains("tapedeck_reader=r")), "{before:#?}");
    Ok(())
}

#[tokio::test]
async fn a_database_of_before_the_roles_is_handed_over() -> Result<()> {
    let stack = Stack::shared().await?;
    let environment = Environment::new(stack).await?;
    let number = uuid::Uuid::new_v4().simple();
    let (name, owner) = (format!("older_{number}"), format!("owner_{number}"));
    let server = stack.postgres().sql().await?;
    server.batch_execute(&format!("CREATE ROLE {owner} LOGIN PASSWORD 'word'")).await?;
    server.batch_execute(&format!("CREATE DATABASE {name} OWNER {owner}")).await?;
    let admin = stack.postgres().url(&name);
    let (_, address) = admin.split_once('@').context("no role is named")?;
    let migrate = async |url: String| -> Result<String> {
        let command = environment.command(Program::Writer).arguments(["migrate"]);
        command.variable("TAPEDECK_DATABASE_URL", url).run().await?.success()
    };
    migrate(format!("postgres://{owner}:word@{address}")).await?;

    // As docs/database-access.md has it.
    let sql = postgres::connect(&admin).await?;
    roles::admit(&sql).await?;
    sql.batch_execute(&format!("REASSIGN OWNED BY {owner} TO tapedeck_migrate")).await?;
    migrate(Role::Migrate.url(&admin)?).await?;

    let writer = postgres::connect(&Role::Writer.url(&admin)?).await?;
    let made = writer.query_one("SELECT ensure_events_partition('2031-01-01')", &[]).await?;
    ensure!(made.get::<_, bool>(0));
    let reader = postgres::connect(&Role::Reader.url(&admin)?).await?;
    reader.query("SELECT FROM events_2031_01", &[]).await?;
    Ok(())
}

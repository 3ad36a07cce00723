//! A Postgres server of this machine.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::signal::{self, Signal};
use nix::unistd::{Pid, Uid, User};
use tokio_postgres::{Client, NoTls};

use super::certificates::{Authority, Identity};
use super::launch::Launch;
use super::ports;
use super::process::{self, Process};
use super::roles::{self, Role};
use super::tuning::Tuning;
use super::wait::eventually;

/// The oldest version that the tables work with.
const OLDEST_VERSION: u32 = 15;

/// Where Debian and Ubuntu put the versions' folders.
const INSTALLED_VERSIONS: &str = "/usr/lib/postgresql";

/// Postgres refuses to run as root; this user is made by its package.
const UNPRIVILEGED_USER: &str = "postgres";

/// How long making the data folder may take.
const INITIALISE_WITHIN: Duration = Duration::from_secs(120);
/// How long the server may take until it answers; recovery after a kill included.
const START_WITHIN: Duration = Duration::from_secs(90);
/// How long the server may take to end.
const STOP_WITHIN: Duration = Duration::from_secs(60);
/// How long one connection attempt may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Settings that differ from Postgres' own. `fsync` stays on: durability is what the stack shows.
const SETTINGS: [&str; 3] = [
    "listen_addresses=127.0.0.1",
    // In the data folder, so that nothing stays in /dev/shm after a kill.
    "dynamic_shared_memory_type=mmap",
    "log_line_prefix=%m [%p] %d %a ",
];

/// A server and its data.
#[derive(Debug)]
pub struct Postgres {
    process: Process,
    files: Files,
    port: u16,
    password: String,
}

/// Where a server's files are, and who runs it.
#[derive(Debug)]
struct Files {
    programs: PathBuf,
    folder: PathBuf,
    user: Option<User>,
    tuning: Tuning,
}

impl Postgres {
    /// Starts a new server with its data in a folder below `parent`, on the given port or else a
    /// free one, and waits until it answers.
    ///
    /// # Errors
    /// When no Postgres of at least version 15 is installed, or it does not come up.
    pub async fn start(parent: &Path, port: Option<u16>, tuning: Tuning) -> Result<Self> {
        let programs = installed_programs()?;
        let user = unprivileged_user()?;
        let password = uuid::Uuid::new_v4().simple().to_string();
        ports::start_on(port, async |port| {
            let folder = parent.join(format!("postgres-{port}"));
            let (programs, user) = (programs.clone(), user.clone());
            let files = Files { programs, folder, user, tuning };
            files.initialise(&password).await.context("its data folder cannot be made")?;
            let process = files.start(port, &password).await?;
            let server = Self { process, files, port, password: password.clone() };
            roles::create(&server.sql().await?, &password).await.context("its roles")?;
            Ok(server)
        })
        .await
        .context("Postgres does not start")
    }

    /// The address of a database of this server, with the superuser's name and password.
    pub fn url(&self, database: &str) -> String {
        self.url_by(&self.address(), database)
    }

    /// Makes an empty database, open to the roles, and gives its address for the superuser.
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn create_database(&self, name: &str) -> Result<String> {
        let client = connect(&self.url("postgres")).await?;
        client
            .batch_execute(&format!("CREATE DATABASE \"{name}\""))
            .await
            .with_context(|| format!("cannot create the database {name}"))?;
        let url = self.url(name);
        roles::admit(&connect(&url).await?).await.context("the rights of the roles")?;
        Ok(url)
    }

    /// A connection of the superuser to the server itself.
    ///
    /// # Errors
    /// When the server cannot be reached.
    pub async fn sql(&self) -> Result<Client> {
        connect(&self.url("postgres")).await
    }

    /// Has the server speak TLS from now on, as who the certificate says.
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn speak_tls(&self, identity: &Identity) -> Result<()> {
        let sql = self.sql().await?;
        self.write_data(&sql, "server.crt", &identity.certificate).await?;
        self.write_data(&sql, "server.key", &identity.key).await?;
        sql.batch_execute("ALTER SYSTEM SET ssl = on").await?;
        self.reload(&sql).await
    }

    /// Has the server let a role in only with a certificate by the authority that says that it is
    /// this role, and over TLS.
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn demand_certificate(&self, role: Role, authority: &Authority) -> Result<()> {
        let sql = self.sql().await?;
        self.write_data(&sql, "clients.crt", authority.certificate()).await?;
        sql.batch_execute("ALTER SYSTEM SET ssl_ca_file = 'clients.crt'").await?;
        let file: String = sql.query_one("SHOW hba_file", &[]).await?.get(0);
        let rules = fs::read_to_string(&file).with_context(|| format!("cannot read {file}"))?;
        // The first rule that fits counts.
        let role = role.name();
        let demand = format!("hostssl all {role} all cert\nhost all {role} all reject\n{rules}");
        self.write_data(&sql, "pg_hba.conf", &demand).await?;
        self.reload(&sql).await
    }

    /// Writes a file of the server's data folder, which nobody else may read.
    async fn write_data(&self, sql: &Client, name: &str, text: &str) -> Result<()> {
        let folder: String = sql.query_one("SHOW data_directory", &[]).await?.get(0);
        let file = Path::new(&folder).join(name);
        fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))?;
        // The server takes no key that others can read, nor one that is another's.
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600))?;
        if let Some(user) = &self.files.user {
            chown(&file, Some(user.uid.as_raw()), Some(user.gid.as_raw()))?;
        }
        Ok(())
    }

    /// Has the server read its configuration again, and waits until it has.
    async fn reload(&self, sql: &Client) -> Result<()> {
        let loaded = "SELECT extract(epoch FROM pg_conf_load_time())::float8";
        let before: f64 = sql.query_one(loaded, &[]).await?.get(0);
        sql.batch_execute("SELECT pg_reload_conf()").await?;
        // A session tells when its server had read its configuration.
        eventually("the server has read its configuration", START_WITHIN, async || {
            let since = async {
                let loaded = self.sql().await?.query_one(loaded, &[]).await?;
                anyhow::Ok(loaded.get::<_, f64>(0))
            };
            match since.await {
                Ok(since) if since > before => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await
    }

    /// The server's address, `host:port`.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The address of a database of this server through something at `address` before it.
    pub fn url_by(&self, address: &str, database: &str) -> String {
        url(address, &self.password, database)
    }

    /// Makes and starts a standby of this server below `parent`; its table spaces lie in other
    /// folders (`theirs`, `ours`).
    ///
    /// # Errors
    /// When a step fails.
    pub(super) async fn standby(
        &self,
        parent: &Path,
        spaces: &[(PathBuf, PathBuf)],
    ) -> Result<Self> {
        ports::start_on(None, async |port| {
            let folder = parent.join(format!("postgres-{port}"));
            let (programs, user) = (self.files.programs.clone(), self.files.user.clone());
            let files = Files { programs, folder, user, tuning: self.files.tuning };
            files.make_folder()?;
            files.copy_of(self, spaces).await.context("the base backup")?;
            let process = files.start(port, &self.password).await?;
            Ok(Self { process, files, port, password: self.password.clone() })
        })
        .await
    }

    /// Waits for the standby and from then on answers no commit that it does not have.
    ///
    /// # Errors
    /// When the standby does not follow in time.
    pub(super) async fn wait_for_standby(&self) -> Result<()> {
        let sql = self.sql().await?;
        sql.batch_execute("ALTER SYSTEM SET synchronous_standby_names = '*'").await?;
        sql.batch_execute("SELECT pg_reload_conf()").await?;
        let state = "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'";
        eventually("the standby is in sync", START_WITHIN, async || {
            let row = sql.query_one(state, &[]).await.map_err(|error| error.to_string())?;
            if row.get::<_, i64>(0) == 1 { Ok(()) } else { Err("not yet".to_owned()) }
        })
        .await
    }

    /// Makes a standby a server that takes writes, and waits for nobody with them.
    ///
    /// # Errors
    /// When it does not in time.
    pub(super) async fn promote(&self) -> Result<()> {
        let sql = self.sql().await?;
        let promoted = sql.query_one("SELECT pg_promote(true, 60)", &[]).await?;
        anyhow::ensure!(promoted.get::<_, bool>(0), "the standby was not promoted");
        sql.batch_execute("ALTER SYSTEM RESET synchronous_standby_names").await?;
        sql.batch_execute("SELECT pg_reload_conf()").await?;
        Ok(())
    }

    /// The server's first process, to read its log.
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// Stops the server in good order; its clients lose their connections (fast shutdown).
    ///
    /// # Errors
    /// When it does not end in time.
    pub async fn stop(&self) -> Result<()> {
        self.process.stop(Signal::SIGINT, STOP_WITHIN).await.map(drop)
    }

    /// Ends the server at once, as `pg_ctl stop -m immediate` does: no checkpoint, so it recovers
    /// at the next start.
    ///
    /// # Errors
    /// When it does not end in time.
    pub async fn stop_immediately(&self) -> Result<()> {
        self.process.stop(Signal::SIGQUIT, STOP_WITHIN).await.map(drop)
    }

    /// Ends the server and all its sessions at once (SIGKILL), as a crash of its machine would.
    ///
    /// # Errors
    /// When the system refuses, or a process stays.
    pub async fn kill(&self) -> Result<()> {
        // Frozen first: so none of them sees another die, and no session begins meanwhile.
        let sessions = match self.process.exit_status()? {
            Some(_) => Vec::new(),
            None => self.freeze()?,
        };
        self.process.kill()?;
        for session in &sessions {
            send(*session, Signal::SIGKILL)?;
        }
        eventually("no process of Postgres is left", STOP_WITHIN, async || {
            match sessions.iter().filter(|session| process::is_running(**session)).count() {
                0 => Ok(()),
                left => Err(left),
            }
        })
        .await
    }

    /// Stops the server and its sessions where they are (SIGSTOP); gives the sessions' processes.
    ///
    /// # Errors
    /// When the server has ended.
    pub fn freeze(&self) -> Result<Vec<Pid>> {
        self.process.freeze()?;
        let sessions = process::children_of(self.process.pid());
        for session in &sessions {
            send(*session, Signal::SIGSTOP)?;
        }
        Ok(sessions)
    }

    /// Lets a frozen server go on.
    ///
    /// # Errors
    /// When the server has ended.
    pub fn thaw(&self) -> Result<()> {
        for session in process::children_of(self.process.pid()) {
            send(session, Signal::SIGCONT)?;
        }
        self.process.thaw()
    }

    /// Starts the server again after [`Self::stop`] or [`Self::kill`], on the same port and data,
    /// and waits until it answers.
    ///
    /// # Errors
    /// When it does not come up.
    pub async fn restart(&mut self) -> Result<()> {
        self.kill().await?;
        self.process = self.files.start(self.port, &self.password).await?;
        Ok(())
    }
}

impl Files {
    async fn initialise(&self, password: &str) -> Result<()> {
        self.make_folder()?;
        let password_file = self.folder.join("password");
        fs::write(&password_file, password)?;
        fs::set_permissions(&password_file, fs::Permissions::from_mode(0o600))?;
        self.give_to_user(&password_file)?;
        let initialising = self
            .launch("initdb")
            // Nothing is in it yet that a power cut could take.
            .arguments(["--no-sync", "--no-locale", "--encoding=UTF8"])
            .arguments(["--auth=scram-sha-256", "--username", Role::Superuser.name()])
            .arguments(["--pwfile".into(), password_file])
            .arguments(["--pgdata".into(), self.data()])
            .start()?;
        let status = initialising.wait_for_exit(INITIALISE_WITHIN).await?;
        anyhow::ensure!(status.success(), "{status}{}", initialising.end_of_log());
        Ok(())
    }

    /// Fills the data folder with a copy of what `primary` has, to follow it.
    async fn copy_of(&self, primary: &Postgres, spaces: &[(PathBuf, PathBuf)]) -> Result<()> {
        let mapped = spaces.iter().map(|(theirs, ours)| {
            format!("--tablespace-mapping={}={}", theirs.display(), ours.display())
        });
        let copying = self
            .launch("pg_basebackup")
            .variable("PGPASSWORD", &primary.password)
            .arguments(["--host=127.0.0.1".to_owned(), format!("--port={}", primary.port)])
            .arguments(["--username", Role::Superuser.name(), "--write-recovery-conf", "--no-sync"])
            .arguments(["--wal-method=stream", "--checkpoint=fast", "--no-password"])
            .arguments(["--pgdata".into(), self.data()])
            .arguments(mapped)
            .start()?;
        let status = copying.wait_for_exit(INITIALISE_WITHIN).await?;
        anyhow::ensure!(status.success(), "{status}{}", copying.end_of_log());
        Ok(())
    }

    fn make_folder(&self) -> Result<()> {
        fs::create_dir(&self.folder)?;
        self.give_to_user(&self.folder)?;
        fs::set_permissions(&self.folder, fs::Permissions::from_mode(0o700))?;
        Ok(())
    }

    fn give_to_user(&self, path: &Path) -> Result<()> {
        if let Some(user) = &self.user {
            chown(path, Some(user.uid.as_raw()), Some(user.gid.as_raw()))?;
        }
        Ok(())
    }

    async fn start(&self, port: u16, password: &str) -> Result<Process> {
        let mut launch = self
            .launch("postgres")
            .arguments(["-D".into(), self.data()])
            .arguments(["-p".to_owned(), port.to_string()])
            .arguments(["-k".into(), self.folder.clone()]);
        for setting in SETTINGS.iter().chain(self.tuning.postgres_settings()) {
            launch = launch.arguments(["-c", setting]);
        }
        let process = launch.start()?;
        let url = url(&format!("127.0.0.1:{port}"), password, "postgres");
        process
            .wait_until("it answers", START_WITHIN, async || connect(&url).await.ok().map(drop))
            .await?;
        Ok(process)
    }

    fn launch(&self, program: &str) -> Launch {
        let log = self.folder.join(format!("{program}.log"));
        Launch::new(program, self.programs.join(program), log).user(self.user.clone())
    }

    fn data(&self) -> PathBuf {
        self.folder.join("data")
    }
}

/// Connects a client whose connection is driven by the current runtime until the client is
/// dropped.
///
/// # Errors
/// When the server cannot be reached in time or refuses.
pub async fn connect(url: &str) -> Result<Client> {
    let connecting = tokio_postgres::connect(url, NoTls);
    let (client, connection) = tokio::time::timeout(CONNECT_TIMEOUT, connecting)
        .await
        .context("Postgres does not answer")?
        .context("cannot connect to Postgres")?;
    tokio::spawn(async move {
        // What breaks the connection also fails the client's next statement.
        let _ = connection.await;
    });
    Ok(client)
}

/// Waits until one session of that name on the client's database waits for somebody's lock.
///
/// # Errors
/// When none does within `deadline`.
pub async fn wait_blocked(sql: &Client, application: &str, deadline: Duration) -> Result<()> {
    let blocked = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() \
                   AND application_name = $1 AND wait_event_type = 'Lock'";
    eventually("a session waits for a lock", deadline, async || {
        match sql.query_one(blocked, &[&application]).await {
            Ok(row) if row.get::<_, i64>(0) == 1 => Ok(()),
            Ok(_) => Err("none does".to_owned()),
            Err(error) => Err(error.to_string()),
        }
    })
    .await
}

fn url(address: &str, password: &str, database: &str) -> String {
    format!("postgres://{}:{password}@{address}/{database}", Role::Superuser.name())
}

/// Signals a session's process, which may have ended.
fn send(session: Pid, signal: Signal) -> Result<()> {
    match signal::kill(session, signal) {
        Ok(()) | Err(nix::Error::ESRCH) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Who runs the server: nobody else unless we are root.
fn unprivileged_user() -> Result<Option<User>> {
    if !Uid::effective().is_root() {
        return Ok(None);
    }
    User::from_name(UNPRIVILEGED_USER)?.map(Some).with_context(|| {
        format!("Postgres does not run as root: it needs a user {UNPRIVILEGED_USER}")
    })
}

/// The folder of the programs of the newest version installed.
fn installed_programs() -> Result<PathBuf> {
    let versions = fs::read_dir(INSTALLED_VERSIONS).into_iter().flatten().flatten();
    let newest = versions
        .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok())
        .filter(|version| program_folder(*version).join("initdb").is_file())
        .max();
    match newest {
        Some(version) if version >= OLDEST_VERSION => Ok(program_folder(version)),
        Some(version) => {
            bail!("Postgres {version} is installed; version {OLDEST_VERSION} or newer is needed")
        }
        None => bail!("no Postgres found in {INSTALLED_VERSIONS}: install postgresql"),
    }
}

fn program_folder(version: u32) -> PathBuf {
    Path::new(INSTALLED_VERSIONS).join(version.to_string()).join("bin")
}

//! A run with everything on, in which much goes wrong, and all that it puts out.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use reqwest::Method;
use serde_json::json;
use tests::stack::certificates::Authority;
use tests::stack::secure_kafka::{self, Listener, User};
use tests::stack::{
    CommandOutput, Environment, Program, Role, SecureKafka, Service, Stack, eventually,
};
use tokio_postgres::Client;

use super::finder::{Marker, Outputs, percent_encoded};
use crate::gateway::keys::wait_for;
use crate::gateway::support::{
    BATCHES, DEADLINE, Gateway, MISSING, answer, envelope, envelope_with, now_millis,
};
use crate::kafka_security::permitted;
use crate::tls;
use crate::writer::support::{Session, events_record, feed, wait_stored};

/// Raises what it quotes of the row: for good, as something else, and as a mere notice.
const QUOTING_TRIGGER: &str = r"
    CREATE FUNCTION quote_row() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        RAISE NOTICE 'sees %', NEW.event_data;
        IF NEW.event_type = 'poison' THEN
            RAISE EXCEPTION 'refuses %', NEW.event_data USING ERRCODE = 'data_exception';
        ELSIF NEW.event_type = 'trouble' THEN
            RAISE EXCEPTION 'does not want %', NEW.event_data;
        END IF;
        RETURN NEW;
    END $$;
    CREATE TRIGGER quote_row BEFORE INSERT ON events FOR EACH ROW EXECUTE FUNCTION quote_row()";

/// A Tapedeck at work, what must not be seen of it, and what is.
pub(super) struct Run {
    gateway: Gateway,
    encrypted: Gateway,
    writer: Service,
    reporter: Service,
    sql: Client,
    /// What recorders send.
    content: Marker,
    /// Given by mistake, where it does not belong or does not help.
    mistaken: Marker,
    /// What must not be seen, these included.
    markers: Vec<Marker>,
    outputs: Outputs,
    _kafka: SecureKafka,
}

impl Run {
    /// Starts two gateways, one with TLS, a writer and a reporter, which log all there is to log.
    pub(super) async fn start() -> Result<Self> {
        let stack = Stack::shared().await?;
        let kafka = stack.secure_kafka().await?;
        let (plain, other) = (permitted(&kafka).await?, Environment::new(stack).await?);
        let [content, password, mistaken] =
            ["content", "the database's password", "a mistaken password"].map(Marker::new);
        let word = kafka.password();
        let kafka_password = Marker::of("a Kafka password", word.to_owned(), word);
        let url = url(&plain, &stack.postgres().address(), &password).await?;
        let authority = Authority::new()?;
        let identity = authority.issue("127.0.0.1")?;
        let file = |name: &str| other.folder().join(name).display().to_string();
        let (certificate, key) = (file("gateway.crt"), file("gateway.key"));
        fs::write(&certificate, &identity.certificate)?;
        fs::write(&key, &identity.key)?;

        let settings = |user| -> Result<Vec<(String, String)>> {
            let file = kafka.properties(plain.folder(), user, Listener::SaslSsl)?;
            let lines = fs::read_to_string(&file)?;
            fs::write(&file, format!("# secret\n{lines}debug=all\n"))?;
            let own = [
                ("TAPEDECK_LOG", "trace".to_owned()),
                ("TAPEDECK_DATABASE_URL", url.clone()),
                ("TAPEDECK_KAFKA_PROPERTIES", format!("ssl.keystore.password={word}")),
            ];
            let own = own.map(|(name, value)| (name.to_owned(), value));
            let broker = kafka.address(Listener::SaslSsl);
            Ok(secure_kafka::settings(broker, &file).into_iter().chain(own).collect())
        };
        let writer = plain.writer().variables(settings(User::Writer)?).start().await?;
        let settings = settings(User::Gateway)?;
        let settings: Vec<_> = settings.iter().map(|(name, value)| (&**name, &**value)).collect();
        let reporter = plain.reporter().variables(settings.iter().copied()).start().await?;
        let gateway = Gateway::start_in(plain, &settings).await?;
        let encrypted = Gateway::start_in(
            other,
            &[
                ("TAPEDECK_LOG", "trace"),
                ("TAPEDECK_TLS_CERTIFICATE_FILE", &*certificate),
                ("TAPEDECK_TLS_KEY_FILE", &*key),
            ],
        )
        .await?;
        for service in [&gateway.service, &encrypted.service, &writer, &reporter] {
            service.wait_ready().await?;
        }
        ensure!(tls::send(&encrypted, &authority).await?.ends_with("200 OK"));

        let private_key = identity.key.lines().nth(1).context("no key")?.to_owned();
        let line = private_key.clone();
        let superuser = stack_password(&gateway.environment)?;
        let markers = vec![
            content.clone(),
            password,
            kafka_password,
            mistaken.clone(),
            Marker::of("the TLS key", private_key, &line[line.len() - 24..]),
            Marker::of("the superuser's password", superuser.clone(), &superuser),
            key_marker(gateway.environment.key()),
            key_marker(encrypted.environment.key()),
        ];
        let sql = gateway.environment.sql().await?;
        Ok(Self {
            sql,
            gateway,
            encrypted,
            writer,
            reporter,
            content,
            mistaken,
            markers,
            outputs: Outputs::default(),
            _kafka: kafka,
        })
    }

    /// Content in every place that there is, which arrives where it should and nowhere else.
    pub(super) async fn send_what_is_taken(&mut self) -> Result<()> {
        let content = &self.content.text;
        let mut envelope = envelope(1);
        envelope["replay"]["initial_url"] = json!(content);
        envelope["replay"]["user"]["email"] = json!(content);
        envelope["replay"]["user"]["name"] = json!(content);
        envelope["events"][0]["event_data"] = json!({ "x": content, content: 1 });
        envelope["webstates"] = json!([{"html_content": content, "captured_at": now_millis()}]);
        let path = format!("{BATCHES}?key={}", self.gateway.environment.key());
        for request in [
            self.gateway.post(BATCHES, envelope.to_string()),
            self.gateway.request(Method::POST, &path).body(envelope.to_string()),
        ] {
            let answer = answer(request).await?;
            ensure!(answer.status == 200, "{answer:?}");
            self.outputs.add("an answer", format!("{answer:?}"));
        }
        self.gateway.environment.wait_committed(DEADLINE).await?;
        // It can be found, then, where it belongs.
        let row = self.sql.query_one("SELECT event_data::text FROM events", &[]).await?;
        ensure!(self.content.is_in(row.get::<_, &str>(0).as_bytes()), "not in the table");
        let environment = &self.gateway.environment;
        let records = environment.records().read_all(&environment.topic("replay-events")).await?;
        let value = records[0].value.as_deref().unwrap_or_default();
        ensure!(self.content.is_in(value), "not in the topic");
        let replay = envelope["replay"]["replay_id"].as_str().context("no id")?.to_owned();
        let printed = self.command(Program::Writer, &["replay", &replay], &[]).await?;
        ensure!(self.content.is_in(&printed.stdout), "not printed by who is asked for it");
        Ok(())
    }

    /// Requests that are wrong in all ways, which quote themselves in no answer.
    pub(super) async fn send_what_is_refused(&mut self) -> Result<()> {
        let content = &self.content.text;
        let wrong = json!([{"html_hash": "0".repeat(64), "html_content": content, "captured_at": now_millis()}]);
        let mut bodies = vec![
            (400, content.clone()),
            (400, format!("{{\"replay\": {{\"{content}\": tru")),
            (422, json!(content).to_string()),
            (422, envelope_with("/webstates", wrong).to_string()),
        ];
        for pointer in [
            "/replay",
            "/replay/replay_id",
            "/replay/start_time",
            "/replay/user",
            "/replay/user/user_id",
            "/events",
            "/events/0",
            "/events/0/event_id",
            "/events/0/seq",
            "/events/0/timestamp",
            "/events/0/event_type",
            "/events/0/webstate_hash",
            "/webstates",
        ] {
            bodies.push((422, envelope_with(pointer, json!(content)).to_string()));
        }
        let long = json!(content.repeat(1_000));
        bodies.push((422, envelope_with("/replay/user/email", long).to_string()));
        let lines = format!("{}\n{}", envelope(1), envelope_with("/events", json!(content)));
        let lines = self.gateway.post(BATCHES, lines);
        let environment = &self.gateway.environment;
        let disabled = environment.add_key("disabled").await?;
        let disable = ["keys", "disable", "disabled"];
        environment.command(Program::Gateway).arguments(disable).run().await?.success()?;
        self.markers.push(key_marker(&disabled));
        wait_for(&self.gateway, &disabled, 403).await?;
        let with_key = |key: &str| self.gateway.request(Method::POST, BATCHES).bearer_auth(key);
        let encoded: String = self.mistaken.text.bytes().map(percent_encoded).collect();
        let question = json!({"html_hashes": [content]}).to_string();
        let post = |name: &str| self.gateway.post(BATCHES, "{}").header(name, encoded.as_str());
        let mut requests = vec![
            (207, lines.header("content-type", "application/x-ndjson")),
            (403, with_key(&disabled)),
            (401, with_key(&encoded)),
            (401, self.gateway.request(Method::POST, &format!("{BATCHES}?key={encoded}"))),
            (404, self.gateway.request(Method::GET, &format!("/{encoded}?key={encoded}"))),
            (415, post("content-type")),
            (415, post("content-encoding")),
            (422, self.gateway.post(MISSING, question)),
        ];
        for (status, body) in bodies {
            requests.push((status, self.gateway.post(BATCHES, body)));
        }
        for (status, request) in requests {
            let answer = answer(request).await?;
            ensure!(answer.status == status, "not {status}: {answer:?}");
            self.outputs.add("an answer", format!("{answer:?}"));
        }
        Ok(())
    }

    /// Rows of which Postgres' messages quote the content, and records that cannot be read.
    pub(super) async fn write_what_postgres_refuses(&mut self) -> Result<()> {
        self.sql.batch_execute(QUOTING_TRIGGER).await?;
        let environment = &self.gateway.environment;
        let data = json!({ "x": self.content.text }).to_string();
        let (sound, troubled) = (Session::new(), Session::new());
        let events = [("poison", &*data), ("click", &*data)];
        let not_json = events_record("key", data.trim_end_matches('}'));
        let shape = json!({"replay": self.content.text, "events": self.content.text}).to_string();
        let wrong_shape = events_record(&self.content.text, shape);
        feed(environment, &[sound.batch(0, &events), not_json, wrong_shape]).await?;
        wait_stored(&self.sql, &sound, 1).await?;
        let page = events_record(&self.content.text, self.content.text.clone());
        environment.records().produce(&environment.topic("replay-webstates"), &[page]).await?;
        environment.wait_committed(DEADLINE).await?;
        let topic = environment.topic("replay-dead-letters");
        let letters = environment.records().read_all(&topic).await?;
        let mut classes: Vec<_> =
            letters.iter().filter_map(|it| it.header("error.class")).collect();
        classes.sort_unstable();
        ensure!(classes == ["bad_key", "data_exception", "not_json", "wrong_shape"], "{classes:?}");
        for letter in &letters {
            self.outputs.add("a dead letter's headers", format!("{:?}", letter.headers));
            for (name, value) in &letter.headers {
                self.outputs.add(format!("the header {name}"), value.clone());
            }
        }

        feed(environment, &[troubled.batch(0, &[("trouble", &*data)])]).await?;
        let reason = eventually("the writer is in trouble", DEADLINE, async || {
            match self.writer.readiness().await {
                Ok(Err(reason)) if reason.contains("Postgres: ") => Ok(reason),
                other => Err(format!("{other:?}")),
            }
        })
        .await?;
        self.outputs.add("/readyz in trouble", reason);
        self.sql.batch_execute("DROP TRIGGER quote_row ON events").await?;
        wait_stored(&self.sql, &troubled, 1).await
    }

    /// Commands that do what they are told.
    pub(super) async fn run_commands(&mut self) -> Result<()> {
        let added = self.command(Program::Gateway, &["keys", "add", "printed"], &[]).await?;
        let key = added.success()?.trim().to_owned();
        let printed = key_marker(&key);
        ensure!(printed.is_in(key.as_bytes()), "the key was not printed");
        self.markers.push(printed);
        let owner = self.gateway.environment.database_url_for(Role::Migrate)?;
        let as_owner = [("TAPEDECK_DATABASE_URL", owner.as_str())];
        let migrated = self.command(Program::Writer, &["migrate"], &as_owner).await?;
        self.outputs.add("migrate", migrated.success()?);
        for (program, arguments) in [
            (Program::Gateway, &["keys", "list"][..]),
            (Program::Writer, &["dead-letters", "list"]),
            (Program::Writer, &["dead-letters", "list", "--format", "json"]),
            (Program::Writer, &["redrive", "--class", "data_exception", "--dry-run"]),
            (Program::Writer, &["redrive", "--class", "data_exception"]),
            (Program::Reporter, &["backfill"]),
            (Program::Reporter, &["show"]),
        ] {
            let output = self.command(program, arguments, &[]).await?;
            let printed = output.success()?;
            self.outputs.add(format!("{program:?} {arguments:?}"), printed);
        }
        Ok(())
    }

    /// What people get wrong, each time with a password in it.
    pub(super) async fn make_mistakes(&mut self) -> Result<()> {
        let mistaken = self.mistaken.text.clone();
        let encoded: String = mistaken.bytes().map(percent_encoded).collect();
        let address = Stack::shared().await?.postgres().address();
        let good = format!("postgres://tapedeck:{encoded}@{address}/tapedeck");
        let malformed = format!("postgres://tapedeck:{encoded}@[{address}/tapedeck");
        let mode = format!("postgres://tapedeck:{encoded}@{address}/tapedeck?sslmode=prefer");
        let keys_file = self.gateway.environment.folder().join("mistaken-keys.json");
        let keys = json!({ "keys": [mistaken] });
        fs::write(&keys_file, keys.to_string())?;
        let keys_file = keys_file.display().to_string();
        let url = "TAPEDECK_DATABASE_URL";
        let properties = "TAPEDECK_KAFKA_PROPERTIES";
        let (unknown, bare) = (format!("sasl.pasword={mistaken}"), mistaken.clone());
        let as_argument = format!("--kafka-property=sasl.password={mistaken}");
        let check = |command: &'static str| ["--check-config", command];
        for (program, arguments, variables, code) in [
            // Not this password.
            (Program::Writer, &["migrate"][..], &[(url, &*good)][..], 1),
            (Program::Reporter, &["show"], &[(url, &*good)], 1),
            // Not an address.
            (Program::Writer, &check("run"), &[(url, &*malformed)], 2),
            (Program::Reporter, &check("serve"), &[(url, &*malformed)], 2),
            (Program::Reporter, &check("serve"), &[(url, &*mode)], 2),
            (Program::Writer, &check("run"), &[(url, &*mistaken)], 2),
            // Not a property.
            (Program::Writer, &check("run"), &[(properties, &*unknown)], 2),
            (Program::Gateway, &check("serve"), &[(properties, &*bare)], 2),
            // Not hashes.
            (Program::Gateway, &check("serve"), &[("TAPEDECK_KEYS_FILE", &*keys_file)], 2),
            (Program::Gateway, &["keys", "list"], &[("TAPEDECK_KEYS_FILE", &*keys_file)], 1),
            // Not the place for passwords.
            (Program::Writer, &["--check-config", "run", "--database-url", &good], &[], 2),
            (Program::Gateway, &["--check-config", "serve", &as_argument], &[], 2),
            // No mistake: help tells what the environment holds.
            (Program::Writer, &["run", "--help"], &[(url, &*good), (properties, &*unknown)], 0),
            (Program::Gateway, &["serve", "--help"], &[(properties, &*unknown)], 0),
        ] {
            let output = self.command(program, arguments, variables).await?;
            let found = output.status.code();
            ensure!(found == Some(code), "{program:?}: {found:?}, not {code}: {}", output.stderr);
            self.outputs.add(format!("{program:?} {}", arguments[0]), output.stdout);
            self.outputs.add(format!("{program:?} {}, errors", arguments[0]), output.stderr);
        }
        // A gateway that serves meanwhile reads a keys file with a key in it.
        fs::copy(&keys_file, self.gateway.environment.keys_file())?;
        let failures = "tapedeck_gateway_keys_reload_failures_total";
        self.gateway.service.wait_for_metric(failures, &[], DEADLINE, |count| count > 0.0).await?;
        Ok(())
    }

    /// What the services tell of themselves, and their command lines.
    pub(super) async fn look_at_the_services(&mut self) -> Result<()> {
        let http =
            reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(10)).build()?;
        for service in
            [&self.gateway.service, &self.encrypted.service, &self.writer, &self.reporter]
        {
            for path in ["/metrics", "/livez", "/readyz"] {
                let url = format!("{}{path}", service.admin_url());
                let answer = http.get(&url).send().await?;
                self.outputs
                    .add(format!("{}{path}", service.process().name()), answer.bytes().await?);
            }
            let line = fs::read(format!("/proc/{}/cmdline", service.pid()))?;
            let name = service.process().name().as_bytes();
            ensure!(memchr::memmem::find(&line, name).is_some(), "another's command line");
        }
        // All there are: those of Kafka and Postgres, and what tests beside this one start.
        for process in Path::new("/proc").read_dir()?.flatten() {
            // A process may have ended meanwhile.
            if let Ok(line) = fs::read(process.path().join("cmdline")) {
                self.outputs.add(process.path().join("cmdline").display().to_string(), line);
            }
        }
        Ok(())
    }

    /// Stops everything; gives all that was put out, the logs of all processes included, and what
    /// must not be in there.
    pub(super) async fn end(self) -> Result<(Outputs, Vec<Marker>)> {
        let Self { gateway, encrypted, writer, reporter, markers, mut outputs, .. } = self;
        for (service, level) in [
            (&gateway.service, "TRACE"),
            (&encrypted.service, "TRACE"),
            (&writer, "TRACE"),
            // It and its libraries have nothing to say below.
            (&reporter, "INFO"),
        ] {
            let status = service.terminate().await?;
            ensure!(status.success(), "{status}: {}", service.process().end_of_log());
            let log = service.log();
            ensure!(log.contains(&format!(r#""level":"{level}""#)), "no {level} in a log");
            ensure!(!log.contains("panicked"), "{}", service.process().end_of_log());
        }
        for folder in [gateway.environment.folder(), encrypted.environment.folder()] {
            for file in folder.read_dir()?.flatten().map(|entry| entry.path()) {
                if file.extension().is_some_and(|extension| extension == "log") {
                    outputs.add(file.display().to_string(), fs::read(&file)?);
                }
            }
        }
        Ok((outputs, markers))
    }

    /// Runs a command that logs all there is to log.
    async fn command(
        &self,
        program: Program,
        arguments: &[&str],
        variables: &[(&str, &str)],
    ) -> Result<CommandOutput> {
        let environment = &self.gateway.environment;
        let mut command = environment.command(program).arguments(arguments.iter().copied());
        command = command.variable("TAPEDECK_LOG", "trace");
        for (name, value) in variables {
            command = command.variable(name, *value);
        }
        command.run().await
    }
}

/// The address of the environment's database with a role whose password is this.
async fn url(environment: &Environment, address: &str, password: &Marker) -> Result<String> {
    let role = format!("role-{}", environment.consumer_group());
    let quoted = password.text.replace('\'', "''");
    let create = format!("CREATE ROLE \"{role}\" SUPERUSER LOGIN PASSWORD '{quoted}'");
    environment.sql().await?.batch_execute(&create).await?;
    let encoded: String = password.text.bytes().map(percent_encoded).collect();
    Ok(format!("postgres://{role}:{encoded}@{address}/{}", environment.consumer_group()))
}

/// The password with which the environment's other addresses come.
fn stack_password(environment: &Environment) -> Result<String> {
    let (login, _) = environment.database_url().split_once('@').context("no login")?;
    Ok(login.rsplit_once(':').context("no password")?.1.to_owned())
}

/// A recorder's key.
fn key_marker(key: &str) -> Marker {
    Marker::of("a recorder's key", key.to_owned(), key.trim_start_matches("tdk_"))
}

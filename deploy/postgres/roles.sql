-- The roles of Tapedeck's parts, and who may enter its database. To be run as a superuser in that
-- database, before the first `writer migrate`; running it again changes nothing:
--
--     psql --dbname=tapedeck --file=deploy/postgres/roles.sql
--
-- What each role may do with tables is granted by `writer migrate`, as the tables' owner, after each
-- migration (writer/grants.sql). docs/database-access.md explains both, and how to let somebody in.

-- Without LOGIN, so that none can be used before it has been given a password.
DO $$
DECLARE
    wanted TEXT;
BEGIN
    FOREACH wanted IN ARRAY ARRAY[
        'tapedeck_migrate', 'tapedeck_writer', 'tapedeck_reporter', 'tapedeck_reader'
    ] LOOP
        IF to_regrole(wanted) IS NOT NULL THEN
            CONTINUE;
        END IF;
        EXECUTE format('CREATE ROLE %I NOLOGIN', wanted);
        IF wanted = 'tapedeck_reader' THEN
            -- A reader's transaction that is left open has writers wait for their next partition,
            -- and keeps Postgres from tidying up.
            ALTER ROLE tapedeck_reader SET default_transaction_read_only = on;
            ALTER ROLE tapedeck_reader SET statement_timeout = '10min';
            ALTER ROLE tapedeck_reader SET idle_in_transaction_session_timeout = '1min';
        END IF;
    END LOOP;
END
$$;

DO $$
BEGIN
    EXECUTE format('REVOKE ALL ON DATABASE %I FROM PUBLIC', current_database());
    EXECUTE format(
        'GRANT CONNECT ON DATABASE %I
            TO tapedeck_migrate, tapedeck_writer, tapedeck_reporter, tapedeck_reader',
        current_database());
    -- For work on many rows, such as erasing somebody.
    EXECUTE format('GRANT TEMPORARY ON DATABASE %I TO tapedeck_migrate', current_database());
END
$$;

REVOKE ALL ON SCHEMA public FROM PUBLIC;
GRANT USAGE, CREATE ON SCHEMA public TO tapedeck_migrate;
GRANT USAGE ON SCHEMA public TO tapedeck_writer, tapedeck_reporter, tapedeck_reader;

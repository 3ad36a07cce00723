-- What each role of deploy/postgres/roles.sql may do with the tables: no more than it does. Run by
-- their owner after each migration, so that rights and tables are of one version. A role that does
-- not exist is passed over.
DO $$
DECLARE
    partition REGCLASS;
BEGIN
    IF to_regrole('tapedeck_writer') IS NOT NULL THEN
        REVOKE ALL ON public.users, public.replays, public.webstates, public.events,
            public.monthly_reports, public.__diesel_schema_migrations FROM tapedeck_writer;
        -- Merging updates rows. Events never change, and nothing is ever deleted.
        GRANT SELECT, INSERT, UPDATE ON public.users, public.replays, public.webstates
            TO tapedeck_writer;
        GRANT SELECT, INSERT ON public.events TO tapedeck_writer;
        -- Months are made with the owner's rights.
        GRANT EXECUTE ON FUNCTION public.ensure_events_partition(DATE) TO tapedeck_writer;
        -- Whether the tables are of the writer's version.
        GRANT SELECT ON public.__diesel_schema_migrations TO tapedeck_writer;
    END IF;

    IF to_regrole('tapedeck_reporter') IS NOT NULL THEN
        REVOKE ALL ON public.users, public.replays, public.webstates, public.events,
            public.monthly_reports, public.__diesel_schema_migrations FROM tapedeck_reporter;
        -- It counts, and need not know whom.
        GRANT SELECT (created_at) ON public.users TO tapedeck_reporter;
        GRANT SELECT (start_time) ON public.replays TO tapedeck_reporter;
        GRANT SELECT, INSERT, UPDATE ON public.monthly_reports TO tapedeck_reporter;
    END IF;

    IF to_regrole('tapedeck_reader') IS NOT NULL THEN
        REVOKE ALL ON public.users, public.replays, public.webstates, public.events,
            public.monthly_reports, public.__diesel_schema_migrations FROM tapedeck_reader;
        GRANT SELECT ON public.users, public.replays, public.webstates, public.monthly_reports
            TO tapedeck_reader;
        -- The partitions too, for queries of a single month.
        FOR partition IN SELECT relid FROM pg_partition_tree('public.events') LOOP
            EXECUTE format('GRANT SELECT ON %s TO tapedeck_reader', partition);
        END LOOP;
        -- And those to come.
        ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT ON TABLES TO tapedeck_reader;
    END IF;
END
$$;

DO $$
DECLARE
    partition REGCLASS;
BEGIN
    FOR partition IN SELECT relid FROM pg_partition_tree('public.events') LOOP
        EXECUTE format('ALTER TABLE %s ALTER COLUMN event_data SET COMPRESSION default', partition);
    END LOOP;
END
$$;

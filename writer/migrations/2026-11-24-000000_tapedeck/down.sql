DROP FUNCTION public.ensure_events_partition(DATE);
DROP TABLE public.monthly_reports, public.events, public.replays, public.webstates, public.users;
DROP FUNCTION public.least_event_id(TIMESTAMPTZ);

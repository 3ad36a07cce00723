-- Lets the roles of deploy/postgres/roles.sql in, all with the one demo password. For psql, which takes
-- it from the environment, so that it stands in no command line.
\set password `printenv POSTGRES_PASSWORD`
ALTER ROLE tapedeck_migrate LOGIN PASSWORD :'password';
ALTER ROLE tapedeck_writer LOGIN PASSWORD :'password';
ALTER ROLE tapedeck_reporter LOGIN PASSWORD :'password';
ALTER ROLE tapedeck_reader LOGIN PASSWORD :'password';

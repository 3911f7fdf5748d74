#!/bin/sh
# Runs once, when the cluster is made: the application's login, which owns nothing and may only take on roles that
# `manage.py migrate_tenants` and the provisioning of tenants grant to it.
set -eu
password=$(cat /run/secrets/postgres_application_password)
psql --no-psqlrc --quiet --set ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname "$POSTGRES_DB" <<SQL
CREATE ROLE cp_app LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOINHERIT PASSWORD '$password';
REVOKE ALL ON DATABASE "$POSTGRES_DB" FROM PUBLIC;
REVOKE CREATE ON SCHEMA public FROM PUBLIC;
GRANT CONNECT ON DATABASE "$POSTGRES_DB" TO cp_app;
SQL

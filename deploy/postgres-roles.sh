#!/bin/bash
# Runs once, on an empty cluster: a role and its databases for Conclave, and one for Temporal.
set -euo pipefail

psql --variable ON_ERROR_STOP=1 --username postgres \
    --variable conclave_password="$CONCLAVE_DB_PASSWORD" \
    --variable temporal_password="$TEMPORAL_DB_PASSWORD" <<'SQL'
CREATE ROLE conclave LOGIN PASSWORD :'conclave_password';
CREATE DATABASE conclave OWNER conclave;
CREATE ROLE temporal LOGIN CREATEDB PASSWORD :'temporal_password';
\connect conclave
CREATE EXTENSION IF NOT EXISTS vector;
SQL

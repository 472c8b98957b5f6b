#!/bin/sh
# Makes and updates Temporal's two databases; done again, it changes nothing.
set -eu

prepare() {
    tool="temporal-sql-tool --plugin postgres12 --ep $POSTGRES_SEEDS --port 5432 --user $POSTGRES_USER --db $1"
    $tool create || true
    $tool setup-schema --version 0.0 || true
    $tool update-schema --schema-dir "/etc/temporal/schema/postgresql/v12/$2/versioned"
}

prepare temporal temporal
prepare temporal_visibility visibility

#!/bin/sh
# Makes the namespace once Temporal answers.
set -eu

until temporal operator cluster health; do sleep 1; done
temporal operator namespace describe --namespace "$NAMESPACE" \
    || temporal operator namespace create --namespace "$NAMESPACE" --retention "$RETENTION"

#!/bin/bash
# Create the topics of the demo; those that exist stay as they are.
set -euo pipefail

bootstrap="${1:?usage: create-topics.sh HOST:PORT}"
day=86400000

create() { # name, retention in milliseconds, partitions
    /opt/kafka/bin/kafka-topics.sh --bootstrap-server "$bootstrap" --create --if-not-exists --topic "$1" \
        --partitions "${3:-1}" --replication-factor 1 --config "retention.ms=$2"
}

# The model's state is a replay of `events` from its newest checkpoint, so what is newer than that checkpoint
# must not expire: keep far more than the longest time the daemon may be down.
create events $((7 * day))
create predictions $((7 * day))
create dead-letters $((28 * day))

# Of the profile `group`, whose members share the partitions.
create group-events $((7 * day)) 6
create group-predictions $((7 * day)) 6
create group-dead-letters $((28 * day)) 6

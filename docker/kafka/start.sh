#!/bin/bash
# Format the data directory the first time, then run the broker. The image's own start script writes its
# configuration into /opt/kafka/config, which a read-only root does not allow; this one takes it as it is.
set -euo pipefail

properties=/etc/stream_moe/kafka/server.properties
/opt/kafka/bin/kafka-storage.sh format --ignore-formatted \
    --cluster-id "${CLUSTER_ID:?set it to a base64 UUID}" --config "$properties"
exec /opt/kafka/bin/kafka-server-start.sh "$properties"

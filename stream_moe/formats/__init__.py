"""Records that bear the id of a registered schema (Confluent's framing): Avro, Protobuf and JSON Schema."""

"""Examples of docs/extending.md: an expert and a connector, each complete in one file."""

"""From records of any shape to events: the mapping, compiled readers, schemas that grow, and their codec."""

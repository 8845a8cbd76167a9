"""Prequential evaluation: test each event, then train on it."""

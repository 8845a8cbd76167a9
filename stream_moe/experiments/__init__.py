"""Grids of replays: streams x models x settings x seeds, from a TOML file."""

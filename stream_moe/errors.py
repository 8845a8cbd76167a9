"""What can go wrong because of what a user or a log gave us. The terminal prints these as one line."""

from __future__ import annotations


class StreamMoeError(Exception):
    """Base of every error that names its condition, the offending value and the way out."""

    exit_code = 2


class ConfigError(StreamMoeError):
    """An option, a setting or a name that does not exist or does not fit."""


class DataError(StreamMoeError):
    """A file or stream that cannot be read as events."""


class CheckpointError(StreamMoeError):
    """A checkpoint that is damaged, or that belongs to another schema or model."""


class LogError(StreamMoeError):
    """The log (Kafka, say) is not there, refuses us, or lost the position we need."""

    exit_code = 3

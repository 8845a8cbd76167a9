"""What can go wrong because of what a user or a log gave us. The terminal prints these as one line.

The exit codes of the command line: 0 done or drained; 1 a checkpoint that `inspect` finds bad, or runs of an
experiment that are missing; 2 a mistake in an option, a file, a schema or a checkpoint; 3 the log; 75 a call that
never came back, so that the process was ended and may be started again at once; 130 interrupted.
"""

from __future__ import annotations

from stream_moe.shown import printable, without_secrets


class StreamMoeError(Exception):
    """Base of every error that names its condition, the offending value and the way out.

    Values come from files, logs and command lines: secrets in addresses are masked, and what would move a terminal's
    cursor is escaped.
    """

    exit_code = 2

    def __init__(self, *arguments: object) -> None:
        super().__init__(
            *(without_secrets(printable(each, keep="\n\t")) if isinstance(each, str) else each for each in arguments)
        )


class ConfigError(StreamMoeError):
    """An option, a setting or a name that does not exist or does not fit."""


class DataError(StreamMoeError):
    """A file or stream that cannot be read as events."""


class CheckpointError(StreamMoeError):
    """A checkpoint that is damaged, or that belongs to another schema or model."""


class LogError(StreamMoeError):
    """The log (Kafka, say) is not there, refuses us, or lost the position we need."""

    exit_code = 3


class UnavailableError(LogError):
    """The log does not answer now, and nothing else is wrong: the same again, later, may do."""


class FencedError(LogError):
    """The partition is another writer's now, or its group has put us out: nothing of the block was committed.

    The state may have learnt the block already, so it is dropped; whoever holds the partition recovers it.
    """


class InDoubtError(LogError):
    """A commit of which nobody knows whether it was done; the committed position tells, once we write again."""


class StuckError(LogError):
    """A call that has no deadline of its own outlasted ours; the process ends at once, whatever else it holds."""

    exit_code = 75  # of sysexits.h: a failure that may pass, try again


class ExecutorError(StreamMoeError):
    """Experts that live in other processes or on other machines are lost, and could not be rebuilt there.

    The state in memory is of no use then; the last checkpoint is, and a new start goes on from it.
    """

    exit_code = 75


class EndOfLogError(Exception):
    """A finite source has handed out the last record of every partition that may be read; no failure."""


def one_line(error: BaseException) -> str:
    """Return the message of a library's error without its line breaks.

    Examples
    --------
    >>> one_line(ValueError("no such   value"))
    'no such value'
    """
    return " ".join(str(error).split())

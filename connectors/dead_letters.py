"""The headers that a dead letter carries, whichever log it goes to."""

from __future__ import annotations

from stream_moe.types import DeadLetter

_PREFIX = "__streams.errors."


def dead_letter_headers(letter: DeadLetter, topic: str, partition: int) -> list[tuple[str, bytes]]:
    """Give the context of a dead letter as record headers; key and value stay the original bytes.

    >>> letter = DeadLetter(7, 0, None, b"{", "decode", "bad-json", "The value is not JSON.")
    >>> dict(dead_letter_headers(letter, "events", 0))["__streams.errors.offset"]
    b'7'
    """
    context = {
        "exception": letter.reason,
        "message": letter.message,
        "topic": letter.topic or topic,
        "partition": str(partition),
        "offset": str(letter.offset),
        "stage": letter.stage,
    }
    # Text from a record may hold half a surrogate pair; a header must not stop a commit.
    return [(_PREFIX + name, text.encode(errors="backslashreplace")) for name, text in context.items()]

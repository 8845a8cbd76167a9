"""Which errors of a connection mean that the broker has refused us for good."""

from __future__ import annotations

import ssl

from kafka import errors

# Trying again with the same credentials does not help. (A time-out or a reset does not belong here.)
_REFUSALS = (
    errors.SaslAuthenticationFailedError,
    errors.UnsupportedSaslMechanismError,
    errors.IllegalSaslStateError,
    errors.AuthorizationError,
    ssl.SSLError,
)


def refusal(error: BaseException | None) -> Exception | None:
    """Find the refusal in an error, in what led to it, or in what it wraps; None where there is none."""
    for _ in range(8):  # a chain may be a ring
        if isinstance(error, _REFUSALS):
            # An end without a farewell is what a broker's restart looks like, too.
            return None if isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError) else error
        if error is None:
            break
        wrapped = error.args[0] if error.args and isinstance(error.args[0], BaseException) else None
        error = wrapped or error.__cause__ or error.__context__
    return None

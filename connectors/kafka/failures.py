"""What an exception of the client means, in a sentence with the way out."""

from __future__ import annotations

import logging
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from kafka import errors

from connectors.kafka.internals import is_fenced, is_first_contact, refusal
from connectors.kafka.settings import KafkaSettings
from stream_moe.errors import FencedError, InDoubtError, LogError, UnavailableError

T = TypeVar("T")
logger = logging.getLogger(__name__)

# The brokers take one that is dead for alive for 9 s; a frozen one costs each try that asks it 3 s and more.
PATIENCE_SECONDS = 30.0
PAUSE_SECONDS = 0.5

_FENCED = (
    errors.ProducerFencedError,
    errors.InvalidProducerEpochError,
    errors.CommitFailedError,
    errors.UnknownMemberIdError,
    errors.IllegalGenerationError,
    errors.FencedInstanceIdError,
    errors.RebalanceInProgressError,  # of a commit outside of a transaction
)


# Refused for good, and nothing was written; the same again will not do.
_FINAL = (errors.AuthorizationError, errors.UnsupportedVersionError, errors.IllegalStateError)


# Texts of the client for what it has no class of error.
_MEANINGS = {
    "Could not execute transactional request for unknown reasons": (
        "the broker that keeps our transactions went away in the middle of a request; if it comes again, look at "
        "that broker's log"
    ),
    "InitProducerIdResponse: [Error 50]": (
        "the brokers allow no transaction of 60 s; raise their transaction.max.timeout.ms to 60000 or more"
    ),
}


@contextmanager
def as_log_error(settings: KafkaSettings, doing: str, *, commits: bool = False) -> Iterator[None]:
    """Turn what the client raises into one LogError: what was tried, why it failed, and the way out.

    `FencedError` where another writer or member took over, `UnavailableError` where the broker is away. With
    `commits`, `InDoubtError` for all but refusals: a lost connection or a time-out does not tell what the broker did.
    """
    try:
        yield
    except errors.KafkaError as error:
        text = f"Kafka at {settings.bootstrap}, {doing}: {_meaning(error, settings)}"
        if _is_fenced(error):
            raise FencedError(text) from error
        refused = refusal(error) is not None
        if commits and not isinstance(error, _FINAL) and not refused:
            raise InDoubtError(text) from error
        if isinstance(error, errors.RetriableError | errors.KafkaConnectionError) and not refused:
            raise UnavailableError(text) from error
        raise LogError(text) from error


def persistently(settings: KafkaSettings, doing: str, call: Callable[[], T]) -> T:
    """Make a call that may be made again, again while only a broker is away that the client chose to ask.

    `UnavailableError` as soon as no address answers at all, or after `PATIENCE_SECONDS`.
    """
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            with as_log_error(settings, doing):
                return call()
        except UnavailableError as error:
            nobody = isinstance(error.__cause__, errors.KafkaError) and is_first_contact(error.__cause__)
            if nobody or time.monotonic() > deadline:
                raise
            logger.warning("%s; asking again", error)
            time.sleep(PAUSE_SECONDS)


def _is_fenced(error: errors.KafkaError) -> bool:
    return isinstance(error, _FENCED) or is_fenced(error)


def _meaning(error: errors.KafkaError, settings: KafkaSettings) -> str:
    if _is_fenced(error):
        return f"another process of group {settings.group!r} took over, and this one is fenced"
    reason = refusal(error)
    if isinstance(reason, ssl.SSLError):
        return _tls_meaning(reason, settings)
    if isinstance(reason, errors.SaslAuthenticationFailedError) and settings.uses_tokens:
        return "the broker refused our token; check its issuer, audience and scope (sasl_scope, sasl_extensions)"
    if isinstance(reason, errors.SaslAuthenticationFailedError):
        return (
            f"the broker refused user {settings.sasl_username!r}; check the user name, the password and the "
            f"mechanism {settings.sasl_mechanism}"
        )
    if isinstance(reason, errors.UnsupportedSaslMechanismError | errors.IllegalSaslStateError):
        return (
            f"the broker does not offer {settings.sasl_mechanism} over {settings.security_protocol} there; "
            "correct sasl_mechanism, security_protocol or the port"
        )
    if isinstance(error, errors.AuthorizationError):
        return f"not permitted ({error}); ask for the right in the broker's access lists"
    if isinstance(error, errors.OffsetOutOfRangeError | errors.LogTruncationError):
        return f"the log no longer holds the position ({error}); restore it, or start under a new group name"
    if is_first_contact(error):
        if settings.security_protocol == "PLAINTEXT":
            return (
                "no broker answers there; check the address, that the broker runs, and that it speaks PLAINTEXT "
                "(`make kafka` in the source tree starts one on localhost:9092)"
            )
        return f"no broker answers there; check the address, and that the broker speaks {settings.security_protocol}"
    for text, meaning in _MEANINGS.items():
        if text in str(error):
            return meaning
    return f"{type(error).__name__} ({error})"


def _tls_meaning(error: ssl.SSLError, settings: KafkaSettings) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        trusted = f"ssl_ca = {settings.ssl_ca}" if settings.ssl_ca else "the system's authorities; set ssl_ca"
        what = error.verify_message.rstrip(".")
        if what == "certificate has expired" or "not yet valid" in what:
            way_out = "have it renewed, and check this machine's clock"
        elif "ismatch" in what:
            way_out = "connect to a name that the certificate holds"
        else:
            way_out = f"trust the authority that signed it (trusted now: {trusted})"
        return f"the broker's certificate is not accepted ({what}); {way_out}"
    reason = (error.reason or str(error)).lower().replace("_", " ")
    if "certificate required" in reason or ("alert" in reason and settings.ssl_cert is None):
        return f"the broker asks for a client certificate ({reason}); set ssl_cert and ssl_key"
    if "alert" in reason:
        return (
            f"the broker refused our certificate ssl_cert = {settings.ssl_cert} ({reason}); "
            "renew it, or have the broker trust its authority"
        )
    return f"TLS failed ({reason}); check that the listener there speaks {settings.security_protocol}"

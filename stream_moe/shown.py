"""Texts of others, made fit for a terminal, a log or a spreadsheet: they say what they say, and do nothing."""

from __future__ import annotations

import re
from typing import Any

MASK = "***"

# Control characters, Unicode's own line ends, and what changes the direction of writing: a terminal or a viewer may
# break the line at each, move the cursor, or show what stands behind it before it.
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]")
# A user and a password: up to the last "@", as a password may hold any of "/", ":" and "@". What only looks like it
# is a port in front of a path.
_URL_PASSWORD = re.compile(r"(?<=://)([^\s/:@'\"]*):(?!\d{1,5}(?:[/?#]|$))[^\s'\"]*@")
_BARE_PASSWORD = re.compile(r"(?:^|(?<=[=,\s'\"]))([^\s/:@=,'\"]+):[^\s/@,'\"]+@(?=[\w.\-\[\]]+:\d+)")
_URL_SECRET = re.compile(
    r"([?&;#](?:[\w.-]*(?:passw|pwd|secret|token|credential|signature|auth|key)[\w.-]*|sig|sas)=)[^\s&;#'\"]+", re.I
)
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def printable(text: str, keep: str = "") -> str:
    r"""Escape what would end or rewrite a line, except the characters to keep.

    Examples
    --------
    >>> printable("ok\nERROR forged \x1b[2J"), printable("two\nlines", keep="\n")
    ('ok\\nERROR forged \\x1b[2J', 'two\nlines')
    """
    return _UNPRINTABLE.sub(
        lambda found: found[0] if found[0] in keep else found[0].encode("unicode_escape").decode(), text
    )


def without_secrets(text: str) -> str:
    """Mask passwords, tokens and signatures in the addresses of a text.

    Examples
    --------
    >>> without_secrets("s3://key:with/slash@bucket/x, https://store/x?sv=1&sig=abc and user:pw@host:9092")
    's3://key:***@bucket/x, https://store/x?sv=1&sig=*** and user:***@host:9092'
    """
    if "@" not in text and "=" not in text:
        return text
    text = _URL_PASSWORD.sub(rf"\1:{MASK}@", text)
    text = _BARE_PASSWORD.sub(rf"\1:{MASK}@", text)
    return _URL_SECRET.sub(rf"\1{MASK}", text) if "://" in text else text


def holds_secret(text: str) -> bool:
    """Say whether there is an address with a secret in a text.

    Examples
    --------
    >>> holds_secret("s3://bucket/a:b@c"), holds_secret("http://host:8080/a@b"), holds_secret("s3://k:p/w@bucket")
    (False, False, True)
    """
    return without_secrets(text) != text


def cell(value: Any) -> Any:
    """Return a value for a cell of a CSV: a text that a spreadsheet would take for a formula begins with a quote.

    Examples
    --------
    >>> cell("=HYPERLINK(1)"), cell("sea_a"), cell(-0.5)
    ("'=HYPERLINK(1)", 'sea_a', -0.5)
    """
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value

"""Inputs for the fuzzer: the faults that are known, and mutations of what is valid."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Any

import numpy as np

from stream_moe.checkpoints import format as form
from stream_moe.types import Feature, Schema
from tests import golden

SCHEMA = Schema((Feature("size"), Feature("colour", ("red", "blue")), Feature("grade", ("1", "2"))), ("0", "yes"))
GOOD = b'{"id":"good","x":[0.5,"red",1],"y":"yes"}'

_DEEP = b"[" * 100_000 + b"]" * 100_000
# The input faults, each with the reason of its dead letter (None: an event). There is no compression bomb among
# them, as no value is ever decompressed: what the log itself compresses is the client's to bound.
FAULTS: list[tuple[str, bytes | None, str | None]] = [
    ("good", GOOD, None),
    ("by name", b'{"id":1,"x":{"size":1e3,"colour":"blue","grade":"2"}}', None),
    ("a label alone", b'{"id":"e","y":0}', None),
    ("bad JSON", b'{"x":[1,"red",1],,}', "bad-json"),
    ("truncated", GOOD[:-4], "bad-json"),
    ("duplicate keys", b'{"id":"a","id":"b","x":[9,"red",2],"x":[1,"red",1],"y":"no","y":"yes"}', None),
    ("deep nesting", b'{"z":' + _DEEP + b"}", "too-deep"),
    ("deep x", b'{"x":' + _DEEP + b"}", "too-deep"),
    ("huge integer", b'{"x":[' + b"9" * 100_000 + b',"red",1]}', None),
    ("huge integer as class", b'{"x":[1,"red",1],"y":' + b"9" * 5000 + b"}", "unknown-class"),
    ("NaN and Infinity", b'{"x":[NaN,"red",1]}', None),
    ("Infinity", b'{"x":{"size":-Infinity}}', None),
    ("1e308", b'{"x":[1e308,"red",1]}', None),
    ("1e999", b'{"x":[-1e999,"red",1]}', None),
    ("a text as number", b'{"x":["one","red",1]}', "bad-feature"),
    ("a number as text", b'{"x":["1","red",1]}', None),
    ("null", b'{"x":[null,null,null]}', None),
    ("wrong length", b'{"x":[1,"red"]}', "bad-length"),
    ("unknown class", b'{"x":[1,"red",1],"y":"maybe"}', "unknown-class"),
    ("tombstone", None, "tombstone"),
    ("empty", b"", "empty"),
    ("bad UTF-8", b'{"id":"\xc3\x28","x":[1,"red",1]}', "bad-utf8"),
    ("half a surrogate pair", b'{"id":"\\udfff","x":[1,"red",1]}', "bad-id"),
    ("100 MB", bytes(100_000_000), "too-large"),
    ("a megabyte of text", b'{"id":"e","x":[1,"red",1],"z":"' + b"a" * 1_000_000 + b'"}', None),
    ("a megabyte of escapes", b'{"z":"' + b"\\u00e9" * 170_000 + b'"}', "no-content"),
    ("many members", b'{"x":{' + b",".join(b'"%d":1' % i for i in range(80_000)) + b"}}", "no-known-feature"),
]

TOKENS = [
    b"null", b"true", b"false", b"NaN", b"Infinity", b"-Infinity", b"1e308", b"-1e309", b"0", b"-0", b"1e-400",
    b"9223372036854775808", b"-9223372036854775809", b"18446744073709551616", b"9" * 30, b"9" * 4301, b"4294967296",
    b'""', b'"\\ud800"', b'"\\u0000"', b"\xff", b"\xed\xa0\x80", b"\xef\xbb\xbf", b"\x00", b"{", b"}", b"[", b"]",
    b"[" * 2000, b'"', b"\\", b",", b":", b'"x":', b'"y":', b'"id":', b"1000000000000", b"-1", b"4611686018427387904",
    b'"dtype":', b'"F64"', b'"BOOL"', b'"shape":', b"[0,0]", b'"data_offsets":', b'"__metadata__":', b"\n", b" ",
]  # fmt: skip


def mutated(random: random.Random, content: bytes, others: list[bytes]) -> bytes:
    """Change a few places of `content`."""
    out = bytearray(content)
    for _ in range(random.choice((1, 1, 1, 1, 2, 3, 8))):
        at = random.randrange(len(out) + 1)
        until = min(len(out), at + random.choice((0, 1, 1, 2, 4, 16)))
        match random.randrange(7):
            case 0:
                out[at:until] = random.choice(TOKENS)
            case 1:
                out[at:until] = random.randbytes(until - at)
            case 2:
                del out[at:until]
            case 3 if out:
                out[random.randrange(len(out))] ^= 1 << random.randrange(8)
            case 4:
                other = random.choice(others)
                begin = random.randrange(len(other) + 1)
                out[at:until] = other[begin : begin + random.randrange(40)]
            case 5:
                del out[at:]
            case _:
                out[at:at] = out[at:until] * random.randrange(1, 5)
    return bytes(out)


def records(random: random.Random) -> Callable[[], bytes | None]:
    """Make records: first the known faults, then mutations of the short ones, grammar and bytes."""
    known = [value for _, value, _ in FAULTS]
    seeds = [value for value in known if value and len(value) < 5000] + [
        b'{"id":"e\\u00e9\\n","x":{"size":-1.5e-3,"colour":null,"grade":2,"new":{"a":[1]}},"y":0}',
        b'{"x":[true,7,"2"],"y":true,"id":123456789012345678901}',
    ]

    def make() -> bytes | None:
        if known:
            return known.pop()
        if random.random() < 0.2:
            names = random.choices(("id", "x", "y", "z"), k=random.randrange(5))
            return b"{" + b",".join(b'"%s":%s' % (n.encode(), _value(random, 3)) for n in names) + b"}"
        if random.random() < 0.3:  # the right form, with anything in it
            cells = (
                _value(random, 0),
                random.choice((b'"red"', b"null", b"2", _value(random, 0))),
                _value(random, 0),
            )
            label = random.choice((b'"yes"', b"0", b"null", _value(random, 0)))
            return b'{"id":"e","x":[%s,%s,%s],"y":%s}' % (*cells, label)
        return mutated(random, random.choice(seeds), seeds)

    return make


def _value(random: random.Random, depth: int) -> bytes:
    match random.randrange(8 if depth else 4):
        case 0 | 1:
            return random.choice(TOKENS)
        case 2:
            return repr(random.choice((random.random(), random.getrandbits(random.randrange(1, 200))))).encode()
        case 3:
            return json.dumps(random.choice(("red", "blue", "1", "2", "yes", "0", "good", "é", "x" * 1025))).encode()
        case 4:
            return b'{"size":%s,"colour":%s}' % (_value(random, depth - 1), _value(random, depth - 1))
        case _:
            return (
                b"[" + b",".join(_value(random, depth - 1) for _ in range(random.choice((3, 3, 3, 0, 1, 4)))) + b"]"
            )


def checkpoints(random: random.Random) -> Callable[[], bytes]:
    """Make checkpoints: bytes changed anywhere; header changed and sealed anew; state changed and sealed anew."""
    files = [path.read_bytes() for path in sorted(golden.HERE.glob("*.ckpt"))]
    bodies = [file[40:] for file in files]
    headers = [body[8 : 8 + int.from_bytes(body[:8], "little")] for body in bodies]
    _, (state, arrays) = form.decode(files[-1], "golden")
    text, names = json.dumps(state).encode(), sorted(arrays)
    known = [b"", b"SMOE", files[0], files[-1], *(sealed(bytes(8), version) for version in range(4))]

    def make() -> bytes:
        if known:
            return known.pop()
        which, version = random.randrange(len(files)), random.choice((1, 2, 2, 3))
        match random.randrange(8):
            case 0:
                return mutated(random, files[which], headers)
            case 1:
                return sealed(mutated(random, bodies[which], headers), version)
            case 2 | 3 | 4:
                header = mutated(random, headers[which], headers)
                size = len(header) if random.random() < 0.95 else random.getrandbits(random.randrange(1, 65))
                rest = bodies[which][8 + len(headers[which]) :]
                return sealed(size.to_bytes(8, "little") + header + rest, version)
            case 5:
                try:
                    changed = json.loads(mutated(random, text, [text]))
                except (ValueError, RecursionError):
                    changed = state | {random.choice(list(state)): random.choice((None, -1, [], {}, "", 2**70))}
                return form.encode(changed, arrays)
            case _:
                name = random.choice(names)
                return form.encode(state, arrays | {name: _array(random, arrays[name])})

    return make


def sealed(body: bytes, version: int) -> bytes:
    """Give bytes the frame that says they are whole."""
    head = form.MAGIC + version.to_bytes(4, "big")
    return head + form.digest(version, head, body) + body


def _array(random: random.Random, array: Any) -> Any:
    """Give another array in its place: values changed in place, or its shape, or its type."""
    changed = array.copy()
    match random.randrange(5):
        case 0:
            with np.errstate(all="ignore"):
                return changed.astype(random.choice((np.float64, np.float32, np.int64, np.int32, np.uint8, np.bool_)))
        case 1:
            return changed[: random.randrange(len(changed) + 1)] if changed.ndim else changed
        case 2:
            return np.concatenate([changed, changed]) if changed.ndim else changed
        case _:
            raw = bytearray(changed.tobytes())
            for _ in range(random.choice((1, 2, 9)) if raw else 0):
                at = random.randrange(len(raw))
                raw[at] = random.choice((0, 1, 0x7F, 0x80, 0xFF, random.randrange(256)))
            return np.frombuffer(bytes(raw), array.dtype if array.dtype != np.bool_ else np.uint8).reshape(
                array.shape
            )

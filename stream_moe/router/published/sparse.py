"""Sums of a matrix's rows, of which most are not needed: the one product that the router is made of.

After a ReLU most activations are 0, so a layer, its gradient, and what it hands back are all sums of few rows of
a matrix, each times a number. Two sums are made at once and share the loading of the rows. Every sum runs in the
order of its terms and rounds after each, whatever it is paired with: a row of activations has the same bits in
any block. (A BLAS rounds differently for different shapes, and takes no notice of zeros.)
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from stream_moe.runtime.compiled import compiled
from stream_moe.types import Float32, Int32

LANES = 16  # numbers in one vector; where the processor's are shorter, LLVM takes two or four
STRIP = 8  # vectors of each sum that stay in registers: so many that an addition need not wait for the one before

_I32, _I64 = ir.IntType(32), ir.IntType(64)
_VECTOR = ir.VectorType(ir.FloatType(), LANES)
_FUSED = ("contract", "nsz")  # a product and its addition may round once; the order of the sum stays


def aligned(*shape: int) -> Float32:
    """Unset float32 numbers that begin with a cache line: vectors across two lines would take 15 % longer."""
    room = np.empty(math.prod(shape) + LANES, np.float32)
    start = -room.ctypes.data % (4 * LANES) // 4
    return room[start : start + math.prod(shape)].reshape(shape)


@compiled(_nrt=False)
def pick(a: Float32, b: Float32, row: Int32) -> int:
    """List in `row` where a or b is not 0; return how many those are. `row` has at least their length."""
    bits_a, bits_b = a.view(np.int32), b.view(np.int32)
    n = 0
    for j in range(a.shape[0]):
        row[n] = j  # written over by the next unless it counts: a branch would be guessed wrong too often
        n += int((bits_a[j] | bits_b[j]) != 0)
    return n


@intrinsic
def combine(context: Any, a: Any, b: Any, row: Any, n: Any, m: Any, start: Any, out_a: Any, out_b: Any) -> Any:
    """Write start + sum of a[j] m[j] over j in row[:n] to `out_a`, and the same with b to `out_b`.

    a, b float32 [J]; row int32 [>= n] in 0..J - 1; m float32 [J, K]; start, out_a, out_b float32 [K], all
    C-contiguous. The outputs may be the same array if a and b are.
    """
    arrays = (a, b, m, start, out_a, out_b)
    if not all(isinstance(t, types.Array) and t.layout == "C" and t.dtype == types.float32 for t in arrays):
        return None
    return types.void(a, b, row, n, m, start, out_a, out_b), _combine


def _combine(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    def data(position: int) -> Any:
        return context.make_array(signature.args[position])(context, builder, arguments[position]).data

    inputs, row, matrix, start, outputs = (data(0), data(1)), data(2), data(4), data(5), (data(6), data(7))
    n = context.cast(builder, arguments[3], signature.args[3], types.int64)
    width = cgutils.unpack_tuple(
        builder, context.make_array(signature.args[4])(context, builder, arguments[4]).shape
    )[1]

    def strip(column: Any, vectors: int, mask: Any = None) -> None:
        """Sum `vectors` vectors of columns over all rows."""
        cells = [(q, builder.add(column, _I64(v * LANES))) for v in range(vectors) for q in range(2)]
        first = [_load(builder, builder.gep(start, [c]), mask) for _, c in cells]
        before, body, after = builder.block, *(builder.append_basic_block(name) for name in ("row", "rows_done"))
        builder.cbranch(builder.icmp_signed(">", n, _I64(0)), body, after)

        builder.position_at_end(body)
        i, sums = builder.phi(_I64), [builder.phi(_VECTOR) for _ in cells]
        j = builder.sext(builder.load(builder.gep(row, [i])), _I64)
        factors = [_everywhere(builder, builder.load(builder.gep(values, [j]))) for values in inputs]
        origin = builder.mul(j, width)
        grown = []
        for (q, c), s in zip(cells, sums, strict=True):
            term = _load(builder, builder.gep(matrix, [builder.add(origin, c)]), mask)
            grown.append(builder.fadd(s, builder.fmul(factors[q], term, flags=_FUSED), flags=_FUSED))
        following = builder.add(i, _I64(1))
        builder.cbranch(builder.icmp_signed("<", following, n), body, after)

        builder.position_at_end(after)
        results = [builder.phi(_VECTOR) for _ in cells]
        for value, at_first, at_last in zip(
            [i, *sums, *results], [_I64(0), *first, *first], [following, *grown, *grown], strict=True
        ):
            value.add_incoming(at_first, before)
            value.add_incoming(at_last, body)
        for (q, c), result in zip(cells, results, strict=True):
            _store(builder, result, builder.gep(outputs[q], [c]), mask)

    done = cgutils.alloca_once_value(builder, _I64(0))
    for vectors in (STRIP, 1):
        step = _I64(vectors * LANES)
        head, body, after = (builder.append_basic_block(name) for name in ("strips", "strip", "strips_done"))
        builder.branch(head)
        builder.position_at_end(head)
        column = builder.load(done)
        builder.cbranch(builder.icmp_signed("<=", builder.add(column, step), width), body, after)
        builder.position_at_end(body)
        strip(column, vectors)
        builder.store(builder.add(column, step), done)
        builder.branch(head)
        builder.position_at_end(after)
    column = builder.load(done)
    with builder.if_then(builder.icmp_signed("<", column, width)):
        lanes = ir.Constant(ir.VectorType(_I64, LANES), list(range(LANES)))
        strip(column, 1, builder.icmp_signed("<", lanes, _everywhere(builder, builder.sub(width, column))))
    return context.get_dummy_value()


def _everywhere(builder: Any, value: Any) -> Any:
    """A vector of one value."""
    unset = ir.Constant(ir.VectorType(value.type, LANES), ir.Undefined)
    one = builder.insert_element(unset, value, _I32(0))
    return builder.shuffle_vector(one, unset, ir.Constant(ir.VectorType(_I32, LANES), [0] * LANES))


def _load(builder: Any, at: Any, mask: Any) -> Any:
    at = builder.bitcast(at, _VECTOR.as_pointer())
    if mask is None:
        return builder.load(at, align=4)
    kind = ir.FunctionType(_VECTOR, [at.type, _I32, mask.type, _VECTOR])
    masked = cgutils.get_or_insert_function(builder.module, kind, "llvm.masked.load.v16f32.p0")
    return builder.call(masked, [at, _I32(4), mask, ir.Constant(_VECTOR, [0.0] * LANES)])


def _store(builder: Any, value: Any, at: Any, mask: Any) -> None:
    at = builder.bitcast(at, _VECTOR.as_pointer())
    if mask is None:
        builder.store(value, at, align=4)
        return
    kind = ir.FunctionType(ir.VoidType(), [_VECTOR, at.type, _I32, mask.type])
    masked = cgutils.get_or_insert_function(builder.module, kind, "llvm.masked.store.v16f32.p0")
    builder.call(masked, [value, at, _I32(4), mask])

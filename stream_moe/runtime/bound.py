"""Kernels (`@compiled`) bound to their state: compiled code calls them, and they find their arrays, by an address.

A call from Python unwraps every array that it is given, and an expert has up to a hundred: for one event that takes
ten times as long as the event itself. So the state of an expert is written down once, as a row of words (the address
and the shape of each array, the bits of each number), and its kernel reads the arrays from there. As the kernel too
is called by its address, one compiled loop steps experts of all kinds and is compiled once, for none of them.
"""

from __future__ import annotations

from array import array
from ctypes import c_void_p
from typing import Any, NoReturn

import numpy as np
from llvmlite import ir
from numba import types
from numba.core.datamodel import models
from numba.core.imputils import lower_getattr_generic
from numba.core.typing.templates import AttributeTemplate, infer_getattr
from numba.extending import intrinsic, register_model
from numba.np.arrayobj import populate_array
from numba.np.numpy_support import from_dtype

_I64, _F64 = ir.IntType(64), ir.DoubleType()


class BoundType(types.Type):  # type: ignore[misc]
    """What a kernel sees of its state before `opened`: the address of words that describe a tuple of this type."""

    def __init__(self, state: Any) -> None:
        self.state = state
        super().__init__(name=f"Bound({state})")


@register_model(BoundType)
class _BoundModel(models.PrimitiveModel):  # type: ignore[misc]
    def __init__(self, manager: Any, numba_type: BoundType) -> None:
        super().__init__(manager, numba_type, _I64.as_pointer())


class Bound:
    """A kernel and the state that it works on.

    Parameters
    ----------
    kernel
        A function of `compiled` over `arguments` behind its first one, which it gives to `opened`; returns int64.
    state
        NamedTuples, C-contiguous arrays, ints, floats and bools. Whoever binds them makes a new `Bound` before an
        array gives way to another, or a number to another: the kernel would go on with those of now.
    arguments
        numba's types of the kernel's other arguments.
    before
        A `Bound` of much the same state: what tuples of it are in both need not be described again.

    Attributes
    ----------
    function, address
        Where the kernel is, and where its state is described. Both are of this process.

    Examples
    --------
    >>> from stream_moe.experts.no_change import NoChange
    >>> from stream_moe.types import Schema
    >>> bound = NoChange(Schema.numeric(1, ["no", "yes"])).bound  # of `step`, over the label learnt last
    >>> bound.function > 0, bound.address > 0
    (True, True)
    """

    __slots__ = ("_kind", "_known", "_words", "address", "function")

    def __init__(
        self, kernel: Any, state: tuple[Any, ...], arguments: tuple[Any, ...], before: Bound | None = None
    ) -> None:
        self._known: dict[int, _Description] = {}  # keeps the arrays, which live as long as the addresses are used
        kind, words = _describe(state, {} if before is None else before._known, self._known)
        self._kind = (kernel, kind, arguments)
        if before is not None and before._kind == self._kind:  # sooner said than a hash of it all is made
            self.function: int = before.function
        else:
            self.function = _functions.get(self._kind) or _compiled(*self._kind)
        self._words = array("q", words)
        self.address: int = self._words.buffer_info()[0]

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Bound holds addresses of its process; bind the state anew where it is needed")


# Of a tuple: itself, of what kind it is (as `_numba_type` takes it), and its words.
_Description = tuple[tuple[Any, ...], Any, list[int]]
_functions: dict[tuple[Any, Any, Any], int] = {}  # of this process: a tree is bound anew whenever it grows


def _compiled(kernel: Any, kind: Any, arguments: tuple[Any, ...]) -> int:
    """Return the address of a kernel for a kind of state, compiled now or before."""
    signature = (BoundType(_numba_type(kind)), *arguments)
    kernel.compile(signature)
    result = kernel.overloads[signature]
    address: int = result.library.get_pointer_to_function(result.fndesc.llvm_func_name)
    _functions[kernel, kind, arguments] = address
    return address


def _data(of: Any) -> int:
    """Return where the numbers of an array are: what `of.ctypes.data` says, in a tenth of the time."""
    return c_void_p.from_address(id(of) + _DATA).value or 0


_DATA = object.__basicsize__  # an array's first field, by numpy's binary interface
if _data(_probe := np.zeros(1)) != _probe.ctypes.data:
    raise ImportError("numpy's arrays are not laid out as numpy's binary interface says; use CPython")


def _describe(value: tuple[Any, ...], before: dict[int, _Description], known: dict[int, _Description]) -> Any:
    """Return the kind and the words of a tuple; it is looked for in `before`, and put into `known`."""
    found = before.get(id(value))
    if found is None or found[0] is not value:
        kinds, words = list[Any](), list[int]()
        for part in value:
            if isinstance(part, np.ndarray):
                if not part.flags.c_contiguous:
                    raise TypeError(f"an array of shape {part.shape} and strides {part.strides} is not C-contiguous")
                kinds.append((part.dtype, part.ndim))
                words += (_data(part), *part.shape)
            elif isinstance(part, tuple):
                kind, more = _describe(part, before, known)
                kinds.append(kind)
                words += more
            elif isinstance(part, (bool, int, np.integer)):
                kinds.append(types.boolean if isinstance(part, bool) else types.int64)
                words.append((int(part) + 2**63) % 2**64 - 2**63)  # a seed may take all 64 bits
            else:
                kinds.append(types.float64)
                words.append(int(np.float64(part).view(np.int64)))
        found = value, (type(value), *kinds), words
    known[id(value)] = found
    return found[1], found[2]


def _numba_type(kind: Any) -> Any:
    if not isinstance(kind, tuple):
        return kind
    if isinstance(kind[0], np.dtype):
        return types.Array(from_dtype(kind[0]), kind[1], "C")
    parts = [_numba_type(part) for part in kind[1:]]
    return types.Tuple(parts) if kind[0] is tuple else types.NamedTuple(parts, kind[0])


class ViewType(types.Type):  # type: ignore[misc]
    """What compiled code sees of a NamedTuple of a state: the address of the words that describe it."""

    def __init__(self, state: Any) -> None:
        self.state = state
        super().__init__(name=f"View({state})")


register_model(ViewType)(_BoundModel)


@infer_getattr
class _ViewAttributes(AttributeTemplate):  # type: ignore[misc]
    key = ViewType

    def generic_resolve(self, view: ViewType, name: str) -> Any:
        return _seen(view.state[view.state.fields.index(name)]) if name in view.state.fields else None


@lower_getattr_generic(ViewType)
def _attribute(context: Any, builder: Any, view: ViewType, value: Any, name: str) -> Any:
    place = view.state.fields.index(name)
    begin = sum(map(_n_words, view.state.types[:place]))
    return _read(context, builder, value, begin, view.state[place])


def _seen(kind: Any) -> Any:
    """Return the type that compiled code has a part of a state as."""
    if isinstance(kind, types.BaseNamedTuple):
        return ViewType(kind)
    return types.Tuple([_seen(part) for part in kind]) if isinstance(kind, types.BaseTuple) else kind


def _n_words(kind: Any) -> int:
    if isinstance(kind, types.BaseTuple):
        return sum(map(_n_words, kind.types))
    return 1 + kind.ndim if isinstance(kind, types.Array) else 1


def _read(context: Any, builder: Any, words: Any, begin: int, kind: Any) -> Any:
    """Generate what reads a part of a state, whose words begin there."""
    place = builder.gep(words, [_I64(begin)])
    if isinstance(kind, types.BaseNamedTuple):
        return place
    if isinstance(kind, types.BaseTuple):
        parts = list[Any]()
        for part in kind:
            parts.append(_read(context, builder, words, begin, part))
            begin += _n_words(part)
        return context.make_tuple(builder, _seen(kind), parts)

    def word(k: int) -> Any:
        read = builder.load(builder.gep(words, [_I64(begin + k)]))
        read.set_metadata("invariant.load", builder.module.add_metadata([]))  # whatever is written to arrays
        return read

    if not isinstance(kind, types.Array):
        return (
            builder.bitcast(word(0), _F64)
            if kind == types.float64
            else context.cast(builder, word(0), types.int64, kind)
        )
    array = context.make_array(kind)(context, builder)
    data, shape = builder.inttoptr(word(0), array.data.type), [word(1 + k) for k in range(kind.ndim)]
    size = _I64(context.get_abi_sizeof(context.get_data_type(kind.dtype)))
    strides = [size]
    for length in shape[:0:-1]:
        strides.insert(0, builder.mul(strides[0], length))
    populate_array(array, data=data, shape=shape, strides=strides[-kind.ndim :], itemsize=size, meminfo=None)
    return array._getvalue()


@intrinsic
def opened(context: Any, bound: Any) -> Any:
    """Return the state: its arrays are counted by nobody, as the `Bound` keeps them."""

    def read(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return _read(context, builder, arguments[0], 0, bound.state)

    return _seen(bound.state)(bound), read


def call_by_address(context: Any, builder: Any, addresses: tuple[Any, Any], kinds: Any, arguments: Any) -> Any:
    """Generate the call of a bound kernel; an exception in it is raised here.

    Parameters
    ----------
    addresses
        `Bound.function` and `Bound.address`, as values of the code that is generated.
    kinds, arguments
        numba's types of the kernel's other arguments, and their values.
    """
    seen = (BoundType(types.none), *kinds)
    function = builder.inttoptr(addresses[0], context.call_conv.get_function_type(types.int64, seen).as_pointer())
    state = builder.inttoptr(addresses[1], _I64.as_pointer())
    status, result = context.call_conv.call_function(builder, function, types.int64, seen, [state, *arguments])
    with builder.if_then(status.is_error, likely=False):
        context.call_conv.return_status_propagate(builder, status)
    return result

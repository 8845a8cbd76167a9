"""Kernels: what Python calls becomes machine code once, together with all that it calls.

numba makes machine code of every function by itself, then puts a copy of each into those that call it, optimizes it
there again, and so on at each level: a function ten calls deep is optimized eleven times. Here a function that
another one calls is left as it is. It is optimized, and becomes machine code, where Python calls: in the kernel.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from numba.core import compiler, sigutils
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler_lock import global_compiler_lock
from numba.core.registry import CPUDispatcher
from numba.core.typing.templates import make_concrete_template


class Kernel(CPUDispatcher):  # type: ignore[misc]
    """A function of `@compiled`: a kernel where Python calls it, a part where another kernel does.

    It may not call itself.

    Parameters
    ----------
    function
        What is compiled.
    options
        numba's, of `njit`.
    """

    def __init__(self, function: Any, options: dict[str, Any]) -> None:
        super().__init__(py_func=function, targetoptions=options, pipeline_class=_KernelCompiler)
        self._parts: dict[Any, Any] = {}  # of argument types: the key by which numba finds the code, and its result

    def compile(self, sig: Any) -> Any:
        """Compile the kernel for these types, or read its machine code."""
        with global_compiler_lock, _seldom_collected():
            return super().compile(sig)

    def get_call_template(self, args: Any, kws: Any) -> Any:
        """Return how another kernel calls this function, as numba wants to know."""
        signature, args = self._compiler.fold_argument_types(args, kws)
        _, result = self._part(tuple(args))
        name = self.py_func.__name__
        return make_concrete_template(name, key=name, signatures=[result.signature]), signature, args, {}

    def get_overload(self, sig: Any) -> Any:
        """Return the key by which numba finds the code of this function for another kernel."""
        args, _ = sigutils.normalize_signature(sig)
        return self._part(tuple(args))[0]

    def _part(self, args: tuple[Any, ...]) -> tuple[Any, Any]:
        with global_compiler_lock, _seldom_collected():
            if args not in self._parts:
                self._parts[args] = self._compile_part(args)
            return self._parts[args]

    def _compile_part(self, args: tuple[Any, ...]) -> tuple[Any, Any]:
        flags = _Flags()
        self.targetdescr.options.parse_as_flags(flags, self.targetoptions)
        flags.no_compile = flags.no_cpython_wrapper = flags.no_cfunc_wrapper = True
        context = self.targetdescr.target_context
        kind = _Optimized if flags.fastmath else _Part
        result = compiler.compile_extra(
            self.targetdescr.typing_context, context, self.py_func, args, None, flags, {},
            library=kind(context.codegen(), self.py_func.__qualname__), pipeline_class=_KernelCompiler,
        )  # fmt: skip
        key = object()
        context.insert_user_function(key, result.fndesc, [result.library])
        return key, result


class _Part(JITCodeLibrary):  # type: ignore[misc]
    """Code that others take in: neither optimized nor machine code."""

    def finalize(self) -> None:
        self._raise_if_finalized()
        for function in self._final_module.functions:
            if not function.is_declaration:
                function.linkage = "linkonce_odr"  # each kernel has its own
        self._shared_module = self._final_module
        self._finalized = True

    def all_of_it(self) -> Iterator[Any]:
        """Yield this part, then what it needs: who calls comes before who is called, or it would be left out."""
        yield self
        for library in self._linking_libraries:
            yield from library.all_of_it() if isinstance(library, _Part) else [library]


class _Whole(JITCodeLibrary):  # type: ignore[misc]
    """Code with all that it needs."""

    def add_linking_library(self, library: Any) -> None:
        for each in library.all_of_it() if isinstance(library, _Part) else [library]:
            super().add_linking_library(each)


class _Optimized(_Whole):
    """Code that others take in, optimized by itself: where sums may change their order, they do so once for all."""

    def finalize(self) -> None:
        for library in dict.fromkeys(self._linking_libraries):
            self._final_module.link_in(library._get_module_for_linking(), preserve=True)
        self._optimize_final_module()
        self._finalized = True


class _KernelCompiler(compiler.Compiler):  # type: ignore[misc]
    def compile_extra(self, func: Any) -> Any:
        self.state.flags = _Flags(self.state.flags)
        if self.state.library is None:
            self.state.library = _Whole(self.state.targetctx.codegen(), func.__qualname__)
            self.state.library.enable_object_caching()  # so that it can be kept on disk
        return super().compile_extra(func)


class _Flags(compiler.Flags):  # type: ignore[misc]
    """numba's options, which it compares with others a thousand times for each function: put together once."""

    __slots__ = ("_all", "_given")

    def values(self) -> dict[str, Any]:
        if getattr(self, "_given", None) != self._values:
            self._given, self._all = dict(self._values), super().values()
        return self._all

    def __eq__(self, other: object) -> bool:
        return self is other or bool(super().__eq__(other))

    def __hash__(self) -> int:
        return _HASH


_HASH = hash(compiler.Flags())  # of the names alone


@contextmanager
def _seldom_collected() -> Iterator[None]:
    """Have Python look for garbage seldom: what numba makes lives long, and a seventh of its time goes there."""
    former = gc.get_threshold()
    gc.set_threshold(100_000, 20, 100)
    try:
        yield
    finally:
        gc.set_threshold(*former)

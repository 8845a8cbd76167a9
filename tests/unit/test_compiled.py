"""What kernels are compiled for."""

from __future__ import annotations

import pytest
from llvmlite import binding
from numba.core.registry import cpu_target

from stream_moe.runtime.compiled import compiled


@compiled
def double(number: float) -> float:
    return 2.0 * number


def test_all_machines_compile_for_the_same_processor() -> None:
    """Or a state would be another where a member of the group has wider vectors."""
    features = binding.get_host_cpu_features()
    if not all(features.get(name) for name in ("avx2", "bmi2", "fma")):
        pytest.skip("this processor is of another kind")
    assert double(2.0) == 4.0
    assert cpu_target.target_context.codegen().magic_tuple()[1:] == ("haswell", "")

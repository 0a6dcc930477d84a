"""What TVM's lowering gets wrong and `schedule.lower` puts right, seen in the kernels' accesses on the CPU."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from plugin_autogen import releases
from plugin_autogen.pipeline import Check, build_plugin_plan
from plugin_autogen.verify.compare import difference
from tests.conformance import stages
from tests.cpu_cuda.runner import CpuPlugin, Sanitizer
from tests.operators.harness import Array, single_node


def run_checked(operator: str, inputs: list[Array], constants: tuple[int, ...], scratch: Path) -> None:
    """Every access of the generated kernels within its buffer and without a race, and the right result."""
    node, feeds = single_node(operator, inputs, None, constants, 1, 18, "", None)
    plan, *_ = build_plugin_plan(node.subgraph, Check.OFF)
    plugin = CpuPlugin.from_plan(plan, releases.release("rtx"), scratch, Sanitizer.CHECK)
    (result,) = plugin.run(list(feeds.values()))
    assert difference(result, node.expected[0]).message is None


def values(*shape: int) -> Array:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def test_rows_that_do_not_fill_the_last_block_are_not_written(tmp_path: Path) -> None:
    """Four warps a block, 4099 rows: without a bound for the write-back the last warp writes behind the output."""
    run_checked("ReduceSum", [values(4099, 64), np.array([1])], (1,), tmp_path)


@pytest.mark.parametrize("rows", [2, 37])
def test_a_matrix_by_vector_product_stays_within_its_rows(rows: int, tmp_path: Path) -> None:
    run_checked("MatMul", [values(rows, 100), values(100)], (), tmp_path)


@pytest.mark.parametrize(
    "name",
    [
        "test_attention_4d_attn_mask_bool",  # vectors of bools
        "test_attention_4d_padded_kv_bf16",  # lanes that read what their Select forbids
        "test_attention_3d_causal_bf16",  # the bits of minus infinity
    ],
)
def test_vectorized_write_backs(name: str) -> None:
    assert stages.plugin_v3(name) == "pass"

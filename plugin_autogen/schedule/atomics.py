"""Read-modify-write updates that several threads may make to one element, as CUDA atomics.

A function marks such an update with `AttrStmt(op, ATOMIC, update, store)`: `op` is "add", "mul", "min" or "max",
`update` the operand, and `store` the plain statement `x[i] = combine(x[i], update)`, which LLVM runs as it stands.
Elements have 32 or 64 bits: narrower ones cannot be swapped without touching their neighbours, which may lie outside
the tensor.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tvm import tirx

ATOMIC = "plugin_autogen.atomic"
DTYPES = ("int32", "uint32", "int64", "uint64", "float32", "float64")
OPERATIONS = ("add", "mul", "min", "max")

_C_TYPES = {
    "int32": "int", "uint32": "unsigned int", "int64": "long long", "uint64": "unsigned long long",
    "float32": "float", "float64": "double",
}  # fmt: skip
_WORDS = {32: "unsigned int", 64: "unsigned long long"}
# NaN wins, as in numpy: a comparison with it is false, and `old != old` holds for nothing else.
_COMBINE = {
    "add": "old + update",
    "mul": "old * update",
    "min": "(old < update || old != old) ? old : update",
    "max": "(old > update || old != old) ? old : update",
}


def atomic_call(store: tirx.BufferStore, operation: str, update: tirx.Expr) -> tirx.Stmt:
    """The CUDA statement in the place of the plain `store`."""
    from tvm import tirx
    from tvm.backend.cuda.op import cuda_func_call

    dtype = str(store.buffer.dtype)
    if dtype not in DTYPES:
        raise TypeError(f"no atomic update of {dtype}")
    address = tirx.address_of(tirx.BufferLoad(store.buffer, store.indices))
    name = f"plugin_autogen_atomic_{operation}_{dtype}"
    return tirx.Evaluate(cuda_func_call(name, address, update, source_code=_source(name, operation, dtype)))


def order_changes_bits(source: str) -> bool:
    """Whether a kernel's result may depend on the order of its threads: rounded sums and products of floats do."""
    return re.search(r"plugin_autogen_atomic_(add|mul)_float", source) is not None


def _source(name: str, operation: str, dtype: str) -> str:
    """A device function `void name(void* address, T update)`."""
    c_type = _C_TYPES[dtype]
    head = f"static __device__ __forceinline__ void {name}(void* address, {c_type} update) {{\n"
    if operation == "add" and dtype != "float64":  # atomicAdd of double needs sm_60
        word = {"int64": "unsigned long long", "uint64": "unsigned long long"}.get(dtype, c_type)
        return head + f"  atomicAdd(({word}*)address, ({word})update);\n}}\n"
    word = _WORDS[64 if dtype.endswith("64") else 32]
    combine = _COMBINE[operation]
    return (
        head
        + f"""  {word}* word = ({word}*)address;
  {word} seen = *word;
  for (;;) {{
    union {{ {word} bits; {c_type} value; }} before, after;
    before.bits = seen;
    const {c_type} old = before.value;
    after.value = {combine};
    seen = atomicCAS(word, before.bits, after.bits);
    if (seen == before.bits) break;
  }}
}}
"""
    )

"""Functions that bring their own thread bindings (TVM's sort, top-k and scan) stay as they are."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tvm import tirx
    from tvm.target import Target


class Bound:
    """Applies where a thread binding is present already."""

    name = "bound"
    keeps_host_loops = True

    def apply(self, function: tirx.PrimFunc, target: Target) -> tirx.PrimFunc | None:
        return function if has_thread_binding(function.body) else None


def has_thread_binding(body: tirx.Stmt) -> bool:
    """Whether a loop is bound to threads or blocks, or a launch is written out."""
    import tvm_ffi
    from tvm import tirx

    found: list[bool] = []
    tvm_ffi.structural_walk(
        body,
        [
            (tirx.AttrStmt, lambda s: found.append(s.attr_key == "thread_extent")),
            (tirx.For, lambda s: found.append(s.kind == tirx.ForKind.THREAD_BINDING)),
        ],
    )
    return any(found)

"""What users add for operators of their own: Python converters, and functions written with onnxscript.

They come from the files of `--converters` and from packages that name a module in the entry point group
`plugin_autogen.converters`. A file is Python code and runs as such.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.metadata
import importlib.util
import re
import sys
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from plugin_autogen.errors import ConverterError, PluginAutogenError, shorten
from plugin_autogen.graph.model import Value
from plugin_autogen.lowering import registry

if TYPE_CHECKING:
    import onnx

ENTRY_POINTS = "plugin_autogen.converters"


@contextlib.contextmanager
def converters(files: Sequence[str | Path]) -> Iterator[list[onnx.FunctionProto]]:
    """Registers what installed packages and the files hold until the end of the block; gives their functions.

    Raises:
        ConverterError: a file or module is missing, fails, or registers nothing.
    """
    with registry.restored():
        functions: dict[tuple[str, str], onnx.FunctionProto] = {}
        for point in sorted(importlib.metadata.entry_points(group=ENTRY_POINTS), key=lambda p: p.name):
            what = f'the converters of the installed package, entry point "{shorten(point.name)}"'
            _collect(what, point.load, functions)
        for file in files:
            path = Path(file)
            _collect(f"--converters {shorten(path)}", functools.partial(_run, path), functions)
        yield list(functions.values())


def _collect(what: str, load: Callable[[], object], functions: dict[tuple[str, str], onnx.FunctionProto]) -> None:
    before = registry.count()
    try:
        module = load()
        found = _functions(module)
    except PluginAutogenError:
        raise
    except SystemExit as error:
        raise ConverterError(f"{what}: it ended the program (exit status {shorten(error.code, 40)})") from error
    except Exception as error:  # whatever a stranger's file raises
        place = f", line {line}" if (line := _line(error)) else ""
        raise ConverterError(f"{what}{place}: {type(error).__name__}: {shorten(error, 200)}") from error
    functions.update(((f.domain, f.name), f) for f in found)
    if registry.count() == before and not found:
        raise ConverterError(
            f"{what}: it registers no converter (plugin_autogen.converter) and holds no onnxscript function"
        )


def _run(path: Path) -> types.ModuleType:
    """The file as a module. Its neighbours can be imported from it."""
    if not path.is_file():
        raise ConverterError(f"--converters {shorten(path)}: no such file")
    name = "converters_" + re.sub(r"\W", "_", path.stem, flags=re.ASCII)
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ConverterError(f"--converters {shorten(path)}: not a Python file (*.py)")
    module = importlib.util.module_from_spec(spec)
    folder = str(path.resolve().parent)
    sys.path.insert(0, folder)
    sys.modules[name] = module  # onnxscript looks a function's source up through its module
    try:
        spec.loader.exec_module(module)
    finally:
        with contextlib.suppress(ValueError):
            sys.path.remove(folder)
    return module


def _line(error: BaseException) -> int | None:
    """The line of the user's file in which the error came up."""
    if isinstance(error, SyntaxError):
        return error.lineno
    trace = error.__traceback__
    line = None
    while trace is not None:
        if trace.tb_frame.f_globals.get("__name__", "").startswith("converters_"):
            line = trace.tb_lineno
        trace = trace.tb_next
    return line


def _functions(module: object) -> list[onnx.FunctionProto]:
    """The onnxscript functions among the module's names, and those that they call."""
    pending = [v for v in vars(module).values() if _is_onnxscript(v)] if isinstance(module, types.ModuleType) else []
    found: dict[tuple[str, str], onnx.FunctionProto] = {}
    while pending:
        function: Any = pending.pop()
        proto = function.to_function_proto()
        if (proto.domain, proto.name) not in found:
            found[proto.domain, proto.name] = proto
            pending += [f for f in function.function_ir.get_called_functions().values() if _is_onnxscript(f)]
    return list(found.values())


def _is_onnxscript(value: object) -> bool:
    # By name: onnxscript is imported by the user's file or not at all.
    return type(value).__name__ == "OnnxFunction" and type(value).__module__.startswith("onnxscript.")


def output_types(
    node: onnx.NodeProto, opset: int, inputs: Sequence[Value], constants: Mapping[str, onnx.TensorProto]
) -> list[Value] | None:
    """Types and shapes of the outputs of a node that ONNX does not know, found out by a trial of the user's converter.

    Args:
        node: the node.
        opset: the version of its domain.
        inputs: what is known of its inputs, in order.
        constants: values of the inputs that are constant, by name.

    Returns:
        None where no converter of a user's knows the operator.

    Raises:
        UnsupportedError: the converter cannot take these inputs.
    """
    entry = registry.find_entry(node.domain, node.op_type, opset)
    if entry is None or not entry.is_users:
        return None
    from plugin_autogen.lowering.importer import converted_types

    return converted_types(node, opset, inputs, constants)

"""The commands `onnx_to_plugin` and `plugin_autogen`: arguments in, tables and exit codes out."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import os
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from plugin_autogen.arguments import positive, tensor_ranges
from plugin_autogen.errors import PluginAutogenError, SelectionError, one_line, shorten
from plugin_autogen.printing import bytes_text, counted, new_table, print_table

if TYPE_CHECKING:
    from plugin_autogen.graph.shapes import ShapeRanges
    from plugin_autogen.inspection import Inspection
    from plugin_autogen.pipeline import GenerationResult
    from plugin_autogen.tuning import Tuning

EXIT_ERROR = 1
EXIT_INTERRUPTED = 130


def onnx_to_plugin_main(arguments: Sequence[str] | None = None) -> int:
    """`onnx_to_plugin`: TPAT's command."""
    return _guarded(lambda: _generate(_generate_parser("onnx_to_plugin").parse_args(arguments)))


def main(arguments: Sequence[str] | None = None) -> int:
    """`plugin_autogen generate|inspect|build|compare|bench`."""
    from plugin_autogen.cli_engine import add_engine_parsers

    parser = _Parser(prog="plugin_autogen", description="ONNX nodes to TensorRT plugins, and plugins to engines.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    generate = commands.add_parser("generate", help="the same as onnx_to_plugin", add_help=False)
    _add_generate_arguments(generate)
    generate.add_argument("-h", "--help", action="help", help="show this help and exit")
    generate.set_defaults(run=_generate)
    _add_inspect_parser(commands)
    add_engine_parsers(commands)

    def run() -> int:
        parsed = parser.parse_args(arguments)
        result: int = parsed.run(parsed)
        return result

    return _guarded(run)


class _Parser(argparse.ArgumentParser):
    """Errors in one line, the usage left to --help."""

    def error(self, message: str) -> NoReturn:
        raise PluginAutogenError(f"{self.prog}: {one_line(message)} (see {self.prog} --help)")


def _guarded(run: Callable[[], int]) -> int:
    """Runs a command; an error of ours is one line on stderr and a non-zero exit code."""
    if os.uname().machine == "aarch64":
        # Before numpy is imported: its OpenBLAS takes some Jetson boards for another core and dies of an instruction.
        os.environ.setdefault("OPENBLAS_CORETYPE", "ARMV8")
    try:
        return run()
    except PluginAutogenError as error:
        print(f"error: {one_line(error)}", file=sys.stderr)
        return EXIT_ERROR
    except KeyboardInterrupt:
        print("error: interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # The reader of our output is gone; what is left in the buffer has no place to go.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_ERROR


# onnx_to_plugin ------------------------------------------------------------------------------------------------------


def _generate_parser(prog: str) -> argparse.ArgumentParser:
    parser = _Parser(
        prog=prog,
        description="Turns nodes of an ONNX model into TensorRT plugins and rewrites the model to use them.",
        epilog='example: onnx_to_plugin -i model.onnx -o model_tpat.onnx -p \'{"node_name": "plugin_name"}\'',
    )
    _add_generate_arguments(parser)
    return parser


def _add_generate_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("-i", "--input_model_path", required=True, metavar="ONNX", help="the model")
    add("-o", "--output_model_path", required=True, metavar="ONNX", help="the model to write")
    add("-n", "--node_names", nargs="+", default=[], metavar="NAME", help="nodes to turn into plugins")
    add(
        "-t", "--node_types", nargs="+", default=[], metavar="TYPE", help="operators, all of whose nodes become plugins"
    )
    add(
        "-p",
        "--plugin_name_dict",
        metavar="JSON",
        help='node names and the names of their plugins: {"node": "plugin", "a,b,c": "one plugin of three nodes"}',
    )
    add(
        "--subgraph",
        action="append",
        default=[],
        metavar="INPUTS:OUTPUTS=NAME",
        help="the nodes between these tensors (names separated by commas) as one plugin, repeatable",
    )
    add("--fuse", action="store_true", help="selected nodes that feed each other become one plugin")
    _add_shape_arguments(parser)
    add(
        "--auto",
        action="store_true",
        help="all nodes that the target TensorRT's parser refuses (asked where it is installed, else by its tables)",
    )
    _add_tensorrt_argument(parser)
    _add_target_argument(parser)
    add(
        "--source_only",
        action="store_true",
        help="compile nothing; src/<library>/ builds with make or cmake where the plugins are needed",
    )
    add("--plugin_dir", metavar="DIR", help="gets lib/<name>.so and src/<name>/ (default: plugins beside the output)")
    add(
        "--library",
        metavar="NAME",
        help="all plugins in one lib/NAME.so (default: one library a plugin, or one tpat_plugins with --source_only)",
    )
    add(
        "--arch",
        action="append",
        default=[],
        metavar="ARCH",
        help="GPU to compile for, repeatable: sm_90, native, jetson-orin … (default: the target's, else all "
        "from sm_75 up, and PTX)",
    )
    add("--cuda_home", metavar="DIR", help="CUDA toolkit (default: CUDA_HOME, PATH, wheels, /usr/local/cuda)")
    add("--tensorrt_home", metavar="DIR", help="TensorRT with its headers (default: TENSORRT_HOME, system, our own)")
    add("--check", choices=["off", "cpu"], default="cpu", help="compare numbers with ONNX Runtime (default: cpu)")
    add(
        "--precision",
        choices=["fp32", "fp16", "bf16"],
        default="fp32",
        help="fp16, bf16: float32 plugins also take and give all their float32 tensors in that type, with kernels for "
        "it, and TensorRT chooses (default: fp32)",
    )
    _add_converters_argument(parser)
    _add_tuning_arguments(parser)
    add("--jobs", type=positive, metavar="N", help="compilers that run at once (default: number of CPUs)")
    add("--json", action="store_true", help="print the result as JSON instead of a table")
    add("-v", "--verbose", action="store_true", help="log what each stage decides")


def _add_tensorrt_argument(parser: argparse.ArgumentParser) -> None:
    from plugin_autogen import releases

    def known(text: str) -> str:
        try:
            releases.release(text)
        except PluginAutogenError as error:
            raise argparse.ArgumentTypeError(str(error)) from None
        return text

    parser.add_argument(
        "--tensorrt",
        type=known,
        metavar="RELEASE",
        help="TensorRT release to generate for: 8, 10, 11, rtx, or a minor one such as 8.5, whose table --auto then "
        "goes by (default: the target's, else the one that is installed, else 10)",
    )


def _add_target_argument(parser: argparse.ArgumentParser) -> None:
    from plugin_autogen.build import targets

    def known(text: str) -> str:
        try:
            targets.target(text)
        except PluginAutogenError as error:
            raise argparse.ArgumentTypeError(str(error)) from None
        return text

    parser.add_argument(
        "--target",
        type=known,
        metavar="BOARD",
        help=f"board to generate for: {targets.known()} (a JetPack release other than the usual one); sets --arch and "
        "--tensorrt, and --source_only on a machine of another kind",
    )


def _add_converters_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--converters",
        action="append",
        default=[],
        metavar="FILE",
        help="Python file with converters or onnxscript functions for operators of your own, repeatable; it is run",
    )


def _add_shape_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group(
        "dynamic shapes",
        "Dynamic dimensions of the model's own need no option: plugins take any size there. A range makes a fixed "
        "dimension dynamic, lets kernels use 32-bit indices where its maximum allows, and ends in the printed command.",
    ).add_argument
    shapes = "x:1x8x64,y:…, as trtexec has it"
    add("--minShapes", metavar="SHAPES", help=f"smallest shapes of any tensors: {shapes} (default: optShapes)")
    add("--optShapes", metavar="SHAPES", help="most usual shapes (default: maxShapes)")
    add("--maxShapes", metavar="SHAPES", help="largest shapes (default: optShapes)")
    add(
        "--specialize",
        action="store_true",
        help="kernels for the most usual shapes beside those for all; the shapes at hand decide which ones run",
    )
    add(
        "-dynamic",
        "--dynamic_batchsize",
        metavar="BOOL",
        help="true: the first dimension of what the nodes depend on is dynamic, whatever the model states "
        "(default false)",
    )
    add("-min", "--min_batchsize", type=int, metavar="N", help="smallest batch (default 1)")
    add("-max", "--max_batchsize", type=int, metavar="N", help="largest batch (default 256)")
    add("-opt", "--optimize_batchsize", type=int, metavar="N", help="most usual batch (default 128)")


def _add_tuning_arguments(parser: argparse.ArgumentParser) -> None:
    from plugin_autogen.tuning import DEFAULT_TRIALS

    add = parser.add_argument_group(
        "tuning",
        "Times candidates for each kernel on a GPU and keeps the fastest. Records stay in the database: an interrupted "
        "search goes on where it was, and --tuning_db alone uses what it found, without a GPU.",
    ).add_argument
    add(
        "--tune",
        type=positive,
        nargs="?",
        const=DEFAULT_TRIALS,
        metavar="TRIALS",
        help=f"candidates to time for each TIR function (default: {DEFAULT_TRIALS})",
    )
    add("--tuning_db", metavar="DIR", help="the database (default with --tune: one a device, in the user's cache)")
    add("--rpc_tracker", metavar="HOST:PORT", help="TVM's RPC tracker: tune on a board that is registered there")
    add("--rpc_key", metavar="KEY", help="the board's key at the tracker, such as jetson-orin")
    add("--rpc_cpu", metavar="TRIPLE", help="the board's CPU, such as aarch64-linux-gnu (default: this machine's)")


def _tuning(arguments: argparse.Namespace) -> Tuning | None:
    from plugin_autogen.tuning import Tracker, Tuning

    remote = [arguments.rpc_tracker, arguments.rpc_key, arguments.rpc_cpu]
    if arguments.tune is None:
        if any(value is not None for value in remote):
            raise SelectionError("--rpc_tracker, --rpc_key and --rpc_cpu are for tuning: give --tune too")
        return None if arguments.tuning_db is None else Tuning(0, Path(arguments.tuning_db))
    database = None if arguments.tuning_db is None else Path(arguments.tuning_db)
    if arguments.rpc_tracker is None and arguments.rpc_key is None and arguments.rpc_cpu is None:
        return Tuning(arguments.tune, database)
    if arguments.rpc_tracker is None or arguments.rpc_key is None:
        raise SelectionError("a board needs both --rpc_tracker and --rpc_key")
    host, _, port = arguments.rpc_tracker.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 1 << 16:
        raise SelectionError(f"--rpc_tracker takes HOST:PORT, not '{one_line(arguments.rpc_tracker)}'")
    return Tuning(arguments.tune, database, Tracker(host, int(port), arguments.rpc_key), arguments.rpc_cpu)


def _shape_ranges(arguments: argparse.Namespace) -> ShapeRanges:
    from plugin_autogen.graph.shapes import ShapeRanges, batch_range

    sizes = (arguments.min_batchsize, arguments.optimize_batchsize, arguments.max_batchsize)
    batch = batch_range(*sizes) if _is_true(arguments.dynamic_batchsize) else None
    return ShapeRanges(tensor_ranges(arguments), batch)


def _generate(arguments: argparse.Namespace) -> int:
    from plugin_autogen import api
    from plugin_autogen.graph.selection import parse_plugin_names

    if arguments.verbose:
        import logging

        logging.basicConfig(level=logging.WARNING, format="%(name)s: %(message)s")
        logging.getLogger("plugin_autogen").setLevel(logging.DEBUG)
    names = parse_plugin_names(arguments.plugin_name_dict) if arguments.plugin_name_dict is not None else None
    with _native_log_hidden(not arguments.verbose), _progress(not arguments.json) as progress:
        result = api.generate(
            arguments.input_model_path,
            arguments.output_model_path,
            node_names=arguments.node_names or None,
            node_types=arguments.node_types or None,
            plugin_names=names,
            subgraphs=arguments.subgraph,
            auto=arguments.auto,
            fuse=arguments.fuse,
            tensorrt=arguments.tensorrt,
            target=arguments.target,
            source_only=arguments.source_only,
            plugin_dir=arguments.plugin_dir,
            library=arguments.library,
            architectures=arguments.arch,
            cuda_home=arguments.cuda_home,
            tensorrt_home=arguments.tensorrt_home,
            check=arguments.check,
            jobs=arguments.jobs,
            converters=arguments.converters,
            shapes=_shape_ranges(arguments),
            tuning=_tuning(arguments),
            precision=arguments.precision,
            specialize=arguments.specialize,
            progress=progress,
        )
    if arguments.json:
        print(json.dumps(_as_json(result), indent=1))
    else:
        _print_result(result)
    return 0


def _is_true(text: str | None) -> bool:
    lowered = (text or "false").strip().lower()
    if lowered not in ("true", "1", "yes", "false", "0", "no"):
        raise SelectionError(f"-dynamic takes true or false, not '{one_line(text)}'")
    return lowered in ("true", "1", "yes")


def _as_json(result: GenerationResult | Inspection) -> dict[str, Any]:
    def plain(value: Any) -> Any:
        if isinstance(value, Path):
            return str(value)
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
        if isinstance(value, (list, tuple)):
            return [plain(v) for v in value]
        if isinstance(value, dict):
            return {k: plain(v) for k, v in value.items()}
        return value

    data = plain(result)
    assert isinstance(data, dict)
    return data


@contextlib.contextmanager
def _native_log_hidden(wanted: bool) -> Iterator[None]:
    """TVM's libraries write warnings straight to file descriptor 2, past Python; what we print still goes there."""
    try:
        if not wanted or sys.stderr.fileno() != 2:
            yield
            return
    except (OSError, ValueError):  # a stderr without a file
        yield
        return
    python_stderr, saved = sys.stderr, os.dup(2)
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)
    os.close(null)
    sys.stderr = os.fdopen(saved, "w", buffering=1, errors="backslashreplace", closefd=False)
    try:
        yield
    finally:
        sys.stderr.flush()
        sys.stderr = python_stderr
        os.dup2(saved, 2)
        os.close(saved)


class _progress:
    """A progress bar on a terminal's stderr; silent elsewhere."""

    def __init__(self, wanted: bool) -> None:
        self._bar: Any = None
        self._task: Any = None
        self._wanted = wanted and sys.stderr.isatty()

    def __enter__(self) -> Callable[[str, int, int], None]:
        if self._wanted:
            from rich.console import Console
            from rich.progress import Progress

            self._bar = Progress(console=Console(stderr=True), transient=True)
            self._task = self._bar.add_task("", total=1)
            self._bar.start()
        return self._update

    def _update(self, what: str, done: int, total: int) -> None:
        if self._bar is not None:
            self._bar.update(self._task, description=what[:60], completed=done, total=total)

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()


def _print_result(result: GenerationResult) -> None:
    for warning in result.warnings:
        print(f"warning: {one_line(warning)}", file=sys.stderr)
    table = new_table(
        f"{counted(result.plugins, 'plugin')} for {counted(result.node_plugins, 'node')}",
        "plugin",
        "operator",
        "types",
        right=("nodes", "kernels", "launches", "workspace", "constants", "error", "seconds"),
    )
    for plugin in result.plugins:
        table.add_row(
            one_line(plugin.name),
            one_line(", ".join(plugin.operators)),
            f"{_types(plugin.input_types)} -> {_types(plugin.output_types)}"
            + (f", or {plugin.precision}" if plugin.precision is not None else ""),
            str(len(plugin.nodes)),
            str(plugin.kernels),
            "dynamic" if plugin.launches is None else str(plugin.launches),
            "dynamic" if plugin.workspace_bytes is None else bytes_text(plugin.workspace_bytes),
            bytes_text(plugin.constant_bytes),
            ", ".join(f"{c.relative:.1e}" for c in (plugin.check, plugin.narrow_check) if c is not None)
            or "not checked",
            f"{plugin.seconds:.1f}",
        )
    print_table(table)
    if any(plugin.tuned for plugin in result.plugins):
        print(f"tuned      {sum(plugin.tuned for plugin in result.plugins)} TIR functions")
    print(f"model      {one_line(result.model)}")
    for library in result.libraries[:8]:
        print(f"library    {one_line(library)}")
    if len(result.libraries) > 8:
        print(f"           … and {len(result.libraries) - 8} more in {one_line(result.libraries[0].parent)}")
    print(f"sources    {one_line(result.sources[0].parent)}")
    print(f"took       {result.seconds:.1f} s")
    label = "next" if result.libraries else "there"
    for command in (*result.build_commands, result.command):
        print(f"{label:10} " + " ".join(shlex.quote(word) for word in command))


def _types(names: Sequence[str]) -> str:
    return ", ".join(dict.fromkeys(names)) or "-"


# plugin_autogen inspect ----------------------------------------------------------------------------------------------


def _add_inspect_parser(commands: Any) -> None:
    parser = commands.add_parser(
        "inspect",
        help="list a model's nodes: what TensorRT takes, what could be generated",
        description="Lists the nodes of a model: types and shapes, whether TensorRT imports them, and what a plugin of "
        "them would be generated from.",
    )
    parser.add_argument("-i", "--input_model_path", required=True, metavar="ONNX", help="the model")
    _add_tensorrt_argument(parser)
    _add_target_argument(parser)
    _add_converters_argument(parser)
    parser.add_argument("--all", action="store_true", help="one row a node, also of those that TensorRT takes")
    parser.add_argument("--json", action="store_true", help="print every node as JSON")
    parser.set_defaults(run=_inspect)


def _inspect(arguments: argparse.Namespace) -> int:
    from plugin_autogen import api, releases
    from plugin_autogen.build import targets
    from plugin_autogen.inspection import inspect

    version = arguments.tensorrt or (targets.target(arguments.target).tensorrt if arguments.target else None)
    release = releases.release(version) if version else api.default_release()
    with _native_log_hidden(True):
        inspection = inspect(Path(arguments.input_model_path), release, [Path(p) for p in arguments.converters])
    if arguments.json:
        print(json.dumps(_as_json(inspection), indent=1))
    else:
        _print_inspection(inspection, arguments.all)
    return 0


def _print_inspection(inspection: Inspection, every: bool) -> None:
    from collections import Counter

    for warning in inspection.warnings:
        print(f"warning: {one_line(warning)}", file=sys.stderr)
    refused = [node for node in inspection.nodes if not node.supported]
    counts = Counter((n.operator, n.supported, n.lowered_by) for n in inspection.nodes)
    print(f"{counted(inspection.nodes, 'node')}, {len(refused)} of them not taken by {one_line(inspection.judge)}")
    table = new_table("operators", "operator", "TensorRT", "plugin from", right=("nodes",))
    for (operator, supported, source), number in sorted(counts.items(), key=lambda item: (item[0][1], item[0][0])):
        table.add_row(shorten(operator), "yes" if supported else "no", source or "nothing", str(number))
    print_table(table)
    shown = inspection.nodes if every else refused
    if not shown:
        return
    table = new_table(
        "nodes" if every else "nodes that are not taken", "node", "operator", "inputs", "outputs", "why not"
    )
    for node in shown:
        inputs, outputs = ", ".join(node.inputs), ", ".join(node.outputs)
        table.add_row(
            shorten(node.name),
            shorten(node.operator),
            shorten(inputs),
            shorten(outputs),
            shorten(node.reason or "", 200),
        )
    print_table(table)


if __name__ == "__main__":
    sys.exit(main())

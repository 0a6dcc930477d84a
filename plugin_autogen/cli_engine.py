"""The commands `plugin_autogen build`, `compare` and `bench`: engines out of rewritten models."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from plugin_autogen.arguments import not_negative, positive, size, tensor_ranges
from plugin_autogen.errors import SelectionError, one_line, shorten
from plugin_autogen.printing import bytes_text, counted, new_table, print_table

if TYPE_CHECKING:
    from plugin_autogen.engine.bench import BenchReport, Measurement
    from plugin_autogen.engine.build import EngineReport
    from plugin_autogen.engine.compare import ComparisonReport
    from plugin_autogen.engine.options import BuildOptions, Inputs, Profile
    from plugin_autogen.verify.compare import Tolerance

EXIT_DIFFERENT = 1
"""The exit code of `compare` when an output is wrong."""
_LAYERS = 20
"""Layers that `bench` shows; --json has all."""


def add_engine_parsers(commands: Any) -> None:
    """Adds the three commands to the subparsers."""
    build = commands.add_parser(
        "build",
        help="build a TensorRT engine from a model with plugins",
        description="Builds a TensorRT or TensorRT-RTX engine from a model with plugins.",
    )
    build.add_argument("-i", "--input_model_path", required=True, metavar="ONNX", help="the rewritten model")
    build.add_argument("-o", "--output_engine_path", metavar="ENGINE", help="the engine to write (default: none)")
    _add_build_arguments(build)
    _add_input_arguments(build.add_argument_group("calibration for --precision int8"), "representative inputs")
    build.set_defaults(run=_build)

    compare = commands.add_parser(
        "compare",
        help="compare a model with plugins, in TensorRT, with the original one in ONNX Runtime",
        description="Runs the original model in ONNX Runtime and the rewritten one in TensorRT on the same inputs, and "
        "says how far each output is off; exit code 1 when one is too far.",
    )
    compare.add_argument("-i", "--input_model_path", required=True, metavar="ONNX", help="the rewritten model")
    compare.add_argument("--original", required=True, metavar="ONNX", help="the model that it was made from")
    _add_build_arguments(compare)
    _add_run_arguments(compare)
    compare.add_argument("--rtol", type=not_negative, metavar="X", help="allowed, as a share of the reference value")
    compare.add_argument(
        "--atol",
        type=not_negative,
        metavar="X",
        help="allowed besides, in the output's unit (default for both: what the output's type and --precision allow)",
    )
    compare.add_argument(
        "--first-differing-node",
        action="store_true",
        help="also compare the tensors between the nodes, and name the first node whose output differs",
    )
    compare.add_argument("--save_outputs", metavar="DIR", help="gets N.reference.npz and N.engine.npz for each set")
    compare.set_defaults(run=_compare)

    bench = commands.add_parser(
        "bench",
        help="time a model with plugins, layer by layer, beside the original one",
        description="Times the engine of the rewritten model, and of the original one where TensorRT takes that. "
        "Inputs and outputs lie on the GPU; copies are not counted.",
    )
    bench.add_argument("-i", "--input_model_path", required=True, metavar="ONNX", help="the rewritten model")
    bench.add_argument("--original", metavar="ONNX", help="the model that it was made from, to time it natively")
    _add_build_arguments(bench)
    _add_run_arguments(bench)
    bench.add_argument(
        "--duration", type=not_negative, default=3.0, metavar="S", help="seconds of each measurement (default: 3)"
    )
    bench.add_argument("--iterations", type=positive, default=10, metavar="N", help="executions at least (default: 10)")
    bench.add_argument(
        "--warmUp", type=not_negative, default=200.0, metavar="MS", help="milliseconds before it (default: 200)"
    )
    bench.add_argument("--useCudaGraph", action="store_true", help="time the launches of a CUDA graph")
    bench.set_defaults(run=_bench)


def _add_build_arguments(parser: argparse.ArgumentParser) -> None:
    from plugin_autogen.engine.options import HARDWARE_COMPATIBILITY, Precision

    add = parser.add_argument
    add(
        "--plugins",
        "--staticPlugins",
        nargs="+",
        action="extend",
        default=[],
        metavar="PATH",
        help="plugin libraries, or folders with .so files in them (default: those that the model's metadata names)",
    )
    for which, what in (("min", "smallest"), ("opt", "most usual"), ("max", "largest")):
        add(
            f"--{which}Shapes",
            metavar="SHAPES",
            help=f"{what} shapes of dynamic inputs: x:1x8x64,y:…, as trtexec has it (default: 1 for each dimension)",
        )
    add("--builder", choices=["tensorrt", "rtx"], help="default: what is installed, TensorRT first")
    add(
        "--precision",
        nargs="+",
        default=[],
        choices=[p.value for p in Precision],
        help="types that the builder may compute in besides fp32; TensorRT 11 and TensorRT-RTX keep to the model's own",
    )
    add("--stronglyTyped", action="store_true", help="compute in the model's own types (TensorRT 10; later ones do)")
    add("--calib", metavar="FILE", help="int8 calibration cache: read where it exists, else written")
    add("--workspace", type=size, metavar="BYTES", help="memory that a layer may use at most: 512M, 1G")
    add("--timingCacheFile", metavar="FILE", help="the builder's measurements: read where it exists, and written")
    add("--versionCompatible", action="store_true", help="later versions of TensorRT load the engine too")
    add(
        "--hardwareCompatibilityLevel",
        choices=list(HARDWARE_COMPATIBILITY),
        help="GPUs other than this one run the engine too",
    )
    add(
        "--tacticSources",
        metavar="NAMES",
        help="libraries whose kernels the builder may use, separated by commas, or none: leave out CUBLAS, CUBLAS_LT "
        "and CUDNN where they are not installed",
    )
    add("--json", action="store_true", help="print the report as JSON")


def _add_run_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "-e", "--engine", metavar="ENGINE", help="an engine of the rewritten model (default: it is built, and not kept)"
    )
    group = parser.add_argument_group("inputs", "random numbers in [0, 1) by default, 0 and 1 for integers")
    _add_input_arguments(group, "inputs")
    group.add_argument("--shapes", metavar="SHAPES", help="of random inputs: x:1x8x64 (default: the engine's best)")
    group.add_argument("--sets", type=positive, default=1, metavar="N", help="how many random sets (default: 1)")
    group.add_argument("--seed", type=int, default=0, metavar="N", help="of the random numbers (default: 0)")


def _add_input_arguments(group: Any, what: str) -> None:
    group.add_argument(
        "--inputs",
        nargs="+",
        default=[],
        metavar="NPZ",
        help=f"{what}: each file is one set, with an array for each input under its name",
    )
    group.add_argument(
        "--data_loader",
        metavar="FILE[:FUNCTION]",
        help=f"{what}: a Python file, run here, whose function (default: load_data) yields one dict of arrays a set",
    )


def _inputs(arguments: argparse.Namespace) -> Inputs | None:
    """None where nothing names any."""
    from plugin_autogen.engine.options import Inputs
    from plugin_autogen.graph.shapes import parse_shapes

    if arguments.inputs and arguments.data_loader:
        raise SelectionError("--inputs and --data_loader both name the inputs: give one of them")
    script, function = None, "load_data"
    if arguments.data_loader is not None:
        path, colon, name = arguments.data_loader.rpartition(":")
        script, function = (
            (Path(path), name) if colon and name.isidentifier() else (Path(arguments.data_loader), function)
        )
    if arguments.command == "build":
        return Inputs(tuple(map(Path, arguments.inputs)), script, function) if arguments.inputs or script else None
    return Inputs(
        tuple(map(Path, arguments.inputs)),
        script,
        function,
        parse_shapes(arguments.shapes, "--shapes") if arguments.shapes is not None else {},
        arguments.sets,
        arguments.seed,
    )


def _options(arguments: argparse.Namespace, calibration: Inputs | None) -> BuildOptions:
    from plugin_autogen.engine.options import BuildOptions, Precision

    sources = None
    if arguments.tacticSources is not None:
        sources = () if arguments.tacticSources == "none" else tuple(arguments.tacticSources.split(","))
    return BuildOptions(
        precisions=frozenset(map(Precision, arguments.precision)),
        strongly_typed=arguments.stronglyTyped,
        workspace=arguments.workspace,
        timing_cache=Path(arguments.timingCacheFile) if arguments.timingCacheFile else None,
        version_compatible=arguments.versionCompatible,
        hardware_compatibility=arguments.hardwareCompatibilityLevel,
        tactic_sources=sources,
        calibration=calibration,
        calibration_cache=Path(arguments.calib) if arguments.calib else None,
    )


def _profile(arguments: argparse.Namespace) -> Profile:
    return {name: (r.min, r.opt, r.max) for name, r in tensor_ranges(arguments).items()}


def _print_json(report: Any) -> None:
    print(json.dumps(dataclasses.asdict(report), indent=1, default=str))


# build ---------------------------------------------------------------------------------------------------------------


def _build(arguments: argparse.Namespace) -> int:
    from plugin_autogen.engine.build import build_engine

    report = build_engine(
        Path(arguments.input_model_path),
        Path(arguments.output_engine_path) if arguments.output_engine_path else None,
        list(map(Path, arguments.plugins)),
        arguments.builder,
        _profile(arguments),
        _options(arguments, _inputs(arguments)),
    )
    if arguments.json:
        _print_json(report)
    else:
        _print_engine(report)
    return 0


def _print_engine(report: EngineReport) -> None:
    for warning in report.warnings:
        print(f"warning: {one_line(warning)}", file=sys.stderr)
    table = new_table(
        f"{counted(report.plugins, 'plugin')} taken by {report.builder}", "plugin", "library", right=("nodes", "layers")
    )
    for plugin in report.plugins:
        library = plugin.library.name if plugin.library is not None else "TensorRT's own"
        table.add_row(one_line(plugin.op_type), one_line(library), str(len(plugin.nodes)), str(len(plugin.layers)))
    print_table(table)
    print(f"network    {report.layers} layer{'s' * (report.layers != 1)}")
    if report.engine is not None:
        print(f"engine     {one_line(report.engine)} ({bytes_text(report.bytes)})")
    print(f"took       {report.seconds:.1f} s")


# compare -------------------------------------------------------------------------------------------------------------


def _compare(arguments: argparse.Namespace) -> int:
    from plugin_autogen.engine.compare import compare_engine

    report = compare_engine(
        Path(arguments.input_model_path),
        Path(arguments.original),
        list(map(Path, arguments.plugins)),
        engine=Path(arguments.engine) if arguments.engine else None,
        builder=arguments.builder,
        profile=_profile(arguments),
        options=_options(arguments, None),
        inputs=_inputs(arguments),
        tolerance=_tolerance(arguments),
        first_differing_node=arguments.first_differing_node,
        save_outputs=Path(arguments.save_outputs) if arguments.save_outputs else None,
    )
    if arguments.json:
        _print_json(report)
    else:
        print_comparison(report)
    return 0 if report.is_equal else EXIT_DIFFERENT


def _tolerance(arguments: argparse.Namespace) -> Tolerance | None:
    from plugin_autogen.verify.compare import Tolerance

    if arguments.rtol is None and arguments.atol is None:
        return None
    return Tolerance(relative=arguments.rtol or 0.0, absolute=arguments.atol or 0.0)


def print_comparison(report: ComparisonReport) -> None:
    """The table of `compare`."""
    right = ("largest error", "relative")
    table = new_table(f"{report.builder} against ONNX Runtime", "output", "type", "shape", "verdict", right=right)
    for output in report.outputs:
        table.add_row(
            shorten(output.name),
            output.dtype,
            "x".join(map(str, output.shape)) or "scalar",
            "within tolerance" if output.message is None else "DIFFERS",
            f"{output.absolute:.2e}",
            f"{output.relative:.2e}",
        )
    print_table(table)
    for output in report.outputs:
        if output.message is not None:
            print(f"output     '{shorten(output.name)}': {one_line(output.message)}")
    if report.tensors is None:
        return
    first = report.first_differing
    if first is None:
        print(f"nodes      none differs in the {report.tensors} tensors between them that both models have")
    else:
        what = f"{'plugin ' if first.is_plugin else ''}{shorten(first.op_type)}"
        print(
            f"nodes      the first that differs is '{shorten(first.node)}' ({what}): tensor "
            f"'{shorten(first.output.name)}', {one_line(first.output.message or '')}"
        )


# bench ---------------------------------------------------------------------------------------------------------------


def _bench(arguments: argparse.Namespace) -> int:
    from plugin_autogen.engine.bench import bench_engine

    report = bench_engine(
        Path(arguments.input_model_path),
        Path(arguments.original) if arguments.original else None,
        list(map(Path, arguments.plugins)),
        engine=Path(arguments.engine) if arguments.engine else None,
        builder=arguments.builder,
        profile=_profile(arguments),
        options=_options(arguments, None),
        inputs=_inputs(arguments),
        seconds=arguments.duration,
        runs=arguments.iterations,
        warm_up=arguments.warmUp / 1000,
        cuda_graph=arguments.useCudaGraph,
    )
    if arguments.json:
        _print_json(report)
    else:
        print_bench(report)
    return 0


def print_bench(report: BenchReport) -> None:
    """The tables of `bench`."""
    right = ("median µs", "p99 µs", "executions/s", "plugins' share", "timed")
    table = new_table(f"times under {report.builder}", "engine", right=right)
    measured: list[tuple[str, Measurement]] = [("with plugins", report.plugins)]
    if report.native is not None:
        measured.append(("native", report.native))
    for name, one in measured:
        share = f"{100 * one.plugin_share:.0f} %" if one.layers else "-"
        table.add_row(name, f"{one.median:.1f}", f"{one.p99:.1f}", f"{one.throughput:.0f}", share, str(one.runs))
    print_table(table)
    if report.native is not None:
        print(f"plugins    {report.native.median / report.plugins.median:.2f} times as fast as native")
    if report.refusal is not None:
        print(f"native     {one_line(report.refusal)}")
    slowest = sorted(report.plugins.layers, key=lambda layer: -layer.microseconds)[:_LAYERS]
    if slowest:
        shown = f"the {len(slowest)} slowest of {counted(report.plugins.layers, 'layer')}"
        table = new_table(shown, "layer", "plugin", right=("µs", "share"))
        for layer in slowest:
            name = shorten(layer.name)
            table.add_row(
                name, "plugin" if layer.is_plugin else "", f"{layer.microseconds:.1f}", f"{100 * layer.share:.1f} %"
            )
        print_table(table)

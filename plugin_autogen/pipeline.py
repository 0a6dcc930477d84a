"""The order of the stages: model → selection → subgraphs → plans → sources → libraries → rewritten model."""

from __future__ import annotations

import contextlib
import enum
import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from plugin_autogen import dtypes
from plugin_autogen.build.targets import TRTEXEC, Target
from plugin_autogen.codegen import expr as ex
from plugin_autogen.codegen.plan import KernelPlan, PluginPlan, as_variants, launches
from plugin_autogen.dtypes import ElementType
from plugin_autogen.errors import CheckError, OutputError, PluginAutogenError, SelectionError, UnsupportedError, shorten
from plugin_autogen.graph.shapes import ShapeRange, ShapeRanges, profile_options
from plugin_autogen.releases import Interface, Release
from plugin_autogen.tuning import Tuning

if TYPE_CHECKING:
    import onnx

    from plugin_autogen.build.architectures import Architectures
    from plugin_autogen.build.compile import LibrarySource
    from plugin_autogen.graph.extract import Extraction
    from plugin_autogen.graph.model import Model
    from plugin_autogen.graph.selection import Selection
    from plugin_autogen.graph.subgraph import Subgraph
    from plugin_autogen.tuning.choose import Choose
    from plugin_autogen.verify.cpu import CheckResult


class Check(enum.Enum):
    """How the numbers of a generated plugin are checked."""

    OFF = "off"
    CPU = "cpu"
    """The lowered function, compiled for the CPU, against ONNX Runtime or ONNX's reference evaluator."""


SOURCE_LIBRARY = "tpat_plugins"
"""The one library of all plugins where nothing is compiled here: one folder to build on the board."""


@dataclass(frozen=True)
class Options:
    """What to generate for, and where to.

    Attributes:
        release: the TensorRT release.
        plugin_dir: gets `lib/<name>.so` and `src/<name>/`.
        library: name of one library for all plugins; None: each plugin has a library of its own.
        architectures: values of `--arch`; none means all that the compiler knows from sm_75 up.
        cuda_home: the CUDA toolkit; None: search.
        tensorrt_home: TensorRT's headers; None: search, else our own interface declarations.
        check: how numbers are checked.
        jobs: compilers that run at once; None: the number of CPUs.
        converters: Python files with the user's own converters and onnxscript functions.
        shapes: ranges of dynamic dimensions.
        tuning: the search for faster schedules, or what an earlier one chose; None: default schedules.
        precision: the narrower type (float16, bfloat16) in which plugins offer their float32 borders too; None: none.
        specialize: plugins with dynamic shapes get kernels for the best sizes beside those for all.
        target: the board that the plugins are for, where it was named; `release` and `architectures` are its own then.
        source_only: compile nothing; the library is made of the source, on the machine that needs it.
    """

    release: Release
    plugin_dir: Path
    library: str | None = None
    architectures: tuple[str, ...] = ()
    cuda_home: str | None = None
    tensorrt_home: str | None = None
    check: Check = Check.CPU
    jobs: int | None = None
    converters: tuple[Path, ...] = ()
    shapes: ShapeRanges = field(default_factory=ShapeRanges)
    tuning: Tuning | None = None
    precision: ElementType | None = None
    specialize: bool = False
    target: Target | None = None
    source_only: bool = False


@dataclass(frozen=True)
class PluginReport:
    """One generated plugin.

    Attributes:
        name: the plugin's, which is its operator in the rewritten model.
        nodes: names of the nodes that it replaces.
        operators: their ONNX operators, each once.
        kernels: number of CUDA kernels.
        tuned: how many of its TIR functions have a schedule that tuning found.
        launches: kernel launches of one enqueue; None where a loop bound is known only at run time.
        input_types: element types at the border.
        output_types: likewise.
        workspace_bytes: None where it depends on dynamic dimensions.
        constant_bytes: of the tensors that live on the device.
        check: the errors against the reference; None with `--check off`, and for an operator that nothing else knows.
        precision: the narrower type that its float32 borders may have instead, all of them; None where there is none.
        narrow_check: the errors of the kernels for that type, as `check`.
        optimum: with `--specialize`, the sizes of dynamic dimensions that kernels of their own are made for, in the
            order of the inputs; None where there are none.
        seconds: of lowering, scheduling and checking; compilation is counted for the libraries.
    """

    name: str
    nodes: tuple[str, ...]
    operators: tuple[str, ...]
    kernels: int
    tuned: int
    launches: int | None
    input_types: tuple[str, ...]
    output_types: tuple[str, ...]
    workspace_bytes: int | None
    constant_bytes: int
    check: CheckResult | None
    precision: str | None
    narrow_check: CheckResult | None
    optimum: tuple[int, ...] | None
    seconds: float


@dataclass(frozen=True)
class GenerationResult:
    """What a run made.

    Attributes:
        model: the rewritten ONNX model.
        plugins: in the order of their first use.
        libraries: the `.so` files; none where only the source was wanted.
        sources: folder of each plugin's and library's source, a project for CMake and make.
        node_plugins: node name → plugin name.
        release: key of the TensorRT release.
        warnings: one line each.
        seconds: wall clock.
        command: the command line that builds an engine from the result.
        build_commands: those that come before it, where only the source was wanted.
    """

    model: Path
    plugins: tuple[PluginReport, ...]
    libraries: tuple[Path, ...]
    sources: tuple[Path, ...]
    node_plugins: Mapping[str, str]
    release: str
    warnings: tuple[str, ...]
    seconds: float
    command: tuple[str, ...]
    build_commands: tuple[tuple[str, ...], ...] = ()

    @property
    def plugin_names(self) -> list[str]:
        """Names of the plugins, each once."""
        return [plugin.name for plugin in self.plugins]


Progress = Callable[[str, int, int], None]
"""Called with what is being done, how many of its parts are done, and how many there are."""


@dataclass(frozen=True)
class _Lowered:
    plan: PluginPlan
    checks: tuple[CheckResult, ...]
    seconds: float = field(compare=False)


def run(
    input_model: Path,
    output_model: Path,
    options: Options,
    selection: Selection,
    progress: Progress = lambda what, done, total: None,
) -> GenerationResult:
    """Generates plugins for the selected nodes and writes libraries, sources and the rewritten model.

    Either all files appear or none: libraries and sources are made in scratch folders, the model is written last.

    Raises:
        PluginAutogenError: one of its kinds; nothing was written then.
    """
    from plugin_autogen.lowering.custom import converters

    with converters(options.converters) as functions:
        return _run(input_model, output_model, options, selection, functions, progress)


def _run(
    input_model: Path,
    output_model: Path,
    options: Options,
    selection: Selection,
    functions: Sequence[onnx.FunctionProto],
    progress: Progress,
) -> GenerationResult:
    from plugin_autogen.build.architectures import resolve
    from plugin_autogen.build.compile import compile_many
    from plugin_autogen.build.toolchain import find_tensorrt_headers, find_toolchain
    from plugin_autogen.graph.dynamic import with_dynamic_shapes
    from plugin_autogen.graph.extract import extract
    from plugin_autogen.graph.model import load_model
    from plugin_autogen.graph.rewrite import name_libraries, rewrite, save_model
    from plugin_autogen.graph.selection import select
    from plugin_autogen.lowering.custom import output_types
    from plugin_autogen.tuning.choose import chooser

    start = time.monotonic()
    _check_precision(options)
    _check_paths(input_model, output_model, options)
    progress("reading the model", 0, 1)
    model = load_model(input_model, functions, output_types)
    requests = select(
        model,
        selection.node_names,
        selection.node_types,
        selection.plugin_names,
        selection.subgraphs,
        selection.fuse,
        _refused_nodes(model, selection, options.release) if selection.auto else (),
    )
    dynamic = with_dynamic_shapes(model, requests, options.shapes)
    model = dynamic.model
    if options.library is not None:
        _check_library_name(options.library)
    # Before the long part: a missing compiler must not be found out at its end.
    toolchain = None if options.source_only else find_toolchain(options.cuda_home)
    headers = find_tensorrt_headers(options.release, options.tensorrt_home) if toolchain else None
    architectures = resolve(options.architectures, toolchain)
    choose = None
    if options.tuning is not None:
        compiler = toolchain or find_toolchain(options.cuda_home)  # candidates are compiled here, whatever is kept
        choose = chooser(options.tuning, compiler, options.jobs, progress)
    extraction = extract(model, requests, options.release, allow_symbolic=True, ranges=dynamic.ranges)

    oldest = min(architectures.oldest, options.release.oldest_arch)
    lowered: dict[str, _Lowered] = {}
    for i, subgraph in enumerate(extraction.subgraphs):
        progress(f"lowering {subgraph.name}", i, len(extraction.subgraphs))
        lowered[subgraph.name] = _lower(subgraph, options, oldest, choose)
    plans = {name: result.plan for name, result in lowered.items()}

    with _staging(options.plugin_dir) as staging:
        sources = _write_sources(plans, options, architectures, staging / "src")
        if toolchain and headers:
            progress("compiling", 0, len(sources))
            compile_many(sources, staging / "lib", toolchain, headers, architectures, options.jobs)
        sizes = {
            s.name: [t.dtype for t in plans[s.name].default.outputs[len(s.outputs) :]] for s in extraction.subgraphs
        }
        rewritten = rewrite(model, extraction, {name: plan.fingerprint for name, plan in plans.items()}, sizes)
        folders = [options.plugin_dir / "src" / source.name for source in sources]
        if options.source_only:
            built = tuple(folder / "build" / f"{folder.name}.so" for folder in folders)
        else:
            built = tuple(options.plugin_dir / "lib" / f"{folder.name}.so" for folder in folders)
        name_libraries(rewritten, built, output_model.parent)
        published = _publish(staging, options.plugin_dir)
        try:
            save_model(rewritten, output_model, model.base_dir)
        except BaseException:
            published.undo()
            raise
        published.commit()
    progress("done", 1, 1)
    return GenerationResult(
        model=output_model,
        plugins=tuple(_report(extraction, s, lowered[s.name]) for s in extraction.subgraphs),
        libraries=() if options.source_only else built,
        sources=tuple(
            sorted({options.plugin_dir / "src" / f.name for s in sources for f in (*s.plugin_folders, s.folder)})
        ),
        node_plugins={node: use.plugin for use in extraction.uses for node in use.node_names},
        release=options.release.key,
        warnings=tuple(
            w
            for w in (
                *model.warnings,
                *dynamic.warnings,
                *extraction.warnings,
                *_precision_warnings(extraction, options),
                *_operand_warnings(lowered),
                *_specialization_warnings(extraction, options),
                headers.note if headers else "",
            )
            if w
        ),
        seconds=time.monotonic() - start,
        command=_engine_command(output_model, built, options, dynamic.profile),
        build_commands=tuple(("make", "-C", str(f)) for f in folders) if options.source_only else (),
    )


def _refused_nodes(model: Model, selection: Selection, release: Release) -> list[str]:
    """The nodes that `--auto` selects."""
    from plugin_autogen.graph.support import find_support

    support = find_support(model, release)
    if not support.refused and not selection.names_something:
        raise SelectionError(f"{support.judge} takes every node of the model: there is nothing to generate")
    return list(support.refused)


def build_plugin_plan(
    subgraph: Subgraph,
    check: Check,
    oldest_arch: int | None = None,
    precision: ElementType | None = None,
    specialize: bool = False,
    choose: Choose | None = None,
    interface: Interface = Interface.V3,
) -> tuple[PluginPlan, tuple[CheckResult, ...]]:
    """One subgraph through lowering, the check of numbers, tuning, scheduling and planning.

    Args:
        interface: decides what becomes of dimensions that depend on the data.
        oldest_arch: the oldest compute capability (75 for 7.5) that the kernels must run on; None: the default.
        precision: the type of a second variant's borders where the first one's are float32; None: one variant alone.
        specialize: each of these variants gets another one for the sizes of `subgraph.optimum`, where there are such.
        choose: gives what tuning chose; None: default schedules.

    Returns:
        the plan, and what the check of each variant said; nothing where there is no reference, or no check is wanted.

    Raises:
        UnsupportedError, CheckError: without the name of the user's node; `run` adds it.
    """
    narrow = subgraph.in_precision(precision) if precision is not None else None
    variants = [subgraph] if narrow is None else [subgraph, narrow]
    plans, results = _build_variants(variants, check, oldest_arch, choose, interface)
    optimum = subgraph.optimum if specialize else None
    # of these no size but those of the inputs is known before the plugin runs
    if optimum is not None and not plans[0].data_sizes and not plans[0].shape_inputs:
        specialized = [variant.at_sizes(optimum) for variant in variants]
        made, found = _build_variants(specialized, check, oldest_arch, choose, interface)
        sizes = tuple(optimum[symbol] for symbol in optimum)
        plans += [replace(plan, sizes=sizes) for plan in made]
        results += found
    return PluginPlan(subgraph.name, as_variants(plans)), tuple(results)


def _build_variants(
    subgraphs: Sequence[Subgraph], check: Check, oldest_arch: int | None, choose: Choose | None, interface: Interface
) -> tuple[list[KernelPlan], list[CheckResult]]:
    """The plans of subgraphs that differ in the types of their borders alone, and their checks."""
    from plugin_autogen.codegen.plan_builder import build_plan
    from plugin_autogen.lowering.importer import import_subgraph
    from plugin_autogen.lowering.legalize import legalize, to_calls
    from plugin_autogen.lowering.precision import with_borders
    from plugin_autogen.lowering.sizes import SizeForm, largest_sizes
    from plugin_autogen.schedule.default import schedule_module
    from plugin_autogen.schedule.rules.tuned import Tuned
    from plugin_autogen.schedule.target import COMMON_ARCH, cuda_target
    from plugin_autogen.verify.cpu import check_on_cpu
    from plugin_autogen.verify.reference import has_reference

    variants, first = list(subgraphs), subgraphs[0]
    module = import_subgraph(first, SizeForm.REAL if interface is Interface.V3 else SizeForm.BOUNDED)
    if module.sizes or module.shapes:
        variants = variants[:1]  # `with_borders` knows tensors alone, of sizes that inputs have
    checked = check is Check.CPU and has_reference(first.model)
    results = []
    for i, variant in enumerate(variants if checked else []):
        try:
            results.append(check_on_cpu(variant, module))
        except CheckError:
            if not i:
                raise
            # What is an operand inside may be larger than float16 can hold.
            variants[i] = replace(variant, narrow_operands=False)
            results.append(replace(check_on_cpu(variants[i], module), wide_operands=True))
    target = cuda_target(oldest_arch)
    legalized = legalize(module, target)
    ranges = {s: r.max for s, r in first.ranges.items() if r.max is not None}
    largest = largest_sizes(module.sizes, ranges)
    plans = []
    for variant in variants:
        bordered = legalized if module.sizes or module.shapes else with_borders(legalized, variant)
        calls = to_calls(bordered, target)
        rules = [Tuned(choose(calls, target), oldest_arch or COMMON_ARCH)] if choose is not None else []
        functions = schedule_module(calls, target, largest, rules)
        plan = build_plan(variant, calls, functions, module, target)
        plans.append(replace(plan, rules=tuple(function.rule for function in functions.values())))
    return plans, results


def _lower(subgraph: Subgraph, options: Options, oldest_arch: int, choose: Choose | None) -> _Lowered:
    start = time.monotonic()
    try:
        plan, results = build_plugin_plan(
            subgraph,
            options.check,
            oldest_arch,
            options.precision,
            options.specialize,
            choose,
            options.release.interface,
        )
    except PluginAutogenError as error:
        raise type(error)(f"{_blamed(subgraph, error.node)}: {error}") from error
    except Exception as error:  # whatever TVM raises past our own checks must still name the node
        lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
        raise UnsupportedError(f"{_blamed(subgraph)}: cannot be lowered: {shorten(lines[-1], 300)}") from error
    return _Lowered(plan, results, time.monotonic() - start)


def _check_precision(options: Options) -> None:
    wanted = options.precision
    if wanted is not None and not options.release.takes(wanted):
        raise SelectionError(
            f"--precision: plugins of {options.release.title} cannot have {wanted} at their borders: choose fp16"
        )


def _precision_warnings(extraction: Extraction, options: Options) -> list[str]:
    """One line for each plugin that `--precision` changes nothing of, and for a TensorRT that does not choose types."""
    wanted = options.precision
    if wanted is None:
        return []
    narrow = [s.in_precision(wanted) is not None for s in extraction.subgraphs]
    warnings = [
        f'plugin "{s.name}" ({shorten(", ".join(dict.fromkeys(s.op_types)), 80)}) has no float32 at its border: '
        f"there is no {wanted} variant of it"
        for s, found in zip(extraction.subgraphs, narrow, strict=True)
        if not found
    ]
    if any(narrow) and not options.release.is_weakly_typed:
        warnings.append(
            f"{options.release.title} leaves types as the model has them: it takes the {wanted} kernels where the "
            f"rewritten model's tensors around a plugin are {wanted} (put Casts there, or use ModelOpt AutoCast)"
        )
    return warnings


def _operand_warnings(lowered: Mapping[str, _Lowered]) -> list[str]:
    return [
        f'plugin "{name}": operands of its matrix products stay float32, without tensor cores: with float16 ones the '
        "numbers are wrong (values inside may be too large for it)"
        for name, result in lowered.items()
        if any(check.wide_operands for check in result.checks)
    ]


def _specialization_warnings(extraction: Extraction, options: Options) -> list[str]:
    """One line for each plugin whose dynamic dimensions have no best size."""
    return [
        f'plugin "{s.name}" ({shorten(", ".join(dict.fromkeys(s.op_types)), 80)}) has dynamic dimensions without a '
        "range, so no optimum to be specialized for: give --minShapes, --optShapes and --maxShapes"
        for s in extraction.subgraphs
        if options.specialize and s.optimum is None and any(isinstance(d, str) for t in s.inputs for d in t.shape)
    ]


def _blamed(subgraph: Subgraph, node: str | None = None) -> str:
    """The user's node behind a node of the plugin's model (`node_3`, or one of its expansion), or the first of all."""
    match = re.search(r"node_(\d+)", node or "")
    place = int(match[1]) if match else None
    if place is None or place >= len(subgraph.node_names):
        shown = list(zip(subgraph.node_names, subgraph.op_types, strict=True))[:3]
    else:
        shown = [(subgraph.node_names[place], subgraph.op_types[place])]
    return "node " + ", ".join(f'"{shorten(name)}" ({shorten(operator, 60)})' for name, operator in shown)


def _check_library_name(name: str) -> None:
    from plugin_autogen.graph.naming import check_plugin_name

    try:
        check_plugin_name(name)
    except SelectionError as error:
        raise SelectionError(f"--library: {error}") from None


def _check_paths(input_model: Path, output_model: Path, options: Options) -> None:
    with contextlib.suppress(OSError, ValueError):
        if output_model.exists() and input_model.exists() and output_model.samefile(input_model):
            raise OutputError(f"{shorten(output_model)} is the input model: give the output another path")
    for folder in (output_model.parent, options.plugin_dir):
        _check_writable(folder)


def _check_writable(folder: Path) -> None:
    """Raises `OutputError` when the folder, or the nearest one above that exists, cannot be written to."""
    try:
        existing = folder
        while not existing.exists() and existing != existing.parent:
            existing = existing.parent
        if not existing.is_dir():
            raise OutputError(f"{shorten(existing)} is not a folder: choose another output path")
        if not os.access(existing, os.W_OK | os.X_OK):
            raise OutputError(f"folder {shorten(existing)} cannot be written: choose another output path")
    except (OSError, ValueError) as error:
        raise OutputError(f"{shorten(folder)} cannot be used as a folder: {shorten(error)}") from error


@contextlib.contextmanager
def _staging(plugin_dir: Path) -> Iterator[Path]:
    """A scratch folder on the file system of the result; afterwards it and empty folders made for it are gone."""
    made = _missing_parents(plugin_dir)
    try:
        plugin_dir.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=".staging-", dir=plugin_dir))
    except OSError as error:
        raise OutputError(
            f"cannot write to {shorten(plugin_dir)}: {error.strerror}; choose another --plugin_dir"
        ) from None
    try:
        yield staging
    finally:
        shutil.rmtree(staging, ignore_errors=True)
        for folder in made:
            with contextlib.suppress(OSError):
                folder.rmdir()


def _missing_parents(folder: Path) -> list[Path]:
    """The folder and those above it that do not exist yet, innermost first."""
    missing = []
    while not folder.exists():
        missing.append(folder)
        folder = folder.parent
    return missing


def _write_sources(
    plans: Mapping[str, PluginPlan], options: Options, architectures: Architectures, folder: Path
) -> list[LibrarySource]:
    """Renders every plugin and library into `folder/<name>/`."""
    from plugin_autogen.build.compile import LibrarySource
    from plugin_autogen.codegen.render import render_library, render_plugin

    for name, plan in plans.items():
        _write_files(folder / name, render_plugin(plan, options.release))
    common = options.library or (SOURCE_LIBRARY if options.source_only else None)
    groups = {common: list(plans)} if common is not None else {name: [name] for name in plans}
    # What the user named is what the source compiles for elsewhere too; else the compiler there decides.
    chosen = (architectures.real or architectures.virtual) if options.architectures else ()
    oldest = min(architectures.oldest, options.release.oldest_arch)
    board = options.target.title if options.target is not None else ""
    sources = []
    for library, names in groups.items():
        _write_files(folder / library, render_library(library, names, options.release, chosen, oldest, board))
        sources.append(LibrarySource(library, folder / library, tuple(folder / name for name in names)))
    return sources


def _write_files(folder: Path, files: Mapping[str, bytes]) -> None:
    try:
        for name, content in files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
    except OSError as error:
        raise OutputError(f"cannot write to {shorten(folder)}: {error.strerror}") from None


class _Published:
    """Folders and files moved into place, with what they replaced, until the model is written too."""

    def __init__(self, backup: Path) -> None:
        self._backup = backup
        self._moved: list[tuple[Path, Path | None]] = []

    def move(self, source: Path, destination: Path) -> None:
        old = None
        if destination.exists() or destination.is_symlink():
            old = self._backup / f"{len(self._moved)}"
            os.replace(destination, old)
        try:
            os.replace(source, destination)
        except OSError:
            if old is not None:
                os.replace(old, destination)
            raise
        self._moved.append((destination, old))

    def undo(self) -> None:
        for destination, old in reversed(self._moved):
            with contextlib.suppress(OSError):
                if destination.is_dir() and not destination.is_symlink():
                    shutil.rmtree(destination)
                else:
                    destination.unlink()
                if old is not None:
                    os.replace(old, destination)
        for folder in {destination.parent for destination, _ in self._moved}:
            with contextlib.suppress(OSError):
                folder.rmdir()

    def commit(self) -> None:
        """What was replaced goes with the staging folder."""
        self._moved.clear()


def _publish(staging: Path, plugin_dir: Path) -> _Published:
    """Moves sources and libraries from the staging folder into place, whole folders and files at a time."""
    backup = staging / "replaced"
    published = _Published(backup)
    try:
        backup.mkdir()
        for kind in ("src", "lib"):
            if not (staging / kind).is_dir():
                continue
            (plugin_dir / kind).mkdir(exist_ok=True)
            for source in sorted((staging / kind).iterdir()):
                published.move(source, plugin_dir / kind / source.name)
    except OSError as error:
        published.undo()
        raise OutputError(
            f"cannot write to {shorten(plugin_dir)}: {error.strerror}; choose another --plugin_dir"
        ) from None
    return published


def _report(extraction: Extraction, subgraph: Subgraph, lowered: _Lowered) -> PluginReport:
    from plugin_autogen.schedule.rules.tuned import Tuned

    plan, variants = lowered.plan.default, lowered.plan.variants
    narrow = {t.dtype.name for v in variants[1:] for t in (*v.inputs, *v.outputs)}
    narrow -= {t.dtype.name for t in (*plan.inputs, *plan.outputs)}
    return PluginReport(
        name=subgraph.name,
        nodes=tuple(n for use in extraction.uses if use.plugin == subgraph.name for n in use.node_names),
        operators=tuple(dict.fromkeys(subgraph.op_types)),
        kernels=len(plan.kernels),
        tuned=sum(variant.rules.count(Tuned.name) for variant in lowered.plan.variants),
        launches=_launch_count(plan),
        input_types=tuple(t.border_dtype.name for t in subgraph.inputs),
        output_types=tuple(t.border_dtype.name for t in subgraph.outputs),
        workspace_bytes=plan.workspace.value if isinstance(plan.workspace, ex.Const) else None,
        constant_bytes=sum(len(c.data) for c in plan.constants),
        check=lowered.checks[0] if lowered.checks else None,
        precision=min(narrow, default=None),
        narrow_check=lowered.checks[1] if narrow and lowered.checks else None,
        optimum=next((v.sizes for v in variants if v.sizes is not None), None),
        seconds=lowered.seconds,
    )


def _launch_count(plan: KernelPlan) -> int | None:
    """Launches of one enqueue; None where a host loop or a branch depends on run-time values."""
    from plugin_autogen.codegen.plan import Branch, Loop, Step

    def count(steps: Sequence[Step]) -> int | None:
        total = 0
        for step in steps:
            if isinstance(step, Loop):
                body = count(step.body)
                if body is None or not isinstance(step.extent, ex.Const):
                    return None
                total += body * step.extent.value
            elif isinstance(step, Branch):
                return None
            else:
                total += len(launches((step,)))
        return total

    return count(plan.steps)


def _engine_command(
    model: Path, libraries: Sequence[Path], options: Options, profile: Mapping[str, ShapeRange]
) -> tuple[str, ...]:
    """The next command: `trtexec`, or ours where the release has no trtexec that loads plugins."""
    release = options.release
    shapes = profile_options(profile)
    engine = model.with_suffix(".engine")
    if release.key == "rtx":
        return (
            "plugin_autogen",
            "build",
            "-i",
            str(model),
            "-o",
            str(engine),
            "--plugins",
            *map(str, libraries),
            *shapes,
        )
    # `--plugins` is all that trtexec knows before 8.6; later ones call it deprecated.
    option = "--plugins" if release.key == "8" else "--staticPlugins"
    plugins = (f"{option}={path}" for path in libraries)
    allowed = [_PRECISION_OPTIONS[options.precision]] if options.precision and release.is_weakly_typed else []
    trtexec = TRTEXEC if options.target is not None else "trtexec"
    return (trtexec, f"--onnx={model}", f"--saveEngine={engine}", *plugins, *allowed, *shapes)


_PRECISION_OPTIONS = {dtypes.FLOAT16: "--fp16", dtypes.BFLOAT16: "--bf16"}
"""What lets trtexec choose a format of that type."""

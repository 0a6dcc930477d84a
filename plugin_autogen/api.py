"""The Python interface: TPAT's `onnx2plugin`, and `generate` with every option and a typed result."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from plugin_autogen import dtypes, pipeline, releases
from plugin_autogen.build import targets
from plugin_autogen.errors import SelectionError, shorten
from plugin_autogen.graph.selection import Selection
from plugin_autogen.graph.shapes import Range, ShapeRange, ShapeRanges, batch_range
from plugin_autogen.pipeline import Check, GenerationResult, Options, PluginReport, Progress
from plugin_autogen.tuning import Tracker, Tuning

__all__ = [
    "Check",
    "GenerationResult",
    "PluginReport",
    "Range",
    "ShapeRange",
    "ShapeRanges",
    "Tracker",
    "Tuning",
    "generate",
    "onnx2plugin",
]


def onnx2plugin(
    input_model_path: str | os.PathLike[str],
    output_model_path: str | os.PathLike[str],
    node_names: Sequence[str] | None = None,
    node_types: Sequence[str] | None = None,
    plugin_name_dict: Mapping[str, str] | None = None,
    dynamic_bs: bool = False,
    min_bs: int = 1,
    max_bs: int = 256,
    opt_bs: int = 128,
) -> list[str]:
    """TPAT's function: generates plugins and the model that uses them.

    Args:
        input_model_path: the ONNX model.
        output_model_path: the model to write; libraries and sources go to the folder `plugins` beside it.
        node_names: nodes to turn into plugins.
        node_types: ONNX operators, all of whose nodes are turned into plugins.
        plugin_name_dict: node name → plugin name.
        dynamic_bs: the first dimension of what the nodes depend on is dynamic, whatever the model states.
        min_bs: smallest batch, with `dynamic_bs`.
        max_bs: largest batch, with `dynamic_bs`.
        opt_bs: the most usual batch, with `dynamic_bs`.

    Returns:
        Names of the plugins, each once.

    Raises:
        PluginAutogenError: one line that says what is wrong and what to do.
    """
    return generate(
        input_model_path,
        output_model_path,
        node_names=node_names,
        node_types=node_types,
        plugin_names=plugin_name_dict,
        shapes=ShapeRanges(batch=batch_range(min_bs, opt_bs, max_bs) if dynamic_bs else None),
    ).plugin_names


def generate(
    input_model: str | os.PathLike[str],
    output_model: str | os.PathLike[str],
    *,
    node_names: Sequence[str] | None = None,
    node_types: Sequence[str] | None = None,
    plugin_names: Mapping[str, str] | None = None,
    subgraphs: Sequence[str] = (),
    auto: bool = False,
    fuse: bool = False,
    tensorrt: str | None = None,
    target: str | None = None,
    source_only: bool = False,
    plugin_dir: str | os.PathLike[str] | None = None,
    library: str | None = None,
    architectures: Sequence[str] = (),
    cuda_home: str | None = None,
    tensorrt_home: str | None = None,
    check: Check | str = Check.CPU,
    jobs: int | None = None,
    converters: Sequence[str | os.PathLike[str]] = (),
    shapes: ShapeRanges | None = None,
    tuning: Tuning | None = None,
    precision: str = "fp32",
    specialize: bool = False,
    progress: Progress = lambda what, done, total: None,
) -> GenerationResult:
    """Generates plugins for the selected nodes, and the model that uses them.

    Args:
        input_model: the ONNX model.
        output_model: the model to write.
        node_names: nodes to turn into plugins.
        node_types: ONNX operators, all of whose nodes are turned into plugins.
        plugin_names: node name → plugin name; a key of several names, separated by commas, makes them one plugin.
        subgraphs: "inputs:outputs=plugin_name", names of tensors separated by commas: what lies between is one plugin.
        auto: all nodes that the target TensorRT's parser refuses.
        fuse: selected nodes that feed each other become one plugin.
        tensorrt: "8", "10", "11", "rtx", or a minor release such as "8.5"; None: the target's, else what is installed,
            else "10".
        target: a board, "jetson-orin" or "jetson-orin:6.0" with another JetPack release than the usual, which decides
            `tensorrt` and `architectures` where they are not given. Nothing is compiled unless this machine is of the
            board's kind.
        source_only: compile nothing.
        plugin_dir: gets `lib/` and `src/`; None: `plugins` beside the output model.
        library: one library of this name for all plugins; None: one each, or one "tpat_plugins" if nothing is compiled.
        architectures: GPUs, as `--arch` takes them; none: the target's, else all that the compiler knows from sm_75 up,
            and PTX.
        cuda_home: the CUDA toolkit; None: CUDA_HOME, PATH, the wheels, /usr/local/cuda.
        tensorrt_home: TensorRT's headers; None: TENSORRT_HOME, the system's, else our own declarations.
        check: "off" or "cpu".
        jobs: compilers that run at once; None: the number of CPUs.
        converters: Python files with converters (`plugin_autogen.converter`) and onnxscript functions; they are run.
        shapes: ranges of dynamic dimensions; None: the model's own shapes. Its dynamic dimensions without a range may
            have any size.
        tuning: time candidates for faster schedules, or use those of an earlier search; None: default schedules.
        precision: "fp16" or "bf16": plugins with float32 at their borders get kernels for that type there too,
            all of these borders together, for TensorRT to choose; "fp32": float32 alone.
        specialize: plugins with dynamic shapes in ranges get kernels for the best sizes beside those for all; which
            ones run is decided when the inputs are known.
        progress: called with what is being done, the number of parts done, and the number of parts.

    Raises:
        PluginAutogenError: one line that says what is wrong and what to do; nothing was written then.
    """
    output = Path(output_model)
    board = targets.target(target) if target is not None else None
    if tensorrt is None and board is not None:
        tensorrt = board.tensorrt
    options = Options(
        release=releases.release(tensorrt) if tensorrt is not None else default_release(),
        plugin_dir=Path(plugin_dir) if plugin_dir is not None else output.parent / "plugins",
        library=library,
        architectures=tuple(architectures) or ((board.name,) if board is not None else ()),
        cuda_home=cuda_home,
        tensorrt_home=tensorrt_home,
        check=Check(check),
        jobs=jobs,
        converters=tuple(map(Path, converters)),
        shapes=shapes or ShapeRanges(),
        tuning=tuning,
        precision=_precision(precision),
        specialize=specialize,
        target=board,
        source_only=source_only or (board is not None and not board.is_here),
    )
    selection = Selection(
        tuple(node_names or ()), tuple(node_types or ()), plugin_names or {}, tuple(subgraphs), auto, fuse
    )
    return pipeline.run(Path(input_model), output, options, selection, progress)


PRECISIONS = {"fp32": None, "fp16": dtypes.FLOAT16, "bf16": dtypes.BFLOAT16}


def _precision(name: str) -> dtypes.ElementType | None:
    if name not in PRECISIONS:
        raise SelectionError(f"unknown precision {shorten(name, 40)!r}: choose one of {', '.join(PRECISIONS)}")
    return PRECISIONS[name]


def default_release() -> releases.Release:
    """The release of the TensorRT that is installed, else TensorRT 10."""
    from plugin_autogen import engine

    return releases.release(engine.default_release() or "10")

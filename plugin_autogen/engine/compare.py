"""A rewritten model's engine against ONNX Runtime on the original model, output by output."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from plugin_autogen.engine import child, runtime_library
from plugin_autogen.engine.build import build_request, existing, require_gpu
from plugin_autogen.engine.comparison import OutputDifference
from plugin_autogen.engine.options import BuildOptions, Inputs, Profile, StrPath
from plugin_autogen.errors import OutputError, shorten
from plugin_autogen.verify.compare import Tolerance


@dataclass(frozen=True)
class DifferingNode:
    """The first node, in the rewritten model's order, of whose outputs one differs.

    Attributes:
        node: its name.
        op_type: its operator; a plugin's name for a plugin.
        is_plugin: whether one of the libraries computes it.
        output: the tensor that differs.
    """

    node: str
    op_type: str
    is_plugin: bool
    output: OutputDifference


@dataclass(frozen=True)
class ComparisonReport:
    """What a comparison found.

    Attributes:
        builder: `TensorRT-RTX 1.7.1.116`.
        outputs: one entry for each output of the model.
        first_differing: the first node with a wrong output, where it was asked for and there is one.
        tensors: how many intermediate tensors were compared; None when it was not asked for.
    """

    builder: str
    outputs: tuple[OutputDifference, ...]
    first_differing: DifferingNode | None
    tensors: int | None

    @property
    def is_equal(self) -> bool:
        """Whether every output is within its tolerance."""
        return all(output.message is None for output in self.outputs)


def compare_engine(
    model: StrPath,
    original: StrPath,
    plugins: Sequence[StrPath] = (),
    *,
    engine: StrPath | None = None,
    builder: str | None = None,
    profile: Profile | None = None,
    options: BuildOptions | None = None,
    inputs: Inputs | None = None,
    tolerance: Tolerance | None = None,
    first_differing_node: bool = False,
    save_outputs: StrPath | None = None,
) -> ComparisonReport:
    """Runs the original model in ONNX Runtime and the rewritten one's engine in TensorRT on the same inputs.

    Args:
        model: the rewritten model.
        original: the model that it was made from, whose outputs are the truth.
        plugins: as `build_engine` has it.
        engine: an engine of `model` that was built before; None: it is built, as `build_engine` does, and not kept.
        builder: `tensorrt` or `rtx`; by default what is installed, TensorRT first.
        profile: as `build_engine` has it.
        options: as `build_engine` has it.
        inputs: None: one random set.
        tolerance: what may differ; None: what each output's element type allows, and the precisions of `options`.
        first_differing_node: also build an engine whose intermediate tensors are outputs, as far as both models have
            them, and compare those. TensorRT fuses less then, so that its numbers may differ from the first engine's.
        save_outputs: a folder for both sides' outputs, `<set>.reference.npz` and `<set>.engine.npz`.

    Raises:
        ModelError: a model is missing.
        EngineError: no GPU, no TensorRT, or whatever `build_engine` raises; ONNX Runtime refuses the original model.
        OutputError: `save_outputs` cannot be made.
    """
    request = {
        **build_request(model, plugins, profile, options or BuildOptions()),
        "action": "compare",
        "original": str(existing(original)),
        "engine": str(existing(engine, "engine")) if engine is not None else None,
        "inputs": (inputs or Inputs()).request(),
        "tolerance": asdict(tolerance) if tolerance is not None else None,
        "first_differing_node": first_differing_node,
        "save_outputs": str(Path(save_outputs).resolve()) if save_outputs is not None else None,
    }
    backend = runtime_library.choose(builder)
    require_gpu("comparing")
    if save_outputs is not None:
        try:
            Path(save_outputs).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"cannot write outputs to {shorten(save_outputs)}: {error.strerror}") from None
    result = child.run(backend, request)
    first = result["first"]
    return ComparisonReport(
        builder=str(backend),
        outputs=tuple(_output(entry) for entry in result["outputs"]),
        first_differing=DifferingNode(**{**first, "output": _output(first["output"])}) if first else None,
        tensors=result["tensors"],
    )


def _output(entry: dict[str, object]) -> OutputDifference:
    fields = {**entry, "shape": tuple(entry["shape"])}  # type: ignore[arg-type]
    return OutputDifference(**fields)  # type: ignore[arg-type]

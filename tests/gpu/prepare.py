"""Prepares the trial of generated plugins on a GPU: models, libraries, inputs and ONNX Runtime's outputs.

Needs no GPU:

    python -m tests.gpu.prepare --out .gpu/trial

The folder holds `cases.json` (see `Case`) and for each case a folder with `model.onnx` and `plugin.so`, and for each
set of inputs the files `<set>.<tensor>.bin`, row-major, in the types that the network has, and
`<set>.<tensor>.expected` for the outputs.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from plugin_autogen import api, dtypes, releases
from plugin_autogen.dtypes import ElementType
from plugin_autogen.errors import PluginAutogenError
from plugin_autogen.graph.extract import Extraction, extract
from plugin_autogen.graph.model import load_model
from plugin_autogen.graph.rewrite import DOMAIN
from plugin_autogen.graph.selection import select
from plugin_autogen.releases import Interface, Release
from plugin_autogen.verify.inputs import random_inputs
from plugin_autogen.verify.reference import reference_outputs
from tests.acceptance_cases import CASES

SETS = ("a", "b")
"""Each case has two sets of inputs, so that two contexts that run at once compute different things."""

_OPSETS = (17, 20, 22)
"""The first of these in which the operator takes the element type is the variant's."""


@dataclass(frozen=True)
class Tensor:
    """An input or output of the network: its name, type and shape there, and its type in the ONNX model."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    onnx_dtype: str


@dataclass(frozen=True)
class Case:
    """One network to build and run.

    Attributes:
        id: also the name of its folder.
        operator: ONNX's.
        precision: of the operator's float tensors; `integer` where it has none.
        interface: `v2` for TensorRT 8, `v3` for TensorRT-RTX.
        plugin: its name.
        network: `model` for the rewritten model as it is, `plugin` for the plugin's node alone.
        reference: what computed the expected outputs.
        inputs: of the network.
        outputs: of the network.
    """

    id: str
    operator: str
    precision: str
    interface: str
    plugin: str
    network: str
    reference: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]


# --- models -----------------------------------------------------------------------------------------------------------


def variant(model: onnx.ModelProto, dtype: ElementType) -> onnx.ModelProto | None:
    """The model with float32 replaced by `dtype` in its inputs, outputs and weights.

    None where it has no float32 tensor, or where ONNX does not define the operator for that type.
    """
    proto = onnx.ModelProto()
    proto.CopyFrom(model)
    infos = [v for v in (*proto.graph.input, *proto.graph.output) if v.type.tensor_type.elem_type == 1]
    if not infos:
        return None
    node = next(n for n in proto.graph.node if n.name == "n")
    opset = next((o for o in _OPSETS if _takes(node, proto, dtype, o)), None)
    if opset is None:
        return None
    for info in infos:
        info.type.tensor_type.elem_type = dtype.onnx
    for tensor in proto.graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT:
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(dtype.numpy), tensor.name))
    if node.op_type == "GridSample" and opset >= 20:
        mode = next(a for a in node.attribute if a.name == "mode")
        mode.s = mode.s.replace(b"bilinear", b"linear")  # its name from there on
    del proto.opset_import[:]
    proto.opset_import.append(helper.make_opsetid("", opset))
    proto.ir_version = 8 if opset < 20 else 10
    onnx.checker.check_model(proto, full_check=True)
    return proto


def _takes(node: onnx.NodeProto, model: onnx.ModelProto, dtype: ElementType, opset: int) -> bool:
    """Whether ONNX defines the operator, at this opset, with its float32 tensors in this type."""
    schema = onnx.defs.get_schema(node.op_type, opset)
    types = {i.name: i.type.tensor_type.elem_type for i in (*model.graph.input, *model.graph.output)}
    types |= {t.name: t.data_type for t in model.graph.initializer}
    text = f"tensor({'float16' if dtype == dtypes.FLOAT16 else dtype.name})"
    formal = [*zip(node.input, schema.inputs, strict=False), *zip(node.output, schema.outputs, strict=False)]
    return all(text in parameter.types for name, parameter in formal if types.get(name) == onnx.TensorProto.FLOAT)


def plugin_alone(model: onnx.ModelProto) -> onnx.ModelProto:
    """The network that holds the model's plugin node and nothing else: its tensors become inputs and outputs."""
    proto = onnx.ModelProto()
    proto.CopyFrom(model)
    graph = proto.graph
    (plugin,) = (n for n in graph.node if n.domain == DOMAIN)
    infos = {v.name: v for v in (*graph.value_info, *graph.input, *graph.output)}
    kept = [onnx.ValueInfoProto.FromString(infos[name].SerializeToString()) for name in plugin.input]
    made = [onnx.ValueInfoProto.FromString(infos[name].SerializeToString()) for name in plugin.output]
    node = onnx.NodeProto.FromString(plugin.SerializeToString())
    for field in (graph.node, graph.input, graph.output, graph.value_info, graph.initializer):
        del field[:]
    graph.node.append(node)
    graph.input.extend(kept)
    graph.output.extend(made)
    return proto


# --- values -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Values:
    """What goes into and comes out of the model and its plugin, by tensor name, in ONNX's types."""

    graph: dict[str, np.ndarray]
    plugin: dict[str, np.ndarray]
    reference: str


def _values(model: onnx.ModelProto, extraction: Extraction, seed: int, narrow: ElementType) -> _Values:
    """Random inputs and the reference's outputs.

    ONNX Runtime cannot be fed bfloat16: there the reference is the float32 model on the same values, rounded.
    """
    (use,), (subgraph,) = extraction.uses, extraction.subgraphs
    drawn = random_inputs(subgraph, seed)
    inputs = dict(zip(use.inputs, drawn.values(), strict=True))
    graph_inputs = {i.name for i in model.graph.input}
    if not set(inputs) <= graph_inputs:
        # Something stands before the node: draw for the graph instead.
        rng = np.random.default_rng(seed)
        inputs = {}
        for info in model.graph.input:
            kind = dtypes.from_onnx(info.type.tensor_type.elem_type)
            shape = [d.dim_value for d in info.type.tensor_type.shape.dim]
            inputs[info.name] = rng.integers(0, 256, shape).astype(kind.numpy)
    if subgraph.op_types == ("IsInf",):
        # Random numbers are finite: then a plugin that writes zeros would be right.
        for value in inputs.values():
            value.reshape(-1)[seed::3] = np.inf
            value.reshape(-1)[seed + 1 :: 7] = -np.inf
            value.reshape(-1)[seed + 2 :: 11] = np.nan
    known = [*(n for n in use.inputs if n not in graph_inputs), *use.outputs]
    traced = onnx.ModelProto()
    traced.CopyFrom(model)
    inferred = onnx.shape_inference.infer_shapes(model).graph
    infos = {v.name: v for v in (*inferred.value_info, *inferred.output)}
    del traced.graph.output[:]
    wanted = list(dict.fromkeys([*known, *(o.name for o in model.graph.output)]))
    traced.graph.output.extend(infos[name] for name in wanted)
    if narrow == dtypes.BFLOAT16:
        wide = _widened(traced)
        found, reference = reference_outputs(
            wide, {n: v.astype(np.float32) if v.dtype == narrow.numpy else v for n, v in inputs.items()}
        )
        kinds = [dtypes.from_onnx(o.type.tensor_type.elem_type).numpy for o in traced.graph.output]
        found = [v.astype(kind) for v, kind in zip(found, kinds, strict=True)]
    else:
        found, reference = reference_outputs(traced, inputs)
    values = {**inputs, **dict(zip(wanted, found, strict=True))}
    return _Values(
        {n: values[n] for n in (*graph_inputs, *(o.name for o in model.graph.output))},
        {n: values[n] for n in (*use.inputs, *use.outputs)},
        reference,
    )


def _widened(model: onnx.ModelProto) -> onnx.ModelProto:
    """The bfloat16 model with float32 in its place."""
    proto = onnx.ModelProto()
    proto.CopyFrom(model)
    for info in (*proto.graph.input, *proto.graph.output):
        if info.type.tensor_type.elem_type == onnx.TensorProto.BFLOAT16:
            info.type.tensor_type.elem_type = onnx.TensorProto.FLOAT
    for tensor in proto.graph.initializer:
        if tensor.data_type == onnx.TensorProto.BFLOAT16:
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float32), tensor.name))
    return proto


# --- cases ------------------------------------------------------------------------------------------------------------


def write_cases(
    operator: str, model: onnx.ModelProto, precision: ElementType | None, release: Release, out: Path, arch: str
) -> list[Case]:
    """Generates the plugin for the model's node `n` and writes one case, or two where Casts stand beside the plugin.

    Raises:
        PluginAutogenError: the plugin cannot be generated.
    """
    kind = "v2" if release.interface is Interface.V2 else "v3"
    label = precision.name if precision else "integer"
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        source, rewritten_path = scratch / "model.onnx", scratch / "out.onnx"
        onnx.save(model, source)
        plugin = f"tpat_{operator.lower()}_{label}"
        result = api.generate(
            source,
            rewritten_path,
            plugin_names={"n": plugin},
            tensorrt=release.key,
            plugin_dir=scratch / "plugins",
            architectures=[arch],
            check="off",
            jobs=1,
        )
        loaded = load_model(source)
        extraction = extract(loaded, select(loaded, None, None, {"n": plugin}), release)
        values = {name: _values(model, extraction, i, precision or dtypes.FLOAT32) for i, name in enumerate(SETS)}
        rewritten = onnx.load(rewritten_path)
        alone = plugin_alone(rewritten)
        networks: dict[str, onnx.ModelProto] = {}
        if len(rewritten.graph.node) == 1:
            networks["plugin"] = rewritten
        else:
            if kind == "v2":  # TensorRT-RTX has no layers of its own for the GPU of the trial
                networks["model"] = rewritten
            networks["plugin"] = alone
        cases = []
        for network, proto in networks.items():
            name = f"{operator}-{label}-{kind}-{network}"
            target = out / name
            target.mkdir(parents=True)
            onnx.save(proto, target / "model.onnx")
            shutil.copyfile(result.libraries[0], target / "plugin.so")
            tensors = _write_values(proto, extraction, values, network, kind, target)
            reference = values[SETS[0]].reference
            cases.append(Case(name, operator, label, kind, plugin, network, reference, *tensors))
    return cases


def _write_values(
    proto: onnx.ModelProto,
    extraction: Extraction,
    values: Mapping[str, _Values],
    network: str,
    kind: str,
    target: Path,
) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """Writes inputs and expected outputs; returns the network's inputs and outputs."""
    (use,) = extraction.uses
    originals: dict[str, str] = {i.name: i.name for i in (*proto.graph.input, *proto.graph.output)}
    if network == "plugin":
        (node,) = proto.graph.node
        originals = dict(zip((*node.input, *node.output), (*use.inputs, *use.outputs), strict=True))

    def write(info: onnx.ValueInfoProto, suffix: str) -> Tensor:
        dtype = dtypes.from_onnx(info.type.tensor_type.elem_type)
        if kind == "v2" and dtype == dtypes.INT64:
            dtype = dtypes.INT32  # the parser of TensorRT 8 narrows it
        for name, value in values.items():
            array = (value.graph if network == "model" else value.plugin)[originals[info.name]]
            original = array.dtype.name
            array = array.astype(dtype.numpy, order="C")
            (target / f"{name}.{info.name}.{suffix}").write_bytes(array.tobytes())
        return Tensor(info.name, dtype.name, array.shape, original)

    return tuple(write(i, "bin") for i in proto.graph.input), tuple(write(o, "expected") for o in proto.graph.output)


def _variants() -> dict[str, Callable[[onnx.ModelProto], tuple[onnx.ModelProto | None, ElementType | None]]]:
    def as_is(model: onnx.ModelProto) -> tuple[onnx.ModelProto, ElementType | None]:
        has_float = any(v.type.tensor_type.elem_type == 1 for v in (*model.graph.input, *model.graph.output))
        return model, dtypes.FLOAT32 if has_float else None

    return {
        "float32": as_is,
        "float16": lambda model: (variant(model, dtypes.FLOAT16), dtypes.FLOAT16),
        "bfloat16": lambda model: (variant(model, dtypes.BFLOAT16), dtypes.BFLOAT16),
    }


def main(arguments: Sequence[str]) -> int:
    """Writes the folder; the exit code is 1 when a plugin could not be generated."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--arch", default="sm_90", help="GPU of the trial (default: sm_90)")
    parser.add_argument("--operators", nargs="*", default=list(CASES), choices=list(CASES), metavar="OPERATOR")
    parser.add_argument("--precisions", nargs="*", default=["float32", "float16", "bfloat16"])
    parser.add_argument("--interfaces", nargs="*", default=["v2", "v3"], choices=["v2", "v3"])
    options = parser.parse_args(arguments)
    if options.out.exists():
        shutil.rmtree(options.out)
    options.out.mkdir(parents=True)
    cases: list[Case] = []
    failures: list[dict[str, Any]] = []
    start = time.monotonic()
    for operator in options.operators:
        for precision in options.precisions:
            model, dtype = _variants()[precision](CASES[operator]())
            if model is None:
                continue
            for kind in options.interfaces:
                if kind == "v2" and dtype == dtypes.BFLOAT16:
                    continue  # TensorRT 8 has no such type
                release = releases.release("8" if kind == "v2" else "rtx")
                label = dtype.name if dtype else "integer"
                try:
                    cases += write_cases(operator, model, dtype, release, options.out, options.arch)
                except PluginAutogenError as error:
                    failures.append(
                        {"operator": operator, "precision": label, "interface": kind, "message": str(error)}
                    )
                    print(f"{operator} {label} {kind}: {error}", file=sys.stderr)
        print(f"{operator}: {len(cases)} cases after {time.monotonic() - start:.0f} s", flush=True)
    content = {"sets": SETS, "arch": options.arch, "cases": [asdict(c) for c in cases], "failures": failures}
    (options.out / "cases.json").write_text(json.dumps(content, indent=1) + "\n")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

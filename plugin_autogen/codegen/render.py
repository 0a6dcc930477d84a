"""From a `PluginPlan` to C++ and CUDA sources, and the project that builds a library of them.

Whatever there is to decide is decided here; the templates hold loops and substitutions. Of the plan's names, only those
of the plugin and of its kernels reach C++; symbols and loop variables are renamed, tensors are counted, and named in
messages alone, escaped.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from plugin_autogen import resources
from plugin_autogen.codegen import expr as ex
from plugin_autogen.codegen.expr import Binary, Const, Expr, Select, Symbol
from plugin_autogen.codegen.plan import (
    Argument,
    BufferRef,
    Copy,
    Dimension,
    Kernel,
    KernelPlan,
    Launch,
    Loop,
    PluginPlan,
    Relation,
    ResolvedSize,
    Space,
    Step,
    TensorSpec,
    expressions,
    launches,
    to_json,
)
from plugin_autogen.dtypes import INT64
from plugin_autogen.errors import PluginAutogenError, UnsupportedError, shorten
from plugin_autogen.releases import Interface, Release

if TYPE_CHECKING:
    import jinja2

MAX_RANK = 8
"""`nvinfer1::Dims::MAX_DIMS`, in every release."""

CONSTANT_ALIGNMENT = 256
"""Bytes; what cudaMalloc guarantees, and more than any vectorized load needs."""

MAX_CONSTANT_BYTES = 1 << 30
"""Beyond this, code and data of the library come too far apart for the addresses that compilers use by default."""

_RELATIONS = {
    Relation.EQUAL: "SizeRelation::kEqual",
    Relation.EQUAL_OR_ONE: "SizeRelation::kEqualOrOne",
    Relation.AT_MOST: "SizeRelation::kAtMost",
}

INTERFACE_HEADERS = ("nvinfer_interface.h", "nvinfer_plugin_v2.h", "nvinfer_plugin_v3.h")

PROJECT_FILES = ("library.cpp", "exports.map", "CMakeLists.txt", "Makefile", "README.md")

_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_COMPARISONS = frozenset({"<", "<=", "==", "!=", "&&", "||"})
_BUILDER = {"+": "sum", "-": "difference", "*": "product", "min": "minimum", "max": "maximum",
            "//": "floorDivide", "%": "modulo"}  # fmt: skip

# Functions that TVM's preamble defines without `static` or `inline`: make_half4, max(half, half) and others. Host code
# has them too (nvcc makes a host function even of a __device__ one), so two plugins of one library would clash.
_HELPER = re.compile(
    r'^(?:extern "C" )?(?:__host__ )?__device__ (?P<type>\w[\w ]*?) (?P<name>\w+)\((?P<parameters>[^()]*)\)',
    re.MULTILINE,
)

# Helpers that overload a name of CUDA's, which therefore must keep it, need their types declared before.
_OVERLOADED = frozenset({"max", "min"})
_TYPE_HEADERS = {"half": "cuda_fp16.h", "nv_bfloat16": "cuda_bf16.h"}

# What nvcc can compile for, by the release that brought it; 13.0 dropped everything older than 75.
_OLD_ARCHITECTURES = (53, 62, 70, 72)
_ARCHITECTURES = (("11.0", (80,)), ("11.1", (86,)), ("11.4", (87,)), ("11.8", (89, 90)), ("12.8", (100, 120)))


def render_plugin(plan: PluginPlan, release: Release) -> dict[str, bytes]:
    """The source files of a plugin, by file name, for the folder `src/<plugin name>/`.

    Every `*.cu` is compiled by the CUDA compiler, `plugin.cpp` by the C++ compiler, `constants.S` (where there is one)
    by the C compiler's assembler with this folder among the include folders. `nvinfer_interface.h` comes from
    `resources.interface_include()` or lies beside the library's sources.

    Raises `UnsupportedError` for what no plugin of this release can be: a border type, a rank above 8, an output
    dimension that TensorRT cannot express, constants of more than 1 GiB. Raises `PluginAutogenError` for a plan that
    contradicts itself.
    """
    return _Renderer(plan, release).files()


def render_library(
    name: str,
    plugin_names: Sequence[str],
    release: Release,
    architectures: Sequence[int] = (),
    oldest_arch: int | None = None,
    board: str = "",
) -> dict[str, bytes]:
    """The source files of a library, by file name, for the folder `src/<name>/`.

    `library.cpp` has the entry points, `exports.map` is the linker's version script for them, `CMakeLists.txt` and
    `Makefile` build the library anywhere, from the plugins' folders beside this one (or from this one, for a plugin of
    the same name).

    Args:
        architectures: compute capabilities (87 for 8.7) that the project compiles for unless told others; none: those
            from `oldest_arch` on that the compiler there knows.
        oldest_arch: the oldest one that the plugins' kernels run on; None: the release's.
        board: title of the board that this is for, if it is known.

    Raises `PluginAutogenError` if there is no plugin.
    """
    oldest_arch = oldest_arch or release.oldest_arch
    _check_identifier(name, "library")
    for plugin in plugin_names:
        _check_identifier(plugin, "plugin")
    if not plugin_names or len(set(plugin_names)) != len(plugin_names):
        raise PluginAutogenError(f"library {name}: it needs at least one plugin, and each of them once")
    v3 = release.interface is Interface.V3
    context = {
        "library": name,
        "plugins": list(plugin_names),
        "folders": ["." if plugin == name else f"../{plugin}" for plugin in plugin_names],
        "interface": 3 if v3 else 2,
        "interface_class": release.interface.value,
        "creators": [_creator(plugin) for plugin in plugin_names],
        "creator_class": "IPluginCreatorInterface" if v3 else "IPluginCreator",
        "entry_point": "getCreators" if v3 else "getPluginCreators",
        "release_title": release.title,
        "usage": _usage(name, release),
        "board": board,
        "chosen_architectures": list(architectures),
        "oldest_architecture": oldest_arch,
        "old_architectures": " ".join(str(a) for a in _OLD_ARCHITECTURES if a >= oldest_arch),
        "architectures_by_cuda": [(cuda, " ".join(map(str, numbers))) for cuda, numbers in _ARCHITECTURES],
    }
    files = {file: _template(f"{file}.j2", context) for file in PROJECT_FILES}
    for header in INTERFACE_HEADERS:
        files[header] = (resources.interface_include() / header).read_bytes()
    return files


def _usage(library: str, release: Release) -> list[str]:
    """Markdown: how this release loads the library."""
    load = [
        "In C++, load it before the model is parsed or the engine deserialized, with",
        f'`getPluginRegistry()->loadLibrary("{library}.so")`; in Python with `registry.load_library`.',
    ]
    if release.key == "8":
        return [
            f"    trtexec --onnx=<rewritten model>.onnx --plugins=build/{library}.so",
            "",
            *load,
            "Before TensorRT 8.6, load it with `dlopen` or `ctypes.CDLL`, after TensorRT's own libraries: it registers",
            "itself.",
        ]
    if release.key == "rtx":
        return load
    return [f"    trtexec --onnx=<rewritten model>.onnx --staticPlugins=build/{library}.so", "", *load]


def _check_identifier(name: str, what: str) -> None:
    if not _IDENTIFIER.fullmatch(name):
        raise PluginAutogenError(f"{what} name {shorten(repr(name))} is no C identifier: use letters, digits and _")


def _c_string(text: str) -> str:
    """A C string literal; what is no plain ASCII letter, digit or sign becomes an octal escape, and means nothing."""
    plain = (chr(b) if 32 <= b < 127 and chr(b) not in '"\\?' else f"\\{b:03o}" for b in text.encode())
    return f'"{"".join(plain)}"'


def _creator(plugin: str) -> str:
    return f"{plugin}_creator"


@lru_cache(maxsize=1)
def _environment() -> jinja2.Environment:
    import jinja2

    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(resources.templates()),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # every value is an identifier, a number or C++ made here
    )


def _template(name: str, context: Mapping[str, Any]) -> bytes:
    return _environment().get_template(name).render(context).encode()


def _indent(lines: list[str]) -> list[str]:
    return [f"    {line}" for line in lines]


class _Renderer:
    """The C++ of one plugin."""

    def __init__(self, plan: PluginPlan, release: Release) -> None:
        self.plan = plan
        self.release = release
        self.name = plan.name
        self.fingerprint = plan.fingerprint
        self.tensors = plan.default.inputs + plan.default.outputs
        self.sources: tuple[Dimension | ResolvedSize, ...] = (*plan.default.dimensions, *plan.default.resolved)
        self.symbols = {source.symbol: f"s{i}" for i, source in enumerate(self.sources)}
        self.blob = bytearray()
        self.constant_offsets: list[list[int]] = []
        self._check()
        self._place_constants()

    def files(self) -> dict[str, bytes]:
        """All files of the plugin's folder."""
        files: dict[str, bytes] = {}
        for index, variant in enumerate(self.plan.variants):
            files[self._file(index, "cuh")] = variant.source.encode()
            files[self._file(index, "cu")] = _template("kernels.cu.j2", self._kernels_context(index, variant))
        files["plan.h"] = _template("plan.h.j2", self._plan_context())
        plugin = "plugin_v3.cpp.j2" if self.release.interface is Interface.V3 else "plugin_v2.cpp.j2"
        files["plugin.cpp"] = _template(plugin, {"name": self.name, "creator": _creator(self.name)})
        for header in ("basics.h", "runtime.h", "support.h", "binding.h"):
            files[header] = (resources.templates() / header).read_bytes()
        if self.blob:
            context = {"name": self.name, "symbol": f"{self.name}_constants", "alignment": CONSTANT_ALIGNMENT}
            files["constants.S"] = _template("constants.S.j2", context)
            files["constants.bin"] = bytes(self.blob)
        files["plan.json"] = self._json()
        return files

    # Checks

    def _check(self) -> None:
        _check_identifier(self.name, "plugin")
        if self.plan.default.sizes is not None:
            raise PluginAutogenError(f"plugin {self.name}: its default is made for certain sizes alone")
        if not self.plan.default.outputs:
            raise PluginAutogenError(f"plugin {self.name}: it has no output")
        for dimension in self.plan.default.dimensions:
            shapes = [t.shape for t in self.plan.default.inputs]
            if not (0 <= dimension.input < len(shapes) and 0 <= dimension.axis < len(shapes[dimension.input])):
                raise PluginAutogenError(f"plugin {self.name}: a symbol stands for a dimension that no input has")
        self._check_data_sizes()
        for variant in self.plan.variants:
            self._check_variant(variant)

    def _check_data_sizes(self) -> None:
        outputs = self.plan.default.outputs
        default = self.plan.default
        if (default.data_sizes or default.shape_inputs) and self.release.interface is not Interface.V3:
            raise PluginAutogenError(
                f"plugin {self.name}: {self.release.title} has neither size tensors nor shape inputs"
            )
        for size in self.plan.default.data_sizes:
            if not 0 <= size.output < len(outputs) or (outputs[size.output].dtype, outputs[size.output].shape) != (
                INT64,
                (),
            ):
                raise PluginAutogenError(f"plugin {self.name}: a size needs an output of its own, a scalar of int64")

    def _check_variant(self, variant: KernelPlan) -> None:
        default = self.plan.default
        tensors = variant.inputs + variant.outputs
        wanted = [t.shape for t in self.tensors]
        dimensions = default.dimensions
        if variant.sizes is not None:
            values = dict(zip(self.symbols, variant.sizes, strict=True))
            wanted = [tuple(Const(ex.evaluate(d, values)) for d in shape) for shape in wanted]
            dimensions = ()
        same = len(variant.inputs) == len(default.inputs) and variant.dimensions == dimensions
        same &= (variant.data_sizes, variant.resolved) == (default.data_sizes, default.resolved)
        same &= variant.shape_inputs == default.shape_inputs
        if not same or [t.shape for t in tensors] != wanted:
            raise PluginAutogenError(f"plugin {self.name}: its variants differ in their tensors' shapes")
        for tensor in tensors:
            if len(tensor.shape) > MAX_RANK:
                raise UnsupportedError(
                    f"plugin {self.name}: tensor {shorten(tensor.name)} has rank {len(tensor.shape)}, TensorRT takes "
                    f"{MAX_RANK} at most: reshape it outside"
                )
            if not self.release.takes(tensor.dtype):
                raise UnsupportedError(
                    f"plugin {self.name}: tensor {shorten(tensor.name)} has type {tensor.dtype}, which no plugin of "
                    f"{self.release.title} can have at its border: cast it outside"
                )
        kernels = {k.name: k for k in variant.kernels}
        for kernel in kernels.values():
            _check_identifier(kernel.name, "kernel")
        for launch in launches(variant.steps):
            if launch.kernel not in kernels:
                raise PluginAutogenError(
                    f"plugin {self.name}: kernel {shorten(launch.kernel)} is launched, not defined"
                )
            self._check_arguments(launch, kernels[launch.kernel])

    def _check_arguments(self, launch: Launch, kernel: Kernel) -> None:
        given = ["pointer" if isinstance(a, BufferRef) else "scalar" for a in launch.arguments]
        declared = ["pointer" if p == "pointer" else "scalar" for p in kernel.parameters]
        if given != declared:
            raise PluginAutogenError(
                f"plugin {self.name}: kernel {kernel.name} declares {kernel.parameters}, its launch has {given}"
            )

    # Constants

    def _place_constants(self) -> None:
        """Lays the constants of all variants out in one block; equal ones share their place."""
        places: dict[bytes, int] = {}
        for variant in self.plan.variants:
            offsets = []
            for constant in variant.constants:
                if constant.data not in places:
                    self.blob += bytes(-len(self.blob) % CONSTANT_ALIGNMENT)
                    places[constant.data] = len(self.blob)
                    self.blob += constant.data
                offsets.append(places[constant.data])
            self.constant_offsets.append(offsets)
        if len(self.blob) > MAX_CONSTANT_BYTES:
            raise UnsupportedError(
                f"plugin {self.name}: its constants take {len(self.blob) >> 20} MiB, the limit is "
                f"{MAX_CONSTANT_BYTES >> 20}: leave the weights outside of the selected nodes"
            )

    # plan.h

    def _plan_context(self) -> dict[str, Any]:
        default = self.plan.default
        dims = [
            [str(d.value) if isinstance(d, Const) else "-1" for d in t.shape] + ["-1"] * (MAX_RANK - len(t.shape))
            for t in self.tensors
        ]
        sizes: dict[Expr, str] = {Symbol(size.symbol): f"size{i}" for i, size in enumerate(default.data_sizes)}
        outputs = [
            f"ExpressionBuilder::Expression const {sizes[Symbol(size.symbol)]} = "
            f"e.declareSize({size.output}, {self._builder(size.upper, default.outputs[size.output])});"
            for size in default.data_sizes
        ]
        outputs += [
            f"outputs[{t}].d[{axis}] = {sizes.get(d) or self._builder(d, tensor, axis)};"
            for t, tensor in enumerate(default.outputs)
            for axis, d in enumerate(tensor.shape)
        ]
        shapes = [
            f"shapes[{t}][{axis}] = {'-1' if d in sizes else self._cpp(d)};"
            for t, tensor in enumerate(self.tensors)
            for axis, d in enumerate(tensor.shape)
        ]
        sources = [
            f"{{{d.input}, {d.axis}, {'INT64_MAX' if d.limit is None else d.limit}}}"
            if isinstance(d, Dimension)
            else f"{{kNbInputs + {d.output}, {d.axis}, INT64_MAX}}"
            for d in self.sources
        ]
        return {
            "name": self.name,
            "fingerprint": self.fingerprint,
            "nb_inputs": len(default.inputs),
            "nb_outputs": len(default.outputs),
            "nb_shape_inputs": len(default.shape_inputs),
            "shape_lengths": ", ".join(str(len(s.values)) for s in default.shape_inputs) or "0",
            "ranks": ", ".join(str(len(t.shape)) for t in self.tensors),
            "static_dimensions": [", ".join(row) for row in dims],
            "nb_symbols": len(sources),
            "symbol_sources": ", ".join(sources) or "{0, 0, INT64_MAX}",
            "symbol_lines": self._symbol_lines(d for t in self.tensors for d in t.shape if d not in sizes),
            "shape_lines": shapes,
            "requirement_symbol_lines": self._symbol_lines(e for r in default.requirements for e in (r.size, r.other)),
            "requirements": [
                {
                    "size": self._cpp(r.size),
                    "other": self._cpp(r.other),
                    "relation": _RELATIONS[r.relation],
                    "size_source": _c_string(self._source(r.size)),
                    "reason": _c_string(
                        "which the plugin was generated for"
                        if isinstance(r.other, Const)
                        else f"for {self._source(r.other)}"
                    ),
                }
                for r in default.requirements
            ],
            "output_lines": outputs,
            "variants": [self._variant_context(i, v) for i, v in enumerate(self.plan.variants)],
            "constant_symbols": [f"{self.name}_constants"] if self.blob else [],
            "constant_bytes": len(self.blob),
            "constant_data": f"{self.name}_constants" if self.blob else "nullptr",
        }

    def _variant_context(self, index: int, variant: KernelPlan) -> dict[str, Any]:
        return {
            "index": index,
            "file": self._file(index, "cu"),
            "sizes": None if variant.sizes is None else ", ".join(f"INT64_C({size})" for size in variant.sizes),
            "types": [t.dtype.tensorrt for t in variant.inputs + variant.outputs],
            "workspace": self._cpp(variant.workspace),
            "workspace_symbol_lines": self._symbol_lines([variant.workspace]),
            **self._entry_points(index),
        }

    def _entry_points(self, index: int) -> dict[str, str]:
        return {"prepare": f"{self.name}_prepare_{index}", "enqueue": f"{self.name}_enqueue_{index}"}

    @staticmethod
    def _file(index: int, suffix: str) -> str:
        return f"kernels_{index}.{suffix}" if index else f"kernels.{suffix}"

    def _source(self, size: Expr) -> str:
        """Where a size comes from, for a message: the dimensions of inputs in it."""
        if isinstance(size, Const):
            return "a size that the plugin was generated for"
        places = [
            f"dimension {d.axis} of input {d.input} ({shorten(self.plan.default.inputs[d.input].name, 40)})"
            for d in self.plan.default.dimensions
            if d.symbol in ex.symbols_of(size)
        ]
        given = " and ".join(places)
        return given if isinstance(size, Symbol) else f"a size given by {given}"

    # Expressions

    def _cpp(self, expr: Expr, variables: Mapping[str, str] | None = None) -> str:
        return ex.to_cpp(self._rename(expr, {**self.symbols, **(variables or {})}))

    def _rename(self, expr: Expr, names: Mapping[str, str]) -> Expr:
        if isinstance(expr, Symbol):
            if expr.name not in names:
                raise PluginAutogenError(
                    f"plugin {self.name}: no dimension of an input gives {shorten(expr.name)} its value"
                )
            return Symbol(names[expr.name])
        if isinstance(expr, Binary):
            return Binary(expr.op, self._rename(expr.a, names), self._rename(expr.b, names))
        if isinstance(expr, Select):
            return Select(*(self._rename(e, names) for e in (expr.condition, expr.a, expr.b)))
        return expr

    def _symbol_lines(self, exprs: Any) -> list[str]:
        """C++ that reads the symbols that occur from the array `symbols`."""
        used = {name for e in exprs for name in ex.symbols_of(e)}
        return [
            f"int64_t const {variable} = symbols[{i}];"
            for i, (name, variable) in enumerate(self.symbols.items())
            if name in used
        ]

    def _builder(self, expr: Expr, tensor: TensorSpec, axis: int | None = None) -> str:
        """The expression as calls of the templates' `ExpressionBuilder e`; for a size tensor its upper bound."""

        def refuse(why: str) -> UnsupportedError:
            what = "the largest" if axis is None else f"dimension {axis} of output"
            return UnsupportedError(
                f"plugin {self.name}: {what} {shorten(tensor.name)} {why}, which TensorRT's "
                "IExprBuilder cannot express: choose the nodes so that this tensor stays inside the plugin"
            )

        def condition(e: Expr) -> str:
            """As `build`, and 0 or 1."""
            if isinstance(e, Binary) and e.op in _COMPARISONS:
                return build(e)
            if isinstance(e, Const):
                return f"e.constant({int(e.value != 0)})"
            return f"e.negate(e.equal({build(e)}, e.constant(0)))"

        def build(e: Expr) -> str:
            if isinstance(e, Const):
                if self.release.interface is Interface.V2 and abs(e.value) >= 2**31:
                    raise refuse(f"holds {e.value}, beyond 32 bits")
                return f"e.constant({ex.to_cpp(e)})"
            if isinstance(e, Symbol):
                for d in self.plan.default.dimensions:
                    if d.symbol == e.name:
                        return f"e.dimension({d.input}, {d.axis})"
                for k, shape in enumerate(self.plan.default.shape_inputs):
                    if e.name in shape.values:
                        return f"e.shapeValue({k}, {shape.values.index(e.name)})"
                for r in self.plan.default.resolved:
                    if r.symbol == e.name:
                        return build(r.value)
                raise refuse("depends on something else than dimensions of the inputs")
            if isinstance(e, Select):
                return f"e.select({condition(e.condition)}, {build(e.a)}, {build(e.b)})"
            if e.op in ("//", "%") and e.b == ex.ZERO:
                raise refuse("divides by zero")
            if e.op in _BUILDER:
                return f"e.{_BUILDER[e.op]}({build(e.a)}, {build(e.b)})"
            if e.op == "<":
                return f"e.less({build(e.a)}, {build(e.b)})"
            if e.op == "<=":
                return f"e.negate(e.less({build(e.b)}, {build(e.a)}))"
            if e.op == "==":
                return f"e.equal({build(e.a)}, {build(e.b)})"
            if e.op == "!=":
                return f"e.negate(e.equal({build(e.a)}, {build(e.b)}))"
            if e.op == "&&":
                return f"e.product({condition(e.a)}, {condition(e.b)})"
            if e.op == "||":
                return f"e.maximum({condition(e.a)}, {condition(e.b)})"
            raise refuse(f"uses the operator {shorten(e.op)}")

        return build(expr)

    # kernels.cu

    def _kernels_context(self, index: int, variant: KernelPlan) -> dict[str, Any]:
        # Host code sees kernels and some of TVM's helpers as global functions. Their names get a suffix that no other
        # plugin, variant or library has, so that any two of them can be linked or loaded together.
        digest = hashlib.sha256(f"{self.name} {index} {self.fingerprint}".encode()).hexdigest()[:8]
        helpers = list(_HELPER.finditer(variant.source))
        names = [k.name for k in variant.kernels] + [h["name"] for h in helpers if h["name"] not in _OVERLOADED]
        # A first declaration with `static` gives the later definition without it internal linkage.
        overloads = [h for h in helpers if h["name"] in _OVERLOADED and h["type"] in _TYPE_HEADERS]
        exprs = [e for step in variant.steps for e in expressions(step)]
        return {
            "name": self.name,
            "renames": [f"#define {name} {name}_{digest}" for name in dict.fromkeys(names)],
            "helper_headers": sorted({_TYPE_HEADERS[h["type"]] for h in overloads}),
            "helpers": [f"static __device__ {h['type']} {h['name']}({h['parameters']});" for h in overloads],
            "source_file": self._file(index, "cuh"),
            "prepare_lines": self._prepare_lines(variant),
            "symbol_lines": self._symbol_lines(exprs),
            "step_lines": _Steps(self, index).lines(variant.steps),
            **self._entry_points(index),
        }

    def _prepare_lines(self, variant: KernelPlan) -> list[str]:
        lines = []
        for kernel in variant.kernels:
            sizes = [s.shared_bytes for s in launches(variant.steps) if s.kernel == kernel.name]
            if not sizes:
                continue
            static = [s.value for s in sizes if isinstance(s, Const)]
            shared = max(static) if len(static) == len(sizes) else -1
            lines.append(f"PLUGIN_AUTOGEN_CHECK(prepareKernel({kernel.name}, {shared}));")
        return lines

    # plan.json

    def _json(self) -> bytes:
        data = {
            "name": self.name,
            "fingerprint": self.fingerprint,
            "tensorrt": self.release.key,
            "variants": [to_json(v) for v in self.plan.variants],
        }
        return json.dumps(data, indent=1).encode() + b"\n"


class _Steps:
    """The statements of one variant's `enqueue`."""

    def __init__(self, renderer: _Renderer, variant: int) -> None:
        self.renderer = renderer
        self.offsets = renderer.constant_offsets[variant]
        self.loops = 0

    def lines(self, steps: Sequence[Step], variables: Mapping[str, str] | None = None) -> list[str]:
        """C++ for the steps; `variables` are the loops around them, from the plan's names to those in C++."""
        variables = variables or {}
        return [line for step in steps for line in self._step(step, variables)]

    def _step(self, step: Step, variables: Mapping[str, str]) -> list[str]:
        if isinstance(step, Launch):
            return self._launch(step, variables)
        if isinstance(step, Copy):
            arguments = (
                self._address(step.destination, variables),
                self._address(step.source, variables),
                self._cpp(step.size, variables),
            )
            return [f"PLUGIN_AUTOGEN_CHECK(copy({', '.join(arguments)}, stream));"]
        if isinstance(step, Loop):
            variable = f"i{self.loops}"
            self.loops += 1
            head = f"for (int64_t {variable} = 0; {variable} < {self._cpp(step.extent, variables)}; ++{variable})"
            return [head, "{", *_indent(self.lines(step.body, {**variables, step.variable: variable})), "}"]
        lines = [f"if ({self._cpp(step.condition, variables)})", "{", *_indent(self.lines(step.then, variables)), "}"]
        if step.otherwise:
            lines += ["else", "{", *_indent(self.lines(step.otherwise, variables)), "}"]
        return lines

    def _launch(self, step: Launch, variables: Mapping[str, str]) -> list[str]:
        grid, block = (", ".join(self._cpp(e, variables) for e in extent) for extent in (step.grid, step.block))
        arguments = [
            f"Extent{{{grid}}}, Extent{{{block}}}, {self._cpp(step.shared_bytes, variables)}, stream",
            *(self._argument(a, variables) for a in step.arguments),
        ]
        lines = [f"PLUGIN_AUTOGEN_CHECK(launch({step.kernel},", *(f"    {a}," for a in arguments)]
        lines[-1] = lines[-1][:-1] + "));"
        return lines

    def _argument(self, argument: Argument, variables: Mapping[str, str]) -> str:
        if isinstance(argument, BufferRef):
            return self._address(argument, variables)
        return self._cpp(argument, variables)

    def _address(self, ref: BufferRef, variables: Mapping[str, str]) -> str:
        offset = ref.offset
        if ref.space is Space.INPUT:
            base = f"inputs[{ref.index}]"
        elif ref.space is Space.OUTPUT:
            base = f"outputs[{ref.index}]"
        elif ref.space is Space.CONSTANT:
            base, offset = "constants", ex.add(Const(self.offsets[ref.index]), offset)
        else:
            base = "workspace"
        return f"at({base}, {self._cpp(offset, variables)})"

    def _cpp(self, expr: Expr, variables: Mapping[str, str]) -> str:
        return self.renderer._cpp(expr, variables)

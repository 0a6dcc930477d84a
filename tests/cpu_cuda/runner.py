"""Compiles generated plugins for the CPU and runs them through TensorRT's plugin interface.

    plugin = CpuPlugin.from_plan(plan, release, scratch)
    outputs = plugin.run([x, y])

g++ compiles the generated `kernels.cu` unchanged against the headers in `include/`; a host executable (`host/`) loads
the library and does what TensorRT does with it, from the creator to `enqueue`, in a process of its own for each run.
One that goes wrong (a fault in a kernel, a plugin that refuses, a crash) raises `CpuCudaError` with the one line that
tells where.
"""

from __future__ import annotations

import enum
import fcntl
import functools
import hashlib
import os
import re
import shutil
import struct
import subprocess
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from plugin_autogen import dtypes
from plugin_autogen.codegen import expr as ex
from plugin_autogen.dtypes import ElementType
from plugin_autogen.releases import Interface, Release

if TYPE_CHECKING:
    from plugin_autogen.codegen.plan import PluginPlan

Array = np.ndarray[Any, Any]

_HERE = Path(__file__).resolve().parent
_INTERFACE_HEADERS = _HERE.parents[1] / "cuda_build" / "include"

_KERNEL_FAULT = 86  # host/execution.h
_PLUGIN_FAILURE = 85  # host/driver.h

_DYNAMIC_ARRAY = 228 * 1024  # host/execution.h

# Kernels read memory as other types than it was written as, and their integers wrap around; neither CUDA nor the CPU
# here may fuse a multiplication and an addition, so that results are the same everywhere.
_COMMON = ("-std=c++14", "-fPIC", "-fvisibility=hidden", "-fno-strict-aliasing", "-fwrapv", "-ffp-contract=off", "-g1")
_KERNEL = (*_COMMON, "-O1", "-fno-extern-tls-init", "-DCPU_CUDA_KERNEL_SOURCE")
_PLUGIN = (*_COMMON, "-O0")
_HOST = ("-std=c++17", "-O2", "-g1", "-Wall", "-Wextra")

# TensorRT's DataType by ONNX's name of the type (NvInferRuntimeBase.h).
_TENSORRT_TYPES = {
    "FLOAT": 0, "HALF": 1, "INT8": 2, "INT32": 3, "BOOL": 4, "UINT8": 5, "FP8": 6, "BF16": 7, "INT64": 8, "INT4": 9,
}  # fmt: skip


class CpuCudaError(Exception):
    """Base of what can go wrong here; the text tells where."""


class CompileError(CpuCudaError):
    """g++ refused the generated source."""


class KernelFault(CpuCudaError):
    """A kernel did what a GPU does not allow or define: out-of-bounds access, race, divergent barrier, deadlock."""


class PluginFailure(CpuCudaError):
    """The plugin refused, returned an error code, or broke a rule of TensorRT's interface."""


class Unstable(CpuCudaError):
    """Two runs that differ only in the order of threads and in what undefined memory holds gave other outputs."""


class Sanitizer(enum.Enum):
    """What watches the kernels beside the guards around buffers, which are always there."""

    NONE = "none"
    CHECK = "check"
    """Every access: bounds of each buffer and of shared memory, and races. About ten times slower."""
    ADDRESS = "address"
    """AddressSanitizer: bounds of buffers and of local arrays."""

    @property
    def kernel_flags(self) -> tuple[str, ...]:
        if self is Sanitizer.CHECK:
            # The runtime of the checks is host/check.cpp; ThreadSanitizer's own is never linked.
            return ("-fsanitize=thread", "--param", "tsan-instrument-func-entry-exit=0")
        return self.host_flags

    @property
    def host_flags(self) -> tuple[str, ...]:
        return ("-fsanitize=address", "-fno-omit-frame-pointer") if self is Sanitizer.ADDRESS else ()


@dataclass(frozen=True)
class OutputSpec:
    """An output that is expected: its element type and its shape in elements.

    The data decide a dimension of `-1 - k`: output k holds it.
    """

    dtype: ElementType
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Profile:
    """The range of shapes of one input that an engine is built for."""

    min: tuple[int, ...]
    opt: tuple[int, ...]
    max: tuple[int, ...]


@dataclass(frozen=True)
class Call:
    """One execution of a plugin: inputs, what is expected of the outputs, the profile. See `CpuLibrary.run`.

    `shapes` are the values of shape tensors, int64.
    """

    inputs: Sequence[Array]
    outputs: Sequence[OutputSpec]
    profiles: Sequence[Profile] | None = None
    shapes: Sequence[Array] = ()


@dataclass(frozen=True)
class RunResult:
    """Outputs of the first run, and what the plugin said about itself.

    Attributes:
        outputs: as `OutputSpec` stated them, in their actual shapes.
        workspace: bytes that the plugin asked for.
        launches: kernels that one `enqueue` launched.
    """

    outputs: list[Array]
    workspace: int
    launches: int


class CpuLibrary:
    """A library of generated plugins, compiled for the CPU."""

    def __init__(self, path: Path, release: Release, sanitizer: Sanitizer) -> None:
        self.path = path
        self.release = release
        self.sanitizer = sanitizer

    @classmethod
    def build(
        cls,
        name: str,
        plugins: Mapping[str, Mapping[str, bytes] | Path],
        release: Release,
        scratch: Path,
        sanitizer: Sanitizer = Sanitizer.NONE,
    ) -> CpuLibrary:
        """Compiles plugins into one library.

        Args:
            name: of the library, a C identifier.
            plugins: by plugin name, the files that `render_plugin` gave, or the folder that holds them.
            release: whose interface the sources are for.
            scratch: a folder for sources, objects and the library.

        Raises:
            CompileError: with g++'s first errors.
        """
        from plugin_autogen.codegen.render import render_library

        folders = []
        for plugin, files in plugins.items():
            folder = files if isinstance(files, Path) else _write(files, scratch / "src" / plugin)
            folders.append(folder)
        library_folder = _write(render_library(name, list(plugins), release), scratch / "src" / f"{name}.library")
        objects = scratch / "obj"
        objects.mkdir(parents=True, exist_ok=True)
        kernel_header = _prelude((*_KERNEL, *sanitizer.kernel_flags))
        plugin_header = _prelude(_PLUGIN)
        commands: list[tuple[list[str], Path, Path]] = []
        for folder in (*folders, library_folder):
            for source in sorted(folder.iterdir()):
                if source.suffix not in (".cu", ".cpp", ".S") or (
                    folder is not library_folder and source.name == "library.cpp"
                ):
                    continue
                target = objects / f"{folder.name}.{source.name}.o"
                command = ["g++", "-c", str(source), "-o", str(target)]
                if source.suffix == ".cu":
                    command[1:1] = [*_KERNEL, *sanitizer.kernel_flags, *_includes(kernel_header), "-x", "c++"]
                elif source.suffix == ".cpp":
                    command[1:1] = [*_PLUGIN, *_includes(plugin_header), f"-I{_INTERFACE_HEADERS}"]
                    command.insert(1, "-DPLUGIN_AUTOGEN_TENSORRT_HEADERS=0")
                commands.append((command, folder, target))
        with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
            list(pool.map(lambda job: _compile(job[0], job[1]), commands))
        kernels = [target for command, _, target in commands if "-DCPU_CUDA_KERNEL_SOURCE" in command]
        dynamic = _dynamic_shared(kernels, objects)
        library = scratch / f"{name}.so"
        _compile(["g++", "-shared", "-o", str(library), *(str(target) for _, _, target in commands), *dynamic], scratch)
        return cls(library, release, sanitizer)

    @classmethod
    def from_plans(
        cls,
        name: str,
        plans: Sequence[PluginPlan],
        release: Release,
        scratch: Path,
        sanitizer: Sanitizer = Sanitizer.NONE,
    ) -> CpuLibrary:
        """Renders and compiles plans into one library."""
        from plugin_autogen.codegen.render import render_plugin

        files = {plan.name: render_plugin(plan, release) for plan in plans}
        return cls.build(name, files, release, scratch, sanitizer)

    def run(
        self,
        plugin: str,
        inputs: Sequence[Array],
        outputs: Sequence[OutputSpec],
        *,
        fingerprint: str = "",
        profiles: Sequence[Profile] | None = None,
        seeds: Sequence[int] = (1, 2),
        contexts: int = 1,
        stable: bool = True,
        shared_limit: int = 64 * 1024,
        timeout: float = 300.0,
        shapes: Sequence[Array] = (),
    ) -> RunResult:
        """Runs one plugin from its creator to `enqueue`.

        Args:
            plugin: its name.
            inputs: in the plugin's order and exact types.
            outputs: what is expected of the plugin's own `getOutputDataTypes` and `getOutputShapes`.
            fingerprint: of the ONNX node; empty where the node has none.
            profiles: of the inputs, for dynamic shapes; default: the shapes of `inputs` alone.
            seeds: one `enqueue` for each: of the order of threads, and of what undefined memory holds.
            contexts: execution contexts, each on a host thread of its own.
            stable: all runs must give the same bits. Not so for sums by floating-point atomics.
            shared_limit: bytes of shared memory that a block may have; the default is that of compute capability 7.5.
            timeout: seconds.
            shapes: values of shape tensors.

        Raises:
            KernelFault: a kernel did something that a GPU forbids or leaves undefined.
            PluginFailure: the plugin refused or broke a rule.
            Unstable: see `stable`.
        """
        calls = [Call(inputs, outputs, profiles, shapes)]
        return self.run_many(plugin, calls, fingerprint, seeds, contexts, stable, shared_limit, timeout)[0]

    def run_many(
        self,
        plugin: str,
        calls: Sequence[Call],
        fingerprint: str = "",
        seeds: Sequence[int] = (1, 2),
        contexts: int = 1,
        stable: bool = True,
        shared_limit: int = 64 * 1024,
        timeout: float = 300.0,
    ) -> list[RunResult]:
        """`run` for several inputs, in one process: the library is loaded once, each call makes its plugin anew."""
        request = encode_request(plugin, calls, fingerprint, seeds, contexts, shared_limit)
        try:
            done = subprocess.run(
                [str(_host(self.release.interface, self.sanitizer)), str(self.path)],
                input=request,
                capture_output=True,
                timeout=timeout,
                env=_environment(),
            )
        except subprocess.TimeoutExpired as error:
            raise KernelFault(f"{plugin}: no end after {timeout} s") from error
        responses = decode_responses(plugin, done.stdout, [call.outputs for call in calls], stable)
        failing = calls[len(responses)] if 1 < len(calls) > len(responses) else None
        where = f" with input shapes {[np.shape(a) for a in failing.inputs]}" if failing is not None else ""
        _check(plugin + where, done.returncode, done.stderr, self.path)
        return responses


def encode_request(
    plugin: str,
    calls: Sequence[Call],
    fingerprint: str = "",
    seeds: Sequence[int] = (1, 2),
    contexts: int = 1,
    shared_limit: int = 64 * 1024,
) -> bytes:
    """What the host reads (`host/main.cpp`). The arguments are those of `CpuLibrary.run_many`."""
    request = struct.pack("<q", len(calls))
    for call in calls:
        arrays = [np.ascontiguousarray(array).reshape(np.shape(array)) for array in call.inputs]
        request += _text(plugin) + _text(fingerprint) + _numbers(seeds) + struct.pack("<2q", contexts, shared_limit)
        request += struct.pack("<q", len(arrays))
        for index, array in enumerate(arrays):
            dtype = dtypes.from_name(array.dtype.name)
            profile = call.profiles[index] if call.profiles is not None else Profile(*[array.shape] * 3)
            request += _tensor(dtype, array.shape, profile) + struct.pack("<q", array.nbytes) + array.tobytes()
        request += struct.pack("<q", len(call.shapes))
        for values in call.shapes:
            request += _numbers([int(value) for value in values])
        request += struct.pack("<q", len(call.outputs))
        for spec in call.outputs:
            request += _tensor(spec.dtype, spec.shape, Profile(spec.shape, spec.shape, spec.shape))
    return request


def decode_responses(
    plugin: str, data: bytes, outputs: Sequence[Sequence[OutputSpec]], stable: bool
) -> list[RunResult]:
    """The results of the calls that the host came to; `outputs` are those of each call."""
    responses: list[RunResult] = []
    offset = 0
    while offset < len(data):
        result, offset = _response(plugin, data, offset, outputs[len(responses)], stable)
        responses.append(result)
    return responses


def _response(
    plugin: str, data: bytes, offset: int, outputs: Sequence[OutputSpec], stable: bool
) -> tuple[RunResult, int]:
    """The result that lies at `offset`, and where it ends."""
    workspace, launches, runs = struct.unpack_from("<3q", data, offset)
    offset += 24
    first: list[bytes] = []
    shapes = [spec.shape for spec in outputs]
    for run in range(runs):
        contents = []
        for _ in outputs:
            (size,) = struct.unpack_from("<q", data, offset)
            contents.append(data[offset + 8 : offset + 8 + size])
            offset += 8 + size
        for index, spec in enumerate(outputs):
            shapes[index], content = _packed(plugin, index, spec, contents)
            if run == 0:
                first.append(content)
            elif stable and content != first[index]:
                a, b = np.frombuffer(first[index], np.uint8), np.frombuffer(content, np.uint8)
                place = int(np.flatnonzero(a != b)[0]) // spec.dtype.bytes
                raise Unstable(
                    f"{plugin}: output {index} differs between runs, first at element {place}: a race, or elements "
                    f"that are never written"
                )
    arrays = []
    for index, (spec, content, shape) in enumerate(zip(outputs, first, shapes, strict=True)):
        if spec.dtype is dtypes.BOOL and any(byte > 1 for byte in content):
            raise PluginFailure(f"{plugin}: output {index} holds a bool that is neither 0 nor 1")
        arrays.append(np.frombuffer(content, spec.dtype.numpy).reshape(shape).copy())
    return RunResult(arrays, workspace, launches), offset


def _packed(plugin: str, index: int, spec: OutputSpec, contents: Sequence[bytes]) -> tuple[tuple[int, ...], bytes]:
    """The actual shape of an output, and the part of its buffer that it takes."""
    if all(size >= 0 for size in spec.shape):
        return spec.shape, contents[index]
    shape = tuple(size if size >= 0 else struct.unpack("<q", contents[-1 - size])[0] for size in spec.shape)
    taken = int(np.prod(shape, dtype=np.int64)) * spec.dtype.bytes
    if min(shape) < 0 or taken > len(contents[index]):
        raise PluginFailure(f"{plugin}: output {index} has the shape {shape} and room for {len(contents[index])} bytes")
    return shape, contents[index][:taken]


class CpuPlugin:
    """One plugin in a library of its own."""

    def __init__(self, name: str, library: CpuLibrary, plan: PluginPlan | None = None) -> None:
        self.name = name
        self.library = library
        self._plan = plan

    @classmethod
    def build(
        cls,
        name: str,
        files: Mapping[str, bytes] | Path,
        release: Release,
        scratch: Path,
        sanitizer: Sanitizer = Sanitizer.NONE,
    ) -> CpuPlugin:
        """Compiles the files that `render_plugin` gave for the plugin `name`. See `CpuLibrary.build`."""
        return cls(name, CpuLibrary.build(name, {name: files}, release, scratch, sanitizer))

    @classmethod
    def from_plan(
        cls, plan: PluginPlan, release: Release, scratch: Path, sanitizer: Sanitizer = Sanitizer.NONE
    ) -> CpuPlugin:
        """Renders and compiles a plan."""
        return cls(plan.name, CpuLibrary.from_plans(plan.name, [plan], release, scratch, sanitizer), plan)

    def run(self, inputs: Sequence[Array], outputs: Sequence[OutputSpec] | None = None, **options: Any) -> list[Array]:
        """The outputs for these inputs. `outputs` may be left out for a plugin made `from_plan`.

        Options and errors are those of `CpuLibrary.run`.
        """
        return self.run_result(inputs, outputs, **options).outputs

    def run_result(
        self, inputs: Sequence[Array], outputs: Sequence[OutputSpec] | None = None, **options: Any
    ) -> RunResult:
        """Like `run`, with workspace and launches."""
        if outputs is None:
            if self._plan is None:
                raise ValueError("the outputs of a plugin that was not made from a plan must be stated")
            outputs = output_specs(self._plan, inputs)
            options.setdefault("fingerprint", self._plan.fingerprint)
        return self.library.run(self.name, inputs, outputs, **options)


def run_program(source: str, scratch: Path, sanitizer: Sanitizer = Sanitizer.NONE) -> str:
    """Compiles CUDA C++ with kernels and an `extern "C" int run()`, and runs that; returns its standard output.

    Raises:
        CompileError: with g++'s first errors.
        KernelFault: as for a plugin, or `run` returned something but 0.
    """
    exported = source.replace('extern "C" int run()', 'extern "C" __attribute__((visibility("default"))) int run()')
    path = _write({"program.cu": exported.encode()}, scratch) / "program.cu"
    flags = (*_KERNEL, *sanitizer.kernel_flags)
    target, library = scratch / "program.o", scratch / "program.so"
    _compile(["g++", *flags, *_includes(_prelude(flags)), "-c", "-x", "c++", str(path), "-o", str(target)], scratch)
    _compile(["g++", "-shared", "-o", str(library), str(target), *_dynamic_shared([target], scratch)], scratch)
    done = subprocess.run(
        [str(_host(Interface.V3, sanitizer)), str(library), "--call", "run"],
        capture_output=True,
        timeout=300,
        env=_environment(),
    )
    _check("program", done.returncode, done.stderr, library)
    return done.stdout.decode()


def output_specs(plan: PluginPlan, inputs: Sequence[Array], shapes: Sequence[Array] = ()) -> list[OutputSpec]:
    """What the plan says about its outputs for these inputs; the variant is chosen by the inputs' types.

    `shapes` are the values of the shape inputs.
    """
    types = [array.dtype for array in inputs]
    variant = next((v for v in plan.variants if [t.dtype.numpy for t in v.inputs] == types), plan.default)
    symbols = {d.symbol: inputs[d.input].shape[d.axis] for d in variant.dimensions}
    symbols |= {s.symbol: -1 - s.output for s in variant.data_sizes}
    for shape, values in zip(variant.shape_inputs, shapes, strict=True):
        symbols |= dict(zip(shape.values, map(int, values), strict=True))
    for resolved in variant.resolved:
        symbols[resolved.symbol] = ex.evaluate(resolved.value, symbols)
    return [OutputSpec(t.dtype, tuple(ex.evaluate(d, symbols) for d in t.shape)) for t in variant.outputs]


def _environment() -> dict[str, str]:
    return {**os.environ, "ASAN_OPTIONS": f"detect_leaks=0:exitcode={_KERNEL_FAULT}"}


def _check(name: str, status: int, stderr: bytes, library: Path) -> None:
    if status == 0:
        return
    message = re.sub(
        r"\(at (0x[0-9a-f]+)\)", lambda m: _source_line(library, m[1]), stderr.decode(errors="replace").strip()
    )
    if status == _PLUGIN_FAILURE:
        raise PluginFailure(f"{name}: {message}")
    if status == _KERNEL_FAULT:
        raise KernelFault(f"{name}: {message}")
    raise KernelFault(f"{name}: the process ended with {status}: {message}")


def _source_line(library: Path, address: str) -> str:
    """The file and line of an address in the library, from its debug information."""
    done = subprocess.run(["addr2line", "-e", str(library), address], capture_output=True, text=True)
    file, _, line = done.stdout.strip().rpartition(":")
    return f"({Path(file).name}, line {line.split()[0]})" if done.returncode == 0 and file not in ("", "??") else ""


def _text(text: str) -> bytes:
    data = text.encode()
    return struct.pack("<q", len(data)) + data


def _numbers(numbers: Sequence[int]) -> bytes:
    return struct.pack(f"<{len(numbers) + 1}q", len(numbers), *numbers)


def _tensor(dtype: ElementType, shape: Sequence[int], profile: Profile) -> bytes:
    if dtype.tensorrt is None:
        raise ValueError(f"TensorRT has no type {dtype}")
    header = struct.pack("<q", _TENSORRT_TYPES[dtype.tensorrt])
    shapes = b"".join(_numbers(s) for s in (shape, profile.min, profile.opt, profile.max))
    known = all(size >= 0 for size in shape)  # else the host asks the plugin
    return header + shapes + struct.pack("<q", int(np.prod(shape, dtype=np.int64)) * dtype.bytes if known else 0)


def _write(files: Mapping[str, bytes], folder: Path) -> Path:
    for relative, content in files.items():
        path = folder / relative
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


def _compile(command: Sequence[str], folder: Path) -> None:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if done.returncode != 0:
        lines = [line for line in done.stderr.splitlines() if "error" in line or "undefined" in line]
        raise CompileError("\n".join(lines[:10]) or done.stderr[-2000:])


def _dynamic_shared(kernels: Sequence[Path], folder: Path) -> list[str]:
    """An object that defines the arrays which kernels declare as `extern __shared__`; none where there are none.

    Thread-local, since a block runs within one host thread; the size is that of `kDynamicArray` in host/execution.h.
    """
    listing = subprocess.run(["readelf", "-sW", *map(str, kernels)], capture_output=True, text=True, check=True).stdout
    fields = [line.split() for line in listing.splitlines()]
    names = sorted(
        {f[7] for f in fields if len(f) == 8 and f[3] == "TLS" and f[6] == "UND" and f[7] != "cpuCudaBuiltins"}
    )
    if not names:
        return []
    source = folder / "dynamic_shared.s"
    lines = ['\t.section .note.GNU-stack,"",%progbits', '\t.section .tbss,"awT",%nobits']
    for name in names:
        lines += ["\t.balign 1024", f"\t.globl {name}", f"\t.hidden {name}", f"\t.type {name}, %object"]
        lines += [f"\t.size {name}, {_DYNAMIC_ARRAY}", f"{name}:", f"\t.zero {_DYNAMIC_ARRAY}"]
    source.write_text("\n".join(lines) + "\n")
    target = folder / "dynamic_shared.o"
    _compile(["g++", "-c", str(source), "-o", str(target)], folder)
    return [str(target)]


@functools.cache
def _cache() -> Path:
    """A folder for the hosts and precompiled headers of exactly these sources and this compiler."""
    digest = hashlib.sha256()
    version = subprocess.run(["g++", "-v"], capture_output=True, text=True, check=True).stderr
    digest.update(version.encode() + Path(__file__).read_bytes())
    for folder in (_HERE / "include", _HERE / "host", _INTERFACE_HEADERS):
        for path in sorted(p for p in folder.rglob("*") if p.is_file()):
            digest.update(str(path.relative_to(folder)).encode() + b"\0" + path.read_bytes() + b"\0")
    root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = root / "plugin_autogen" / "cpu_cuda" / digest.hexdigest()[:16]
    folder.mkdir(parents=True, exist_ok=True)
    os.utime(folder)
    # Precompiled headers are large: what no run has used for a week goes.
    for other in folder.parent.iterdir():
        if other.stat().st_mtime < time.time() - 7 * 24 * 3600:
            shutil.rmtree(other, ignore_errors=True)
    return folder


def _made_once(name: str, make: Any) -> Path:
    """The file of this name in the cache, made by `make(path)` where it is missing; one process makes it."""
    path = _cache() / name
    if path.exists():
        return path
    with path.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.exists():
            unfinished = path.with_name(f".{os.getpid()}.{path.name}")
            make(unfinished)
            unfinished.replace(path)
    return path


@functools.cache
def _prelude(flags: tuple[str, ...]) -> Path:
    """`prelude.h` beside its precompiled form for these flags."""
    name = hashlib.sha256(" ".join(flags).encode()).hexdigest()[:8]
    header = _made_once(f"prelude-{name}.h", lambda path: shutil.copy(_HERE / "include" / "prelude.h", path))
    _made_once(
        f"{header.name}.gch",
        lambda path: _compile(
            ["g++", *flags, f"-I{_HERE / 'include'}", "-x", "c++-header", str(header), "-o", str(path)], _HERE
        ),
    )
    return header


def _includes(header: Path) -> list[str]:
    return ["-include", str(header), f"-I{_HERE / 'include'}"]


@functools.cache
def _host(interface: Interface, sanitizer: Sanitizer) -> Path:
    """The executable that drives plugins of this interface."""

    def make(path: Path) -> None:
        sources = [
            _HERE / "host" / f"{name}.cpp"
            for name in ("check", "execution", "memory", "runtime_api", "symbols", "main")
        ]
        sources.append(_HERE / "host" / f"plugin_{interface.name.lower()}.cpp")
        folder = path.with_name(f"{path.name}.obj")
        folder.mkdir(exist_ok=True)
        flags = [*_HOST, *sanitizer.host_flags, f"-I{_HERE / 'include'}", f"-I{_INTERFACE_HEADERS}"]
        objects = [folder / f"{source.stem}.o" for source in sources]
        jobs = [["g++", *flags, "-c", str(s), "-o", str(o)] for s, o in zip(sources, objects, strict=True)]
        with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
            list(pool.map(lambda job: _compile(job, folder), jobs))
        link = ["g++", "-rdynamic", "-pthread", *sanitizer.host_flags, *map(str, objects), "-ldl", "-o", str(path)]
        _compile(link, folder)
        shutil.rmtree(folder)

    # The same host serves plain and checked libraries.
    kind = sanitizer.value if sanitizer is Sanitizer.ADDRESS else "plain"
    return _made_once(f"host-{interface.name.lower()}-{kind}", make)

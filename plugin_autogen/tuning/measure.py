"""Builds scheduled functions and times them: TVM's builder and runners, with our lowering and our compiler.

Candidates come from a search and may do anything: each is built and run in a process of its own kind, which is killed
when it takes too long, and thrown away when a candidate has broken its CUDA context.
"""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from plugin_autogen.build.compile import shell_safe_folder
from plugin_autogen.build.toolchain import Toolchain
from plugin_autogen.schedule.lower import split
from plugin_autogen.tuning import Tracker
from plugin_autogen.tuning.device import rpc_config
from plugin_autogen.verify.compare import difference

if TYPE_CHECKING:
    import numpy as np
    from tvm import tirx
    from tvm.target import Target

BUILD_SECONDS, RUN_SECONDS = 120.0, 30.0
BUILDS_PER_PROCESS = 64
"""TVM's memory grows with every build."""
REPEATS, REPEAT_MS = 3, 20
"""A candidate's time is the mean of so many measurements of at least so many milliseconds."""
BROKEN_CONTEXT = 13
"""Exit code of a worker that cannot use its GPU any more."""


@dataclass(frozen=True)
class CudaCompiler:
    """CUDA C++ to machine code for one GPU, as TVM asks for it."""

    nvcc: str
    host_compiler: str
    arch: int

    @classmethod
    def of(cls, toolchain: Toolchain, arch: int) -> CudaCompiler:
        return cls(str(toolchain.nvcc), str(toolchain.host_compiler), arch)

    def __call__(self, source: str, *_: object) -> bytes:
        """The GPU's machine code (a cubin)."""
        # nvcc hands paths to a shell; relative names in a harmless folder keep it from what could be in ours
        with tempfile.TemporaryDirectory(dir=shell_safe_folder()) as folder:
            (Path(folder) / "k.cu").write_text(source)
            command = [self.nvcc, "-ccbin", self.host_compiler, "-std=c++17", "-O3", "-w", "-cubin"]
            command += [f"-arch=sm_{self.arch}", "k.cu", "-o", "k.cubin"]
            environment = {**os.environ, "TMPDIR": folder}
            made = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
            if made.returncode:
                raise RuntimeError(f"nvcc: {(made.stderr or made.stdout)[-500:]}")
            return (Path(folder) / "k.cubin").read_bytes()


class Bench:
    """Times scheduled functions on one device.

    Args:
        target: what functions are lowered for; LLVM's times them on a CPU.
        compiler: for the device; None for a CPU.
        tracker: where the device is; None: here.
        jobs: builds at once.
    """

    def __init__(self, target: Target, compiler: CudaCompiler | None, tracker: Tracker | None, jobs: int) -> None:
        from tvm.s_tir.meta_schedule import runner

        self.target = target
        self.builder = _builder(functools.partial(_build, compiler), jobs)
        self._tracker = tracker
        settings = runner.EvaluatorConfig(number=1, repeat=REPEATS, min_repeat_ms=REPEAT_MS)
        if tracker is None:
            self.runner = runner.LocalRunner(
                RUN_SECONDS, settings, f_alloc_argument=_allocate, f_run_evaluator=_evaluate
            )
        else:
            self.runner = runner.RPCRunner(
                rpc_config(tracker), settings, f_alloc_argument=_allocate_remotely, max_workers=1
            )

    @property
    def _device_type(self) -> str:
        return "cuda" if self.target.kind.name == "cuda" else "cpu"

    def build(self, functions: Sequence[tirx.PrimFunc]) -> list[str | None]:
        """Each function's file; None where it cannot be built."""
        import tvm
        from tvm.s_tir.meta_schedule.builder import BuilderInput

        modules = [tvm.IRModule({"main": function.with_attr("global_symbol", "main")}) for function in functions]
        results = self.builder.build([BuilderInput(module, self.target) for module in modules])
        return [result.artifact_path for result in results]

    def seconds(self, files: Sequence[str], function: tirx.PrimFunc) -> list[float | None]:
        """Of one call of each file's function, all of which take what `function` takes; None where it failed."""
        from tvm.s_tir.meta_schedule.arg_info import ArgInfo
        from tvm.s_tir.meta_schedule.runner import RunnerInput

        arguments = ArgInfo.from_prim_func(function)
        futures = self.runner.run([RunnerInput(file, self._device_type, arguments) for file in files])
        found = [future.result().run_secs for future in futures]
        return [sum(map(float, times)) / len(times) if times else None for times in found]

    def same_results(self, file: str, reference: str, function: tirx.PrimFunc) -> bool:
        """Whether two files' functions give the same for random inputs, to the tolerance of the element types."""
        from tvm.s_tir.meta_schedule.arg_info import ArgInfo

        shapes = [argument.as_json()[1:] for argument in ArgInfo.from_prim_func(function)]
        call = functools.partial(
            _same_results, self._tracker, self._device_type, file, reference, shapes, _indexes_by_data(function)
        )
        try:
            return bool(self.runner.pool.submit(call).result())
        except Exception:  # the worker is gone, or the candidate failed
            return False


def _builder(build: Any, jobs: int) -> Any:
    """MetaSchedule's builder, whose own LocalBuilder starts its processes, and TVM in them, anew for every batch."""
    from tvm.ir.utils import derived_object
    from tvm.s_tir.meta_schedule.builder import BuilderResult, PyBuilder
    from tvm.support.popen_pool import PopenPoolExecutor, StatusKind

    @derived_object
    class Builder(PyBuilder):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.pool = PopenPoolExecutor(
                max_workers=jobs, timeout=BUILD_SECONDS, maximum_process_uses=BUILDS_PER_PROCESS
            )

        def build(self, inputs: Sequence[Any]) -> list[Any]:
            work = [(build, i.mod, i.target) for i in inputs]
            return [
                BuilderResult(result.value, None)
                if result.status == StatusKind.COMPLETE
                else BuilderResult(None, str(result.value or "took too long"))
                for result in self.pool.map_with_error_catching(lambda x: _build_and_export(*x), work)
            ]

    return Builder()


def remove(files: Sequence[str | None]) -> None:
    """Deletes what `Bench.build` made."""
    for file in files:
        if file is not None:
            shutil.rmtree(Path(file).parent, ignore_errors=True)


# In the workers ------------------------------------------------------------------------------------------------------


def _build_and_export(build: Any, module: Any, target: Target) -> str:
    from tvm.s_tir.meta_schedule.builder.local_builder import default_export

    path: str = default_export(build(module, target))
    return path


def _build(compiler: CudaCompiler | None, module: Any, target: Target) -> Any:
    """TVM's module of the host function and the kernels."""
    import tvm
    import tvm_ffi
    from tvm import tirx
    from tvm.tirx.build import split_host_device_mods, tir_to_runtime

    if compiler is None:
        return tvm.tirx.build(module, target=target)
    tvm_ffi.register_global_func("tvm_callback_cuda_compile", compiler, override=True)
    t = tirx.transform
    function = module["main"]
    lowered = split(function, "main", target)
    legalize = [t.FP8StorageLegalize(), t.BF16StorageLegalize()]
    lowered = tvm.transform.Sequential([t.MakePackedAPI(), *legalize])(lowered)
    host, devices = split_host_device_mods(lowered)
    host = tvm.transform.Sequential([t.LowerTVMBuiltin(), t.LowerIntrin()])(host)
    finish = tvm.transform.Sequential([t.LowerWarpMemory(), t.StmtSimplify(), t.LowerIntrin()])
    return tir_to_runtime(host, {kind: finish(kernels) for kind, kernels in devices.items()}, target.host)


def _allocate(device: Any, arguments: Sequence[Any], repeats: int) -> list[list[Any]]:
    """Tensors on the device; integers that may be indices are 0, so that no candidate reads behind its tensors."""
    import tvm

    return _filled(device, arguments, repeats, tvm.get_global_func("tvm.contrib.random.random_fill_for_measure"))


def _allocate_remotely(session: Any, device: Any, arguments: Sequence[Any], repeats: int) -> list[list[Any]]:
    return _filled(device, arguments, repeats, session.get_function("tvm.contrib.random.random_fill_for_measure"))


def _filled(device: Any, arguments: Sequence[Any], repeats: int, fill: Any) -> list[list[Any]]:
    import numpy as np
    import tvm

    def tensor(dtype: str, shape: Sequence[int]) -> Any:
        made = tvm.runtime.empty(tuple(shape), dtype, device)
        if dtype in ("float32", "float16", "float64", "int8", "uint8"):
            fill(made)
        elif dtype.startswith(("int", "uint")):
            made.copyfrom(np.zeros(tuple(shape), dtype))
        return made

    return [[tensor(str(dtype), shape) for _, dtype, shape in arguments] for _ in range(repeats)]


def _evaluate(module: Any, device: Any, settings: Any, arguments: Any) -> list[float]:
    """Seconds of a call; ends the process where the candidate has broken it for all that come after."""
    from tvm.s_tir.meta_schedule.runner.utils import run_evaluator_common

    try:
        times: list[float] = run_evaluator_common(module, device, settings, arguments)
    except Exception:
        try:
            device.sync()
        except Exception:
            os._exit(BROKEN_CONTEXT)
        raise
    return times


def _same_results(
    tracker: Tracker | None, device_type: str, file: str, reference: str, tensors: Sequence[Any], indices: bool
) -> bool:
    import numpy as np
    import tvm

    session = None if tracker is None else rpc_config(tracker).connect_server()
    device = (tvm if session is None else session).device(device_type, 0)
    generator = np.random.default_rng(0)
    arrays = [_random(generator, str(dtype), shape, indices) for dtype, shape in tensors]
    found = []
    for path in (file, reference):
        if session is None:
            module = tvm.runtime.load_module(path)
        else:
            session.upload(path, "plugin_autogen_candidate.tar")
            module = session.load_module("plugin_autogen_candidate.tar")
        moved = [tvm.runtime.tensor(array, device) for array in arrays]
        try:
            module["main"](*moved)
            device.sync()
        except Exception:
            if session is None:
                os._exit(BROKEN_CONTEXT)
            raise
        found.append([tensor.numpy() for tensor in moved])
    return all(difference(a, b).message is None for a, b in zip(*found, strict=True))


def _random(generator: np.random.Generator, dtype: str, shape: Sequence[int], indices: bool) -> np.ndarray:
    """Values that the element type holds; integers of more than 8 bits are 0 where they may be indices."""
    import ml_dtypes  # noqa: F401  (gives NumPy bfloat16 and the float8 types)
    import numpy as np

    kind = np.dtype(dtype)
    if kind.kind == "b":
        return generator.random(tuple(shape)) < 0.5
    if kind.kind in "iu":
        high = 1 if indices and kind.itemsize > 1 else 8
        return generator.integers(0, high, tuple(shape)).astype(kind)
    return generator.standard_normal(tuple(shape), "float32").astype(kind)


def _indexes_by_data(function: tirx.PrimFunc) -> bool:
    """Whether an element decides where another is read or written."""
    import tvm_ffi
    from tvm import ir, tirx

    nested: list[Any] = []

    def visit(access: Any) -> None:
        for index in access.indices:
            tvm_ffi.structural_walk(index, (ir.TensorLoad, nested.append))

    tvm_ffi.structural_walk(function.body, ((ir.TensorLoad, tirx.BufferStore), visit))
    return bool(nested)

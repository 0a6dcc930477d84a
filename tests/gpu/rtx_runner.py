"""Builds and runs the engines of a trial with TensorRT-RTX, and writes what happened as JSON lines.

    python -m tests.gpu.rtx_runner build|run|compute MANIFEST RESULTS

The modes, the manifest and the results are those of `trt8_runner.cpp`. `build` needs no GPU. In the environment:
`RTX_LIB`, the folder of TensorRT-RTX's libraries, which must be on `LD_LIBRARY_PATH` too.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import json
import os
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

SETS = ("a", "b")
_REPETITIONS = 100
_THREAD_ROUNDS = 200
_CONTEXT_WARM_UP, _CONTEXT_ROUNDS = 100, 1000
_ENGINE_WARM_UP, _ENGINE_ROUNDS = 20, 100


class TrialError(Exception):
    """A case went wrong; the message says how."""


def _tensorrt() -> Any:
    folder = os.environ.get("RTX_LIB")
    if folder:
        for name in ("libtensorrt_rtx.so.1", "libtensorrt_onnxparser_rtx.so.1"):
            ctypes.CDLL(str(Path(folder) / name), mode=ctypes.RTLD_GLOBAL)
    return importlib.import_module("tensorrt_rtx_bindings")


class _Cuda:
    """CUDA's runtime, each call checked."""

    def __init__(self) -> None:
        self.api: Any = importlib.import_module("cuda.bindings.runtime")

    def __getattr__(self, name: str) -> Callable[..., Any]:
        function = getattr(self.api, name)

        def call(*arguments: Any) -> Any:
            status, *values = function(*arguments)
            if status != self.api.cudaError_t.cudaSuccess:
                raise TrialError(f"{name}: {status.name}")
            return values[0] if len(values) == 1 else tuple(values)

        return call


class _Runner:
    def __init__(self) -> None:
        self.trt = _tensorrt()
        self.errors: list[str] = []
        self.loaded: set[str] = set()
        runner = self

        class Logger(self.trt.ILogger):  # type: ignore[name-defined, misc]
            def __init__(self) -> None:
                super().__init__()

            def log(self, severity: Any, message: str) -> None:
                kinds = runner.trt.ILogger.Severity
                if severity in (kinds.INTERNAL_ERROR, kinds.ERROR):
                    runner.errors.append(message)
                if severity in (kinds.INTERNAL_ERROR, kinds.ERROR, kinds.WARNING):
                    print(f"[TensorRT-RTX] {message}", file=sys.stderr)

        self.logger = Logger()

    def require(self, condition: object, message: str) -> None:
        if not condition:
            raise TrialError(f"{message} ({'; '.join(self.errors)})" if self.errors else message)

    def load_plugins(self, plugin: str, folder: Path) -> None:
        """Loads the library, unless it is loaded: a registry takes each plugin once."""
        if plugin in self.loaded:
            return
        self.require(
            self.trt.get_plugin_registry().load_library(str(folder / "plugin.so")) is not None,
            "the plugin library was refused",
        )
        self.loaded.add(plugin)

    # --- build --------------------------------------------------------------------------------------------------------

    def build(self, plugin: str, folder: Path) -> dict[str, Any]:
        trt = self.trt
        builder = trt.Builder(self.logger)  # before the library: it tells the registry which logger to use
        self.load_plugins(plugin, folder)
        start = time.perf_counter()
        network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
        parser = trt.OnnxParser(network, self.logger)
        parsed = parser.parse_from_file(str(folder / "model.onnx"))
        self.require(parsed, parser.get_error(0).desc() if parser.num_errors else "the parser refused the model")
        kinds = [network.get_layer(i).type for i in range(network.num_layers)]
        self.require(kinds == [trt.LayerType.PLUGIN_V3], f"the network is {kinds} instead of one plugin")
        data = builder.build_serialized_network(network, builder.create_builder_config())
        self.require(data is not None, "the builder refused the network")
        seconds = time.perf_counter() - start
        (folder / "trial.engine").write_bytes(bytes(data))
        del parser  # the bindings let a parser outlive its network, and then crash
        return {"seconds": seconds, "bytes": data.nbytes, "layers": len(kinds)}

    # --- run ----------------------------------------------------------------------------------------------------------

    def run(self, plugin: str, folder: Path, with_trials: bool) -> dict[str, Any]:
        trt = self.trt
        cuda = _Cuda()
        runtime = trt.Runtime(self.logger)
        self.load_plugins(plugin, folder)
        data = (folder / "trial.engine").read_bytes()
        engine = runtime.deserialize_cuda_engine(data)
        self.require(engine is not None, "the engine cannot be deserialized")
        tensors = _tensors(trt, engine)
        found: dict[str, Any] = {
            "outputs": [
                {"name": name, "dtype": kind, "shape": list(shape)}
                for name, kind, shape, _, is_input in tensors
                if not is_input
            ]
        }
        inputs: dict[str, dict[str, bytes]] = {}
        for name in SETS:
            inputs[name] = {t[0]: (folder / f"{name}.{t[0]}.bin").read_bytes() for t in tensors if t[4]}
            for tensor, value in inputs[name].items():
                size = next(t[3] for t in tensors if t[0] == tensor)
                self.require(len(value) == size, f"input {tensor} has {size} bytes, the file {len(value)}")

        results: dict[str, dict[str, bytes]] = {}
        session = _Session(self, cuda, engine, tensors)
        for name in SETS:
            session.upload(inputs[name])
            session.poison(0xA5)
            session.enqueue()
            results[name] = session.download()
            session.poison(0x5A)
            session.enqueue()
            self.require(
                session.download() == results[name], "outputs depend on what was in their memory, or on chance"
            )
            for tensor, value in results[name].items():
                (folder / f"{name}.{tensor}.actual").write_bytes(value)
        if with_trials:
            found["graph"] = self._graph(session, inputs, results)
            found["microseconds"] = session.time()
        session.close()
        if not with_trials:
            return found
        found["threads"] = self._threads(cuda, engine, tensors, inputs, results)

        def execute(source: Any) -> None:
            one = _Session(self, cuda, source, tensors)
            one.upload(inputs["a"])
            one.enqueue()
            one.synchronize()
            one.close()

        def deserialize() -> None:
            another = runtime.deserialize_cuda_engine(data)
            self.require(another is not None, "the engine cannot be deserialized again")
            execute(another)

        found["contexts"] = _soak(cuda, _CONTEXT_WARM_UP, _CONTEXT_ROUNDS, lambda: execute(engine))
        found["engines"] = _soak(cuda, _ENGINE_WARM_UP, _ENGINE_ROUNDS, deserialize)
        return found

    def _graph(self, session: _Session, inputs: Any, expected: Any) -> str:
        session.capture()
        for i, name in enumerate(SETS):
            session.upload(inputs[name])
            session.poison(0x33 + i)
            session.launch()
            if session.download() != expected[name]:
                return f"outputs for inputs {name} differ from those without a graph"
        return ""

    def _threads(self, cuda: _Cuda, engine: Any, tensors: Any, inputs: Any, expected: Any) -> str:
        """Two contexts on two streams from two threads, each with inputs of its own."""
        messages = ["", ""]
        sessions = [_Session(self, cuda, engine, tensors) for _ in SETS]

        def work(index: int) -> None:
            try:
                for i in range(_THREAD_ROUNDS):
                    sessions[index].upload(inputs[SETS[index]])
                    sessions[index].poison(i & 0xFF)
                    sessions[index].enqueue()
                    if sessions[index].download() != expected[SETS[index]]:
                        messages[index] = f"thread {index}, round {i}: outputs differ from those of one thread"
                        return
            except Exception as error:  # a thread's exception would be lost
                messages[index] = f"thread {index}: {error}"

        threads = [threading.Thread(target=work, args=(i,)) for i in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for session in sessions:
            session.close()
        return messages[0] or messages[1]


_Tensors = Sequence[tuple[str, str, tuple[int, ...], int, bool]]
"""Name, element type, shape, bytes, and whether it is an input."""


def _tensors(trt: Any, engine: Any) -> _Tensors:
    names = {
        trt.DataType.FLOAT: ("float32", 4),
        trt.DataType.HALF: ("float16", 2),
        trt.DataType.BF16: ("bfloat16", 2),
        trt.DataType.INT8: ("int8", 1),
        trt.DataType.INT32: ("int32", 4),
        trt.DataType.INT64: ("int64", 8),
        trt.DataType.BOOL: ("bool", 1),
        trt.DataType.UINT8: ("uint8", 1),
        trt.DataType.FP8: ("float8_e4m3fn", 1),
    }
    found = []
    for i in range(engine.num_io_tensors):
        name = engine.get_tensor_name(i)
        kind, size = names[engine.get_tensor_dtype(name)]
        shape = tuple(engine.get_tensor_shape(name))
        for dimension in shape:
            size *= dimension
        found.append((name, kind, shape, size, engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT))
    return found


class _Session:
    """A context with device memory and a stream of its own."""

    def __init__(self, runner: _Runner, cuda: _Cuda, engine: Any, tensors: _Tensors) -> None:
        self._runner, self._cuda, self._tensors = runner, cuda, tensors
        self._context = engine.create_execution_context()
        runner.require(self._context is not None, "no execution context")
        self._stream = cuda.cudaStreamCreateWithFlags(cuda.api.cudaStreamNonBlocking)
        self._memory = {name: cuda.cudaMalloc(max(size, 1)) for name, _, _, size, _ in tensors}
        self._host = {name: bytearray(max(size, 1)) for name, _, _, size, is_input in tensors if not is_input}
        self._graph: Any = None
        for name, address in self._memory.items():
            runner.require(self._context.set_tensor_address(name, int(address)), f"no address for {name}")

    def close(self) -> None:
        if self._graph is not None:
            self._cuda.cudaGraphExecDestroy(self._graph)
        for address in self._memory.values():
            self._cuda.cudaFree(address)
        self._cuda.cudaStreamDestroy(self._stream)
        self._context = None

    def upload(self, inputs: dict[str, bytes]) -> None:
        kind = self._cuda.api.cudaMemcpyKind.cudaMemcpyHostToDevice
        for name, value in inputs.items():
            self._cuda.cudaMemcpyAsync(self._memory[name], value, len(value), kind, self._stream)

    def poison(self, byte: int) -> None:
        for name, _, _, size, is_input in self._tensors:
            if not is_input:
                self._cuda.cudaMemsetAsync(self._memory[name], byte, size, self._stream)

    def enqueue(self) -> None:
        self._runner.require(self._context.execute_async_v3(int(self._stream)), "execute_async_v3 failed")

    def download(self) -> dict[str, bytes]:
        kind = self._cuda.api.cudaMemcpyKind.cudaMemcpyDeviceToHost
        sizes = {t[0]: t[3] for t in self._tensors}
        for name, value in self._host.items():
            self._cuda.cudaMemcpyAsync(value, self._memory[name], sizes[name], kind, self._stream)
        self.synchronize()
        return {name: bytes(value[: sizes[name]]) for name, value in self._host.items()}

    def synchronize(self) -> None:
        self._cuda.cudaStreamSynchronize(self._stream)
        self._cuda.cudaGetLastError()

    def capture(self) -> None:
        """One execution as a graph."""
        mode = self._cuda.api.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        self._cuda.cudaStreamBeginCapture(self._stream, mode)
        enqueued = self._context.execute_async_v3(int(self._stream))
        graph = self._cuda.cudaStreamEndCapture(self._stream)
        self._runner.require(enqueued, "execute_async_v3 failed during capture")
        self._graph = self._cuda.cudaGraphInstantiate(graph, 0)
        self._cuda.cudaGraphDestroy(graph)

    def launch(self) -> None:
        self._cuda.cudaGraphLaunch(self._graph, self._stream)

    def time(self) -> float:
        """Median of several measurements, microseconds of one execution in the graph."""
        cuda = self._cuda
        start, stop = cuda.cudaEventCreate(), cuda.cudaEventCreate()
        measured = []
        for i in range(12):
            cuda.cudaEventRecord(start, self._stream)
            for _ in range(_REPETITIONS):
                self.launch()
            cuda.cudaEventRecord(stop, self._stream)
            self.synchronize()
            if i > 0:
                measured.append(1000 * cuda.cudaEventElapsedTime(start, stop) / _REPETITIONS)
        cuda.cudaEventDestroy(start)
        cuda.cudaEventDestroy(stop)
        return float(sorted(measured)[len(measured) // 2])


class _Heap(ctypes.Structure):
    """glibc's `struct mallinfo2`."""

    _fields_ = [
        *((name, ctypes.c_size_t) for name in ("arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks")),
        *((name, ctypes.c_size_t) for name in ("fsmblks", "uordblks", "fordblks", "keepcost")),
    ]


def _memory_in_use(cuda: _Cuda) -> tuple[int, int]:
    """Bytes in use: of the heap of this process, and of the whole device."""
    gc.collect()
    mallinfo2 = ctypes.CDLL(None).mallinfo2
    mallinfo2.restype = _Heap
    heap = mallinfo2()
    free, total = cuda.cudaMemGetInfo()
    return heap.uordblks + heap.hblkhd, total - free


def _soak(cuda: _Cuda, warm_up: int, rounds: int, one: Callable[[], None]) -> dict[str, int]:
    """Calls `one` and says how many bytes of host and device memory the rounds after the warm-up left behind.

    Counted is the half of them that left less: a leak is in both, what TensorRT allocates once for the process in one.
    """
    half = (rounds - warm_up) // 2
    seen = []
    for i in range(warm_up + 2 * half):
        if i >= warm_up and (i - warm_up) % half == 0:
            seen.append(_memory_in_use(cuda))
        one()
    seen.append(_memory_in_use(cuda))
    first, second = ([later - earlier for earlier, later in zip(*pair, strict=True)] for pair in (seen[:2], seen[1:]))
    return {
        "rounds": rounds,
        "measured_rounds": half,
        "host_bytes": min(first[0], second[0]),
        "device_bytes": min(first[1], second[1]),
    }


def main(arguments: Sequence[str]) -> int:
    """Works through the manifest; a case that goes wrong is reported, the next one follows."""
    if len(arguments) != 3 or arguments[0] not in ("build", "run", "compute"):
        print("usage: rtx_runner build|run|compute MANIFEST RESULTS", file=sys.stderr)
        return 2
    mode, manifest, results = arguments
    runner = _Runner()
    with Path(results).open("a") as file:

        def write(**entry: Any) -> None:
            file.write(json.dumps(entry) + "\n")
            file.flush()

        write(version=str(runner.trt.__version__))
        for line in Path(manifest).read_text().splitlines():
            name, plugin, path, _ = line.split()
            folder = Path(path)
            runner.errors.clear()
            # Where the process ends without a result, this line tells which case it was.
            write(id=name, begin=True)
            try:
                if mode == "build":
                    body = runner.build(plugin, folder)
                else:
                    body = runner.run(plugin, folder, mode == "run")
                write(id=name, ok=True, **body, logged="; ".join(runner.errors))
            except (TrialError, OSError, KeyError) as error:
                write(id=name, ok=False, message=str(error) or type(error).__name__, logged="; ".join(runner.errors))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""examples/python against a TensorRT and three kinds of device memory that are on the host."""

from __future__ import annotations

import ctypes
import importlib.util
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

SCRIPT = Path(__file__).parents[2] / "examples" / "python" / "run_engine.py"


class Memory:
    """Addresses of host memory, with what was not freed."""

    def __init__(self) -> None:
        self.blocks: dict[int, Any] = {}

    def malloc(self, size: int) -> int:
        assert size > 0
        block = ctypes.create_string_buffer(size)
        self.blocks[ctypes.addressof(block)] = block
        return ctypes.addressof(block)

    def free(self, address: int) -> None:
        if address:  # as cudaFree, which takes a null pointer
            del self.blocks[address]

    def floats(self, address: int, count: int) -> np.ndarray:
        return np.frombuffer((ctypes.c_float * count).from_address(address), np.float32)


class Context:
    """Of an engine with one input `x`, [-1, 3], and one output `y`, twice that."""

    def __init__(self, memory: Memory) -> None:
        self.memory = memory
        self.shape: tuple[int, ...] = (-1, 3)
        self.addresses: dict[str, int] = {}

    def compute(self, x: int, y: int) -> bool:
        count = math.prod(self.shape)
        self.memory.floats(y, count)[:] = 2 * self.memory.floats(x, count)
        return True

    def set_shape(self, name: object, shape: tuple[int, ...]) -> bool:
        if len(shape) != 2 or shape[1] != 3:
            return False
        self.shape = tuple(shape)
        return True


class NamedContext(Context):
    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        return self.set_shape(name, shape)

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return self.shape

    def set_tensor_address(self, name: str, address: int) -> bool:
        self.addresses[name] = address
        return True

    def execute_async_v3(self, stream: int) -> bool:
        return self.compute(self.addresses["x"], self.addresses["y"])


class BindingContext(Context):
    def set_binding_shape(self, index: int, shape: tuple[int, ...]) -> bool:
        assert index == 0
        return self.set_shape(index, shape)

    def get_binding_shape(self, index: int) -> tuple[int, ...]:
        return self.shape

    def execute_async_v2(self, bindings: list[int], stream: int) -> bool:
        return self.compute(*bindings)


class NamedEngine:
    num_io_tensors = 2

    def __init__(self, memory: Memory) -> None:
        self.memory = memory

    def create_execution_context(self) -> NamedContext:
        return NamedContext(self.memory)

    def get_tensor_name(self, index: int) -> str:
        return "xy"[index]

    def get_tensor_mode(self, name: str) -> str:
        return {"x": "input", "y": "output"}[name]

    def get_tensor_dtype(self, name: str) -> str:
        return "FLOAT"


class BindingEngine:
    num_bindings = 2

    def __init__(self, memory: Memory) -> None:
        self.memory = memory

    def create_execution_context(self) -> BindingContext:
        return BindingContext(self.memory)

    def get_binding_name(self, index: int) -> str:
        return "xy"[index]

    def get_binding_index(self, name: str) -> int:
        return "xy".index(name)

    def binding_is_input(self, name: str) -> bool:
        return name == "x"

    def get_binding_dtype(self, name: str) -> str:
        return "FLOAT"


def tensorrt(engine: type, memory: Memory) -> ModuleType:
    """The module, as 8.2 (bindings, no `load_library`) or as 10.3 has it."""
    module: Any = ModuleType("tensorrt")
    module.Logger = type("Logger", (), {"WARNING": 1, "__init__": lambda self, level: None})
    module.TensorIOMode = SimpleNamespace(INPUT="input", OUTPUT="output")
    module.nptype = {"FLOAT": np.float32}.__getitem__
    module.loaded = []

    class Runtime:
        def __init__(self, logger: object) -> None:
            pass

        def deserialize_cuda_engine(self, data: bytes) -> object:
            return engine(memory) if data == b"doubles" else None

    def load_library(path: str) -> str | None:
        module.loaded.append(path)
        return None if "bad" in path else path

    module.Runtime = Runtime
    registry = SimpleNamespace(load_library=load_library) if engine is NamedEngine else SimpleNamespace()
    module.get_plugin_registry = lambda: registry
    return module


def use_polygraphy(memory: Memory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Polygraphy's own arrays over another CUDA runtime."""
    from polygraphy.cuda import cuda

    def memcpy(dst: int, src: int, nbytes: int, kind: int, stream_ptr: int | None = None) -> None:
        ctypes.memmove(dst, src, nbytes)

    runtime = SimpleNamespace(
        malloc=memory.malloc,
        free=memory.free,
        memcpy=memcpy,
        create_stream=lambda: memory.malloc(1),
        destroy_stream=memory.free,
        stream_synchronize=lambda stream: None,
    )
    monkeypatch.setattr(cuda, "wrapper", lambda: runtime)


def use_cuda_python(memory: Memory, monkeypatch: pytest.MonkeyPatch) -> None:
    class Error:
        cudaSuccess = SimpleNamespace(name="cudaSuccess")

    def done(*values: object) -> tuple[object, ...]:
        return (Error.cudaSuccess, *values)

    def copy(destination: int, source: int, size: int, kind: str, stream: int) -> tuple[object, ...]:
        assert kind in ("to device", "to host") and stream
        ctypes.memmove(destination, source, size)
        return done()

    def free(address: int) -> tuple[object, ...]:
        memory.free(address)
        return done()

    runtime: Any = ModuleType("cuda.bindings.runtime")
    runtime.cudaError_t = Error
    runtime.cudaMemcpyKind = SimpleNamespace(cudaMemcpyHostToDevice="to device", cudaMemcpyDeviceToHost="to host")
    runtime.cudaMalloc = lambda size: done(memory.malloc(size))
    runtime.cudaStreamCreate = lambda: done(memory.malloc(1))
    runtime.cudaMemcpyAsync = copy
    runtime.cudaStreamSynchronize = lambda stream: done()
    runtime.cudaFree = runtime.cudaStreamDestroy = free
    bindings: Any = ModuleType("cuda.bindings")
    bindings.runtime = runtime
    for name, module in (("cuda", ModuleType("cuda")), ("cuda.bindings", bindings), (runtime.__name__, runtime)):
        monkeypatch.setitem(sys.modules, name, module)


def use_pycuda(memory: Memory, monkeypatch: pytest.MonkeyPatch) -> None:
    class Allocation:
        def __init__(self, size: int) -> None:
            self.address = memory.malloc(size)

        def __int__(self) -> int:
            return self.address

        def free(self) -> None:
            memory.free(self.address)

    driver: Any = ModuleType("pycuda.driver")
    driver.Stream = lambda: SimpleNamespace(handle=7, synchronize=lambda: None)
    driver.mem_alloc = Allocation
    driver.memcpy_htod = lambda device, array: ctypes.memmove(int(device), array.ctypes.data, array.nbytes)
    driver.memcpy_dtoh = lambda array, address: ctypes.memmove(array.ctypes.data, address, array.nbytes)
    package: Any = ModuleType("pycuda")
    package.driver, package.autoinit = driver, ModuleType("pycuda.autoinit")
    for module in (package, driver, package.autoinit):
        monkeypatch.setitem(sys.modules, module.__name__, module)


KINDS = {"polygraphy": use_polygraphy, "cuda-python": use_cuda_python, "pycuda": use_pycuda}


@pytest.fixture(params=[NamedEngine, BindingEngine], ids=["names", "bindings"])
def memory(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Memory]:
    """What the example's TensorRT works in; afterwards all of it must be free again."""
    memory = Memory()
    monkeypatch.setitem(sys.modules, "tensorrt", tensorrt(request.param, memory))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "m.engine").write_bytes(b"doubles")
    x = np.arange(6, dtype=np.float64).reshape(2, 3)
    np.savez(tmp_path / "x.npz", x=x)
    np.savez(tmp_path / "both.npz", x=x, y=2 * x + 0.25)
    yield memory
    assert not memory.blocks


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """The script in a module of its own."""
    spec = importlib.util.spec_from_file_location("run_engine", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(sys, "argv", ["run_engine.py", *arguments])
    return int(module.main())


@pytest.mark.parametrize("kind", KINDS)
def test_an_engine_runs(
    kind: str, memory: Memory, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    KINDS[kind](memory, monkeypatch)
    arguments = ["m.engine", "--inputs", "x.npz", "--outputs", "y.npz", "--memory", kind]
    assert run(monkeypatch, *arguments) == 0
    assert capsys.readouterr().out == "y float32 2x3\n"
    assert np.load("y.npz")["y"].tolist() == [[0, 2, 4], [6, 8, 10]]


def test_an_array_under_an_outputs_name_is_compared(
    memory: Memory, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    use_pycuda(memory, monkeypatch)
    assert run(monkeypatch, "m.engine", "--inputs", "both.npz", "--memory", "pycuda") == 0
    assert capsys.readouterr().out == "y float32 2x3, largest difference 0.25\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["m.engine"], "input x has a dynamic shape: give it an array"),
        (["m.engine", "--inputs", "wide.npz"], "x takes no shape 2x4"),
        (["m.engine", "--inputs", "other.npz"], "the engine has no tensor z"),
        (["x.npz"], "x.npz is no engine for this GPU and TensorRT, or lacks a plugin"),
        (["nothing.engine"], "nothing.engine"),
        (["m.engine", "--plugins", "bad.so"], "bad.so"),
    ],
)
def test_what_is_wrong_is_one_line(
    arguments: list[str],
    message: str,
    memory: Memory,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    use_cuda_python(memory, monkeypatch)
    np.savez("wide.npz", x=np.zeros((2, 4), np.float32))
    np.savez("other.npz", z=np.zeros((2, 3), np.float32))
    assert run(monkeypatch, *arguments, "--memory", "cuda-python") == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1 and message in error


def test_it_is_python_of_the_oldest_boards() -> None:
    """JetPack 4.6 has Python 3.6."""
    import ast

    ast.parse(SCRIPT.read_text(), feature_version=(3, 6))

"""Runs an engine with generated plugins on arrays of a .npz file, and writes its outputs into another.

    python run_engine.py model.engine --plugins plugins/lib/*.so --inputs inputs.npz --outputs outputs.npz
    python run_engine.py … --memory cuda-python

Device memory comes from Polygraphy, from cuda-python, or from PyCUDA, which Jetson images have: three classes below
that do the same. An input without an array is 1 where its shape is fixed; an array under an output's name is compared
with that output. Python 3.6 and TensorRT 8.2 (JetPack 4.6) or later, or TensorRT-RTX.
"""

import argparse
import ctypes
import importlib
import sys
from pathlib import Path

import numpy as np

for name in ("tensorrt", "tensorrt_rtx", "tensorrt_rtx_bindings"):
    try:
        trt = importlib.import_module(name)
        break
    except ImportError:
        continue
else:
    sys.exit("error: no TensorRT is installed for this Python")


class PolygraphyMemory:
    """Arrays on the device through Polygraphy, which needs the CUDA runtime's library and no other package."""

    def __init__(self):
        from polygraphy import cuda

        self._cuda = cuda
        self._arrays = []
        self._stream = cuda.Stream()
        self.stream = self._stream.ptr

    def upload(self, array):
        """Copies an array to the device; returns its address."""
        device = self._cuda.DeviceArray(shape=array.shape, dtype=array.dtype)
        device.copy_from(array, self._stream)
        self._arrays.append(device)
        return device.ptr

    def download(self, address, array):
        """Copies from the device into the array, after all that came before."""
        view = self._cuda.DeviceView(address, array.shape, array.dtype)
        view.copy_to(array, self._stream)

    def synchronize(self):
        self._stream.synchronize()

    def free(self):
        for array in self._arrays:
            array.free()
        self._stream.free()


class CudaPythonMemory:
    """The same through NVIDIA's cuda-python, whose functions return an error code first."""

    def __init__(self):
        try:
            from cuda.bindings import runtime
        except ImportError:  # before 12.6
            from cuda import cudart as runtime

        self._runtime = runtime
        self._addresses = []
        self.stream = self._call(runtime.cudaStreamCreate())

    def _call(self, result):
        error, rest = result[0], result[1:]
        if error != self._runtime.cudaError_t.cudaSuccess:
            raise RuntimeError(error.name)
        return rest[0] if rest else None

    def _copy(self, destination, source, size, kind):
        kind = getattr(self._runtime.cudaMemcpyKind, "cudaMemcpy" + kind)
        self._call(self._runtime.cudaMemcpyAsync(destination, source, size, kind, self.stream))

    def upload(self, array):
        address = self._call(self._runtime.cudaMalloc(max(array.nbytes, 1)))
        self._addresses.append(address)
        self._copy(address, array.ctypes.data, array.nbytes, "HostToDevice")
        return address

    def download(self, address, array):
        self._copy(array.ctypes.data, address, array.nbytes, "DeviceToHost")

    def synchronize(self):
        self._call(self._runtime.cudaStreamSynchronize(self.stream))

    def free(self):
        for address in self._addresses:
            self._call(self._runtime.cudaFree(address))
        self._call(self._runtime.cudaStreamDestroy(self.stream))


class PycudaMemory:
    """The same through PyCUDA."""

    def __init__(self):
        import pycuda.autoinit
        import pycuda.driver

        self._driver = pycuda.driver
        self._allocations = []
        self._stream = pycuda.driver.Stream()
        self.stream = self._stream.handle

    def upload(self, array):
        allocation = self._driver.mem_alloc(max(array.nbytes, 1))
        self._allocations.append(allocation)
        if array.nbytes:
            self._driver.memcpy_htod(allocation, array)
        return int(allocation)

    def download(self, address, array):
        # Copies in a stream would want page-locked arrays.
        self._stream.synchronize()
        if array.nbytes:
            self._driver.memcpy_dtoh(array, address)

    def synchronize(self):
        self._stream.synchronize()

    def free(self):
        for allocation in self._allocations:
            allocation.free()


MEMORY = {"polygraphy": PolygraphyMemory, "cuda-python": CudaPythonMemory, "pycuda": PycudaMemory}


def load_plugins(paths):
    """Before the engine is deserialized: it names its plugins, and the registry must know them."""
    registry = trt.get_plugin_registry()
    for path in paths:
        if hasattr(registry, "load_library"):
            if registry.load_library(path) is None:
                raise RuntimeError("TensorRT refused " + path)
        else:  # before 8.6 a library registers its plugins when it is loaded
            ctypes.CDLL(path)


class Engine:
    """An engine's tensors and its execution, in TensorRT 8.2's words (bindings) or in those of 8.5 and later."""

    def __init__(self, path, logger):
        self._runtime = trt.Runtime(logger)
        self._engine = self._runtime.deserialize_cuda_engine(Path(path).read_bytes())
        if self._engine is None:
            raise RuntimeError(path + " is no engine for this GPU and TensorRT, or lacks a plugin")
        self._context = self._engine.create_execution_context()
        self._named = hasattr(self._engine, "num_io_tensors")
        count = self._engine.num_io_tensors if self._named else self._engine.num_bindings
        name_of = self._engine.get_tensor_name if self._named else self._engine.get_binding_name
        self.names = [name_of(i) for i in range(count)]

    def is_input(self, name):
        if self._named:
            return self._engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT
        return self._engine.binding_is_input(name)

    def dtype(self, name):
        return np.dtype(
            trt.nptype((self._engine.get_tensor_dtype if self._named else self._engine.get_binding_dtype)(name))
        )

    def shape(self, name):
        """With the inputs' shapes set, no dimension is -1."""
        if self._named:
            return tuple(self._context.get_tensor_shape(name))
        return tuple(self._context.get_binding_shape(self._engine.get_binding_index(name)))

    def set_shape(self, name, shape):
        if self._named:
            fits = self._context.set_input_shape(name, shape)
        else:
            fits = self._context.set_binding_shape(self._engine.get_binding_index(name), shape)
        if not fits:
            raise RuntimeError("{} takes no shape {}".format(name, "x".join(map(str, shape))))

    def enqueue(self, addresses, stream):
        if self._named:
            for name, address in addresses.items():
                self._context.set_tensor_address(name, int(address))
            return self._context.execute_async_v3(int(stream))
        return self._context.execute_async_v2([int(addresses[name]) for name in self.names], int(stream))


def run(engine, inputs, memory):
    """Runs the engine on arrays by name and returns its outputs by name."""
    unknown = [name for name in inputs if name not in engine.names]
    if unknown:
        raise RuntimeError("the engine has no tensor " + unknown[0])
    arrays = {}
    for name in engine.names:
        if engine.is_input(name):
            array = inputs.get(name)
            if array is None:
                if min(engine.shape(name), default=0) < 0:
                    raise RuntimeError(f"input {name} has a dynamic shape: give it an array")
                array = np.ones(engine.shape(name), engine.dtype(name))
            arrays[name] = np.ascontiguousarray(array, engine.dtype(name))
            engine.set_shape(name, arrays[name].shape)
    outputs = {
        name: np.zeros(engine.shape(name), engine.dtype(name)) for name in engine.names if not engine.is_input(name)
    }
    arrays.update(outputs)
    addresses = {name: memory.upload(array) for name, array in arrays.items()}
    if not engine.enqueue(addresses, memory.stream):
        raise RuntimeError("TensorRT refused to run")
    for name, array in outputs.items():
        memory.download(addresses[name], array)
    memory.synchronize()
    return outputs


def main():
    parser = argparse.ArgumentParser(description="Runs a TensorRT engine with generated plugins.")
    parser.add_argument("engine")
    parser.add_argument("--plugins", nargs="+", default=[], metavar="SO")
    parser.add_argument("--inputs", metavar="NPZ")
    parser.add_argument("--outputs", metavar="NPZ")
    parser.add_argument("--memory", choices=sorted(MEMORY), default="polygraphy")
    arguments = parser.parse_args()
    memory = None
    try:
        inputs = dict(np.load(arguments.inputs)) if arguments.inputs else {}
        memory = MEMORY[arguments.memory]()  # first: PyCUDA makes a context, in which TensorRT must start
        logger = trt.Logger(trt.Logger.WARNING)
        load_plugins(arguments.plugins)
        engine = Engine(arguments.engine, logger)
        outputs = run(engine, inputs, memory)
    except Exception as error:  # each of the libraries has errors of its own
        print("error: " + str(error).split("\n")[0], file=sys.stderr)
        return 1
    finally:
        if memory is not None:
            memory.free()
    for name, array in outputs.items():
        line = "{} {} {}".format(name, array.dtype, "x".join(map(str, array.shape)))
        if name in inputs:
            difference = np.abs(array.astype(np.float64) - inputs[name]).max() if array.size else 0.0
            line += f", largest difference {difference:.2g}"
        print(line)
    if arguments.outputs:
        np.savez(arguments.outputs, **outputs)
    return 0


if __name__ == "__main__":
    sys.exit(main())

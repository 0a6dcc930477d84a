"""Engines that run, in the child process: compared with ONNX Runtime, and timed."""

from __future__ import annotations

import ctypes
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from plugin_autogen.engine.capabilities import check_options
from plugin_autogen.engine.comparison import OutputDifference, Outputs, compare_runners
from plugin_autogen.engine.feeding import data_loader
from plugin_autogen.engine.network import (
    Journal,
    Network,
    Worker,
    deserialized,
    layers_of,
    nodes_of,
    serialized,
)
from plugin_autogen.errors import EngineError, shorten
from plugin_autogen.verify.compare import Tolerance


def _parsed(request: Mapping[str, Any], worker: Worker) -> Network:
    check_options(worker.trt, request["release"], request["options"])
    return worker.parse(request["model"], request["options"])


def _engine(request: Mapping[str, Any], worker: Worker, journal: Journal) -> Any:
    """The request's engine: read from its file, or built from its model."""
    if request["engine"]:
        worker.load_libraries()
        journal.stage("loading the engine")
        return deserialized(worker, Path(request["engine"]).read_bytes())
    return deserialized(worker, serialized(request, worker, _parsed(request, worker), journal))


def _inputs(worker: Worker, engine: Any) -> dict[str, tuple[int, ...]]:
    """The engine's inputs with the shapes that it is best at."""
    names = [engine.get_tensor_name(i) for i in range(engine.num_io_tensors)]
    names = [n for n in names if engine.get_tensor_mode(n) == worker.trt.TensorIOMode.INPUT]
    found = {}
    for name in names:
        shape = tuple(engine.get_tensor_shape(name))
        found[name] = shape if -1 not in shape else tuple(engine.get_tensor_profile_shape(name, 0)[1])
    return found


# compare -------------------------------------------------------------------------------------------------------------


def compare(request: dict[str, Any], journal: Journal) -> None:
    """ONNX Runtime on `request["original"]` against the engine; see `compare.ComparisonReport`."""
    worker = Worker(request, journal)
    tolerance = Tolerance(**request["tolerance"]) if request["tolerance"] is not None else None
    precisions = request["options"]["precisions"]
    engine = _engine(request, worker, journal)
    shapes = _inputs(worker, engine)

    def run(engine: Any, outputs: Sequence[str], keep: Any = None) -> list[OutputDifference]:
        from polygraphy.backend.trt import TrtRunner

        reference = _reference(request["original"], outputs)
        loader = data_loader(request["inputs"], list(shapes), shapes)
        runner = TrtRunner(engine, name=worker.title)
        return compare_runners(reference, runner, loader, tolerance, precisions, outputs or None, keep)

    journal.stage("comparing it with ONNX Runtime")
    keep = _saver(Path(request["save_outputs"])) if request["save_outputs"] else None
    result: dict[str, Any] = {"outputs": [asdict(o) for o in run(engine, (), keep)], "first": None, "tensors": None}
    if request["first_differing_node"]:
        del engine
        network = _parsed(request, worker)
        nodes = nodes_of(request["model"])
        makers = _shared_tensors(nodes, nodes_of(request["original"]), network.definition, worker.trt)
        _mark(network.definition, list(makers))
        traced = deserialized(worker, serialized(request, worker, network, journal))
        journal.stage("comparing its intermediate tensors with ONNX Runtime's")
        found = {o.name: o for o in run(traced, list(makers))}
        result["tensors"] = len(makers)
        differing = next((found[name] for name in makers if found[name].message is not None), None)
        if differing is not None:
            node = makers[differing.name]
            result["first"] = {
                "node": node.name,
                "op_type": node.op_type,
                "is_plugin": node.op_type in worker.owners,
                "output": asdict(differing),
            }
    journal.write(result=result)


def _reference(model: str, outputs: Sequence[str]) -> Any:
    """ONNX Runtime without its graph optimizations; `outputs` instead of the model's own where there are any."""
    import onnx
    import onnxruntime
    from polygraphy.backend.onnxrt import OnnxrtRunner, SessionFromOnnx

    source: str | bytes = model
    if outputs:
        proto = onnx.load(model)
        del proto.graph.output[:]
        # ONNX Runtime finds types and shapes out.
        proto.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in outputs)
        source = proto.SerializeToString()
    try:
        level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        session = SessionFromOnnx(source, graph_optimization_level=level)()
    except Exception as error:  # ONNX Runtime's exceptions share no base class
        raise EngineError(f"ONNX Runtime refuses {shorten(model)}: {shorten(error, 300)}") from None
    return OnnxrtRunner(session, name="ONNX Runtime")


def _shared_tensors(nodes: Sequence[Any], originals: Sequence[Any], definition: Any, trt: Any) -> dict[str, Any]:
    """Tensors that both models and the network compute, in the order in which they are made, with their nodes."""
    layers = [definition.get_layer(i) for i in range(definition.num_layers)]
    # Shapes and constants are no results, and may not be outputs.
    computed = [x for x in layers if x.type not in (trt.LayerType.SHAPE, trt.LayerType.CONSTANT)]
    known = {x.get_output(i).name for x in computed for i in range(x.num_outputs) if x.get_output(i) is not None}
    known &= {name for node in originals for name in node.output}
    return {name: node for node in nodes for name in node.output if name in known}


def _mark(definition: Any, names: Sequence[str]) -> None:
    from polygraphy.backend.trt.util import mark_outputs

    mark_outputs(definition, names)


def _saver(folder: Path) -> Callable[[int, Outputs, Outputs], None]:
    """Writes `<set>.reference.npz` and `<set>.engine.npz`."""
    import numpy as np

    def save(number: int, expected: Outputs, actual: Outputs) -> None:
        for kind, outputs in (("reference", expected), ("engine", actual)):
            try:
                with (folder / f"{number}.{kind}.npz").open("wb") as file:
                    np.savez(file, **outputs)  # type: ignore[arg-type]
            except OSError as error:
                raise EngineError(f"cannot write outputs to {shorten(folder)}: {error.strerror}") from None

    return save


# bench ---------------------------------------------------------------------------------------------------------------


def bench(request: dict[str, Any], journal: Journal) -> None:
    """Times the engine with its inputs and outputs on the device; see `bench.Measurement`."""
    worker = Worker(request, journal)
    engine = _engine(request, worker, journal)
    journal.stage("running the engine")
    timer = _Timer(worker, engine, request["inputs"])
    timer.warm_up(request["warm_up"])
    if request["cuda_graph"]:
        timer.capture()
    latencies = timer.latencies(request["duration"], request["iterations"])
    throughput = timer.throughput(request["duration"], request["iterations"])
    layers = timer.layers(request["iterations"]) if request["profile_layers"] else []
    kinds = dict(layers_of(worker, engine))
    plugins = {node.name for node in nodes_of(request["model"]) if node.op_type in worker.owners}
    journal.write(
        result={
            "latencies": latencies,
            "throughput": throughput,
            "layers": [[name, time, bool(kinds.get(name)) or _node_of(name) in plugins] for name, time in layers],
        }
    )


def _node_of(layer: str) -> str:
    """The node that a layer was made from: TensorRT-RTX, whose engines do not tell kinds, calls it `<node>_myl0_1`."""
    return re.sub(r"_myl\d+_\d+$", "", layer)


class _Timer:
    """An execution context with its inputs and outputs on the device, and CUDA's clock."""

    def __init__(self, worker: Worker, engine: Any, inputs: Mapping[str, Any]) -> None:
        from polygraphy import cuda
        from polygraphy.backend.trt.util import get_metadata_from_engine
        from polygraphy.datatype import DataType
        from polygraphy.exception import PolygraphyException

        self._trt = worker.trt
        self._context = engine.create_execution_context()
        if self._context is None:
            raise EngineError(f"{worker.title} cannot run the engine: {'; '.join(worker.errors()[:1])}")
        self._cuda = cuda.wrapper()
        self._stream = cuda.Stream()
        self._graph: ctypes.c_void_p | None = None
        shapes = _inputs(worker, engine)
        loader = data_loader(inputs, list(shapes), shapes)
        metadata = get_metadata_from_engine(engine, self._context, mode=worker.trt.TensorIOMode.INPUT)
        if hasattr(loader, "input_metadata"):
            loader.input_metadata = metadata
        try:
            feed = next(iter(loader))
        except PolygraphyException as error:
            raise EngineError(f"no inputs could be made: {shorten(error, 300)}") from None
        self._memory: dict[str, Any] = {}
        for name, array in feed.items():
            array = array.astype(DataType.to_dtype(metadata[name].dtype, "numpy"))
            if not self._context.set_input_shape(name, array.shape):
                raise EngineError(f"the engine takes no input '{shorten(name)}' of shape {list(array.shape)}")
            if engine.is_shape_inference_io(name):
                self._memory[name] = array  # TensorRT reads it on the host
                address = array.ctypes.data
            else:
                self._memory[name] = cuda.DeviceArray(array.shape, DataType.from_dtype(array.dtype)).copy_from(array)
                address = self._memory[name].ptr
            self._context.set_tensor_address(name, address)
        for i in range(engine.num_io_tensors):
            name = engine.get_tensor_name(i)
            if engine.get_tensor_mode(name) == worker.trt.TensorIOMode.OUTPUT:
                # Room for the largest that it can become: its shape may depend on values.
                size = max(int(self._context.get_max_output_size(name)), 1)
                self._memory[name] = cuda.DeviceArray.raw((size,))
                self._context.set_tensor_address(name, self._memory[name].ptr)

    def _call(self, function: str, *arguments: Any) -> None:
        status = getattr(self._cuda.handle, function)(*arguments)
        if status:
            raise EngineError(f"{function} failed with CUDA's error {status}")

    def _enqueue(self) -> None:
        stream = ctypes.c_void_p(self._stream.ptr)
        if self._graph is not None:
            self._call("cudaGraphLaunch", self._graph, stream)
        elif not self._context.execute_async_v3(self._stream.ptr):
            raise EngineError("the engine could not be run")

    def warm_up(self, seconds: float) -> None:
        start = time.perf_counter()
        while True:
            self._enqueue()
            self._stream.synchronize()
            if time.perf_counter() - start >= seconds:
                return

    def capture(self) -> None:
        """From here on one execution is the launch of a CUDA graph."""
        stream = ctypes.c_void_p(self._stream.ptr)
        graph, executable = ctypes.c_void_p(), ctypes.c_void_p()
        self._call("cudaStreamBeginCapture", stream, 1)  # cudaStreamCaptureModeThreadLocal
        try:
            self._enqueue()
        finally:
            self._call("cudaStreamEndCapture", stream, ctypes.byref(graph))
        self._call("cudaGraphInstantiateWithFlags", ctypes.byref(executable), graph, ctypes.c_ulonglong(0))
        self._call("cudaGraphDestroy", graph)
        self._graph = executable

    def latencies(self, seconds: float, least: int) -> list[float]:
        """Microseconds on the device of one execution after the other, each waited for."""
        found: list[float] = []
        start = time.perf_counter()
        stream = ctypes.c_void_p(self._stream.ptr)
        with self._events() as (begin, end):
            while len(found) < least or time.perf_counter() - start < seconds:
                self._call("cudaEventRecord", begin, stream)
                self._enqueue()
                self._call("cudaEventRecord", end, stream)
                self._call("cudaEventSynchronize", end)
                elapsed = ctypes.c_float()
                self._call("cudaEventElapsedTime", ctypes.byref(elapsed), begin, end)
                found.append(1000 * elapsed.value)
        return found

    def throughput(self, seconds: float, least: int) -> float:
        """Executions a second, one enqueued behind the other."""
        count = 0
        start = time.perf_counter()
        while count < least or time.perf_counter() - start < seconds:
            for _ in range(10):
                self._enqueue()
            count += 10
        self._stream.synchronize()
        return count / (time.perf_counter() - start)

    def layers(self, runs: int) -> list[tuple[str, float]]:
        """(name, mean microseconds) of each of the engine's layers, in the order in which they run."""
        times: dict[str, float] = {}
        base = self._trt.IProfiler

        class Profiler(base):  # type: ignore[misc, valid-type]
            def __init__(self) -> None:
                base.__init__(self)

            def report_layer_time(self, name: str, milliseconds: float) -> None:
                times[name] = times.get(name, 0.0) + 1000 * milliseconds

        graph, self._graph = self._graph, None  # a graph's launch has no layers
        self._profiler = self._context.profiler = Profiler()
        for _ in range(runs):
            self._enqueue()
            self._stream.synchronize()
        self._graph = graph
        return [(name, total / runs) for name, total in times.items()]

    @contextmanager
    def _events(self) -> Iterator[tuple[ctypes.c_void_p, ctypes.c_void_p]]:
        events = (ctypes.c_void_p(), ctypes.c_void_p())
        for event in events:
            self._call("cudaEventCreate", ctypes.byref(event))
        try:
            yield events
        finally:
            for event in events:
                self._call("cudaEventDestroy", event)

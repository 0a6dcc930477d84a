"""Stands in for TensorRT 10's Python bindings where no GPU is, so that what runs engines can be tested.

An engine is the ONNX model; ONNX's reference evaluator runs it, on the memory of `cudart.c`. A plugin library offers
the plugin that its file is named after: `tpat_Relu` computes Relu, `tpat_Relu_off` adds 0.25 to it. Only what
Polygraphy and `plugin_autogen.engine` call is here, and it behaves as TensorRT documents it.
"""

from __future__ import annotations

import ctypes
import enum
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.reference

__version__ = "10.13.0.0"


class DataType(enum.IntEnum):
    FLOAT, HALF, INT8, INT32, BOOL, UINT8, FP8, BF16, INT64 = range(9)


float32, float16, int8, int32, bool, uint8, fp8, bfloat16, int64 = DataType
_NUMPY = {float32: "f4", float16: "f2", int8: "i1", int32: "i4", bool: "?", uint8: "u1", int64: "i8"}
_ONNX = {1: float32, 10: float16, 3: int8, 6: int32, 9: bool, 2: uint8, 7: int64}

BuilderFlag = enum.IntEnum("BuilderFlag", "FP16 BF16 INT8 TF32 VERSION_COMPATIBLE EXCLUDE_LEAN_RUNTIME", start=0)
NetworkDefinitionCreationFlag = enum.IntEnum("NetworkDefinitionCreationFlag", "EXPLICIT_BATCH STRONGLY_TYPED", start=0)
HardwareCompatibilityLevel = enum.IntEnum("HardwareCompatibilityLevel", "NONE AMPERE_PLUS", start=0)
TacticSource = enum.IntEnum("TacticSource", "CUBLAS CUBLAS_LT CUDNN", start=0)
MemoryPoolType = enum.IntEnum("MemoryPoolType", "WORKSPACE", start=0)
ProfilingVerbosity = enum.IntEnum("ProfilingVerbosity", "LAYER_NAMES_ONLY DETAILED NONE", start=0)
LayerInformationFormat = enum.IntEnum("LayerInformationFormat", "ONELINE JSON", start=0)
LayerType = enum.IntEnum("LayerType", "ELEMENTWISE PLUGIN_V3 QUANTIZE DEQUANTIZE SHAPE CONSTANT", start=0)
DeviceType = enum.IntEnum("DeviceType", "GPU DLA", start=0)
TensorIOMode = enum.IntEnum("TensorIOMode", "NONE INPUT OUTPUT", start=0)
TensorFormat = enum.IntEnum("TensorFormat", "LINEAR HWC CHW16", start=0)
TensorLocation = enum.IntEnum("TensorLocation", "DEVICE HOST", start=0)
PluginCapabilityType = enum.IntEnum("PluginCapabilityType", "CORE BUILD RUNTIME", start=0)


class ILogger:
    Severity = enum.IntEnum("Severity", "INTERNAL_ERROR ERROR WARNING INFO VERBOSE", start=0)


class Logger(ILogger):
    INTERNAL_ERROR, ERROR, WARNING, INFO, VERBOSE = ILogger.Severity


class IProfiler:
    pass


class IOutputAllocator:
    pass


class IInt8EntropyCalibrator2:
    pass


IInt8LegacyCalibrator = IInt8Calibrator = None


def init_libnvinfer_plugins(logger: ILogger, namespace: str) -> bool:
    return True


class _Creator:
    def __init__(self, name: str) -> None:
        self.name = name


class _Registry:
    def __init__(self) -> None:
        self.all_creators = [_Creator("TensorRTsOwn")]

    def load_library(self, path: str) -> Any:
        self.all_creators.append(_Creator(Path(path).stem))
        return path


_REGISTRY = _Registry()


def get_plugin_registry() -> _Registry:
    return _REGISTRY


def _plugins() -> set[str]:
    return {creator.name for creator in _REGISTRY.all_creators}


# Building -------------------------------------------------------------------------------------------------------------


class ITensor:
    is_shape_tensor = False

    def __init__(self, name: str, shape: tuple[int, ...] = (), dtype: DataType = float32) -> None:
        self.name, self.shape, self.dtype = name, shape, dtype
        self.is_network_output = False


class _Plugin:
    def __init__(self, name: str) -> None:
        self.plugin_name = name

    def get_capability_interface(self, kind: PluginCapabilityType) -> _Plugin:
        return self


class ILayer:
    def __init__(self, node: onnx.NodeProto, tensors: dict[str, ITensor]) -> None:
        self.name = node.name
        self.type = LayerType.PLUGIN_V3 if node.op_type in _plugins() else LayerType.ELEMENTWISE
        self.plugin = _Plugin(node.op_type)
        self._inputs = [tensors.setdefault(n, ITensor(n)) for n in node.input]
        self._outputs = [tensors.setdefault(n, ITensor(n)) for n in node.output]
        self.num_inputs, self.num_outputs = len(self._inputs), len(self._outputs)

    def get_input(self, index: int) -> ITensor:
        return self._inputs[index]

    def get_output(self, index: int) -> ITensor:
        return self._outputs[index]


class IPluginV3Layer(ILayer):
    pass


class INetworkDefinition:
    def __init__(self) -> None:
        self.model = onnx.ModelProto()
        self.layers: list[ILayer] = []
        self.inputs: list[ITensor] = []
        self.outputs: list[ITensor] = []

    num_layers = property(lambda self: len(self.layers))
    num_inputs = property(lambda self: len(self.inputs))
    num_outputs = property(lambda self: len(self.outputs))

    def get_layer(self, index: int) -> ILayer:
        return self.layers[index]

    def __getitem__(self, index: int) -> ILayer:
        return self.layers[index]

    def get_input(self, index: int) -> ITensor:
        return self.inputs[index]

    def get_output(self, index: int) -> ITensor:
        return self.outputs[index]

    def get_flag(self, flag: NetworkDefinitionCreationFlag) -> bool:
        return False

    def mark_output(self, tensor: ITensor) -> None:
        tensor.is_network_output = True
        self.outputs.append(tensor)

    def unmark_output(self, tensor: ITensor) -> None:
        tensor.is_network_output = False
        self.outputs.remove(tensor)


class IOptimizationProfile:
    def __init__(self) -> None:
        self.shapes: dict[str, tuple[Any, Any, Any]] = {}

    def set_shape(self, name: str, low: Any, best: Any, high: Any) -> None:
        self.shapes[name] = (tuple(low), tuple(best), tuple(high))

    def get_shape(self, name: str) -> tuple[Any, Any, Any]:
        return self.shapes[name]

    def __bool__(self) -> bool:
        return True


class ITimingCache:
    def __init__(self, data: bytes) -> None:
        self.data = data or b"timing"

    def combine(self, other: ITimingCache, ignore_mismatch: bool) -> bool:
        return True

    def serialize(self) -> Any:
        return memoryview(self.data)


class IBuilderConfig:
    DLA_core, default_device_type, int8_calibrator = -1, DeviceType.GPU, None

    def __init__(self) -> None:
        self.profiles: list[IOptimizationProfile] = []
        self.flags: set[int] = set()

    num_optimization_profiles = property(lambda self: len(self.profiles))

    def add_optimization_profile(self, profile: IOptimizationProfile) -> None:
        self.profiles.append(profile)

    def set_calibration_profile(self, profile: IOptimizationProfile) -> None:
        self.calibration_profile = profile

    def get_calibration_profile(self) -> IOptimizationProfile:
        return self.calibration_profile

    def set_flag(self, flag: int) -> None:
        self.flags.add(flag)

    def clear_flag(self, flag: int) -> None:
        self.flags.discard(flag)

    def get_flag(self, flag: int) -> bool:
        return flag in self.flags

    def set_memory_pool_limit(self, pool: MemoryPoolType, limit: int) -> None:
        pass

    def set_tactic_sources(self, sources: int) -> None:
        pass

    def create_timing_cache(self, data: bytes) -> ITimingCache:
        return ITimingCache(data)

    def set_timing_cache(self, cache: ITimingCache, ignore_mismatch: bool) -> None:
        self.cache = cache

    def get_timing_cache(self) -> ITimingCache:
        return self.cache


class Builder:
    def __init__(self, logger: ILogger) -> None:
        pass

    def create_network(self, flags: int) -> INetworkDefinition:
        return INetworkDefinition()

    def create_builder_config(self) -> IBuilderConfig:
        return IBuilderConfig()

    def create_optimization_profile(self) -> IOptimizationProfile:
        return IOptimizationProfile()

    def build_serialized_network(self, network: INetworkDefinition, config: IBuilderConfig) -> bytes:
        model = onnx.ModelProto()
        model.CopyFrom(network.model)
        del model.graph.output[:]
        model.graph.output.extend(onnx.helper.make_empty_tensor_value_info(t.name) for t in network.outputs)
        calibrator = config.int8_calibrator
        if calibrator is not None and calibrator.read_calibration_cache() is None:
            batches = 0
            while calibrator.get_batch([t.name for t in network.inputs]):
                batches += 1
            calibrator.write_calibration_cache(memoryview(f"{batches} batches".encode()))
        profile = config.profiles[0].shapes if config.profiles else {}
        return json.dumps({"profile": profile}).encode() + b"\n" + model.SerializeToString()


class _ParserError:
    def __init__(self, index: int, node: onnx.NodeProto) -> None:
        self._index, self._node = index, node

    def node(self) -> int:
        return self._index

    def node_name(self) -> str:
        return self._node.name

    def node_operator(self) -> str:
        return self._node.op_type

    def desc(self) -> str:
        return "Plugin not found, are the plugin name, version, and namespace correct?"


class OnnxParser:
    def __init__(self, network: INetworkDefinition, logger: ILogger) -> None:
        self._network = network
        self._errors: list[_ParserError] = []

    num_errors = property(lambda self: len(self._errors))

    def get_error(self, index: int) -> _ParserError:
        return self._errors[index]

    def parse_from_file(self, path: str) -> bool:
        model = onnx.load(path)
        known = _plugins() | {"Relu", "Add", "Mul", "Sqrt", "Cast"}
        self._errors = [_ParserError(i, n) for i, n in enumerate(model.graph.node) if n.op_type not in known]
        if self._errors:
            return False
        network = self._network
        network.model = model
        tensors = {}
        for value in model.graph.input:
            shape = tuple(d.dim_value if d.HasField("dim_value") else -1 for d in value.type.tensor_type.shape.dim)
            tensors[value.name] = ITensor(value.name, shape, _ONNX[value.type.tensor_type.elem_type])
            network.inputs.append(tensors[value.name])
        network.layers = [ILayer(node, tensors) for node in model.graph.node]
        for value in model.graph.output:
            network.mark_output(tensors[value.name])
        return True


# Running --------------------------------------------------------------------------------------------------------------


def _evaluator(model: onnx.ModelProto) -> onnx.reference.ReferenceEvaluator:
    """The model with its plugins as what their names say."""
    plain = onnx.ModelProto()
    plain.CopyFrom(model)
    nodes = list(plain.graph.node)
    del plain.graph.node[:]
    for node in nodes:
        wrong = node.op_type.endswith("_off")
        if node.op_type.startswith("tpat_"):
            operator, output = node.op_type.split("_")[1], node.output[0] + "_right" * wrong
            plain.graph.node.append(onnx.helper.make_node(operator, node.input, [output], name=node.name))
        else:
            plain.graph.node.append(node)
        if wrong:
            offset = onnx.helper.make_node("Constant", [], [node.output[0] + "_by"], value_float=0.25)
            plain.graph.node.extend(
                [offset, onnx.helper.make_node("Add", [output, offset.output[0]], [node.output[0]])]
            )
    return onnx.reference.ReferenceEvaluator(plain)


class IEngineInspector:
    def __init__(self, model: onnx.ModelProto) -> None:
        self._model = model

    def get_engine_information(self, form: LayerInformationFormat) -> str:
        def kind(node: onnx.NodeProto) -> str:
            return "PluginV3" if node.op_type in _plugins() else "PointWiseV2"

        return json.dumps({"Layers": [{"Name": n.name, "LayerType": kind(n)} for n in self._model.graph.node]})


class ICudaEngine:
    def __init__(self, data: bytes) -> None:
        head, _, body = data.partition(b"\n")
        self.profile = json.loads(head)["profile"]
        self.model = onnx.ModelProto.FromString(body)
        graph = self.model.graph
        self.inputs, self.outputs = {v.name: v for v in graph.input}, [v.name for v in graph.output]
        typed = onnx.shape_inference.infer_shapes(self.model).graph
        self.types = {v.name: _ONNX[v.type.tensor_type.elem_type] for v in (*typed.input, *typed.value_info)}
        self.num_io_tensors = len(self.inputs) + len(self.outputs)

    def get_tensor_name(self, index: int) -> str:
        return [*self.inputs, *self.outputs][index]

    def get_tensor_mode(self, name: str) -> TensorIOMode:
        return TensorIOMode.INPUT if name in self.inputs else TensorIOMode.OUTPUT

    def get_tensor_dtype(self, name: str) -> DataType:
        return self.types.get(name, float32)

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        dims = self.inputs[name].type.tensor_type.shape.dim
        return tuple(d.dim_value if d.HasField("dim_value") else -1 for d in dims)

    def get_tensor_profile_shape(self, name: str, profile: int) -> list[tuple[int, ...]]:
        return [tuple(shape) for shape in self.profile[name]]

    def get_tensor_format(self, name: str, profile: int) -> TensorFormat:
        return TensorFormat.LINEAR

    def is_shape_inference_io(self, name: str) -> bool:
        return False

    def create_engine_inspector(self) -> IEngineInspector:
        return IEngineInspector(self.model)

    def create_execution_context(self) -> IExecutionContext:
        return IExecutionContext(self)


class IExecutionContext:
    active_optimization_profile, profiler = 0, None

    def __init__(self, engine: ICudaEngine) -> None:
        self.engine = engine
        self._evaluator = _evaluator(engine.model)
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._addresses: dict[str, int] = {}
        self._allocators: dict[str, Any] = {}

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return self._shapes.get(name) or self.engine.get_tensor_shape(name)

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> Any:
        low, _, high = self.engine.profile[name]
        fits = len(shape) == len(low) and all(a <= b <= c for a, b, c in zip(low, shape, high, strict=True))
        if fits:
            self._shapes[name] = tuple(shape)
        return fits

    def get_tensor_address(self, name: str) -> int:
        return self._addresses.get(name, 0)

    def set_tensor_address(self, name: str, address: int) -> Any:
        self._addresses[name] = address
        return True

    def set_output_allocator(self, name: str, allocator: Any) -> Any:
        self._allocators[name] = allocator
        return True

    def _run(self) -> list[np.ndarray]:
        feeds = {}
        for name in self.engine.inputs:
            shape, dtype = self.get_tensor_shape(name), np.dtype(_NUMPY[self.engine.get_tensor_dtype(name)])
            size = int(np.prod(shape)) * dtype.itemsize
            feeds[name] = np.frombuffer(ctypes.string_at(self._addresses[name], size), dtype).reshape(shape)
        return list(self._evaluator.run(None, feeds))

    def get_max_output_size(self, name: str) -> int:
        feeds = {
            n: np.zeros(self.get_tensor_shape(n), _NUMPY[self.engine.get_tensor_dtype(n)]) for n in self.engine.inputs
        }
        return int(self._evaluator.run([name], feeds)[0].nbytes)

    def execute_async_v3(self, stream: int) -> Any:
        for name, value in zip(self.engine.outputs, self._run(), strict=True):
            if name in self._allocators:
                address = self._allocators[name].reallocate_output_async(name, 0, value.nbytes, 256, stream)
                self._allocators[name].notify_shape(name, value.shape)
            else:
                address = self._addresses[name]
            ctypes.memmove(address, np.ascontiguousarray(value).ctypes.data, value.nbytes)
        if self.profiler is not None:
            for i, node in enumerate(self.engine.model.graph.node):
                self.profiler.report_layer_time(node.name, 0.001 * (i + 1))
        return True


class Runtime:
    def __init__(self, logger: ILogger) -> None:
        self._logger = logger

    def deserialize_cuda_engine(self, data: bytes) -> ICudaEngine | None:
        try:
            return ICudaEngine(data)
        except ValueError:
            self._logger.log(ILogger.Severity.ERROR, "Serialization assertion magicTagRead == kMAGIC_TAG failed.")
            return None

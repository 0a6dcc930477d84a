"""TensorRT in the child process: from a model to a network and a serialized engine.

TensorRT-RTX is driven by Polygraphy as TensorRT is, with two parts done by hand: the wheel's module is called
`tensorrt_rtx_bindings` where Polygraphy imports `tensorrt_rtx` (the meta package that would alias it is not needed),
and Polygraphy's network loaders discard the parser, and with it the node and operator of an error.
"""

from __future__ import annotations

import ctypes
import importlib
import json
import re
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from plugin_autogen.engine.capabilities import check_options
from plugin_autogen.engine.feeding import Feed, Feeds
from plugin_autogen.engine.options import HARDWARE_COMPATIBILITY
from plugin_autogen.errors import EngineError, PluginAutogenError, one_line, shorten

_MESSAGES = 50
"""Warnings kept at most."""


class Journal:
    def __init__(self, path: Path) -> None:
        self._path = path

    def write(self, **entry: Any) -> None:
        with self._path.open("a") as file:
            file.write(json.dumps(entry) + "\n")

    def stage(self, text: str) -> None:
        """What is done next, as it ends "TensorRT was killed while …"."""
        self.write(stage=text)


@dataclass(frozen=True)
class Network:
    """A parsed model. The parser is kept: the bindings let it outlive its network, and then crash."""

    builder: Any
    definition: Any
    parser: Any


class Worker:
    """TensorRT, loaded, with its messages kept.

    Attributes:
        trt: its Python module.
        title: `TensorRT` or `TensorRT-RTX`.
        is_rtx: whether it is the latter.
        logger: what everything of TensorRT's that is made here must use.
        messages: (`error` or `warning`, text), in the order in which they came.
        owners: plugin name → the library that registered it.
    """

    def __init__(self, request: Mapping[str, Any], journal: Journal) -> None:
        self._request = request
        self._journal = journal
        self.title: str = request["title"]
        self.is_rtx = self.title == "TensorRT-RTX"
        self.owners: dict[str, str] = {}
        self._loaded = False
        journal.stage("loading its libraries")
        try:
            self.trt: Any = importlib.import_module(request["module"])
        except (ImportError, OSError, RuntimeError) as error:
            raise EngineError(f"{self.title} cannot be loaded: {shorten(error, 300)}") from None
        if request["module"] == "tensorrt_rtx_bindings":
            sys.modules.setdefault("tensorrt_rtx", self.trt)
        from polygraphy.backend.trt import get_trt_logger
        from polygraphy.logger import G_LOGGER

        self.messages: list[tuple[str, str]] = []
        G_LOGGER.module_severity = G_LOGGER.WARNING
        self.logger: Any = self._recording_logger(get_trt_logger())

    def _recording_logger(self, base: Any) -> Any:
        """Polygraphy's logger for TensorRT, which all that it makes uses, with a copy of each message kept."""
        messages, severity = self.messages, self.trt.ILogger.Severity
        kept = {severity.INTERNAL_ERROR: "error", severity.ERROR: "error", severity.WARNING: "warning"}
        forward = type(base).log

        def log(logger: Any, level: Any, text: str) -> None:
            if level in kept:
                messages.append((kept[level], one_line(text)))
            forward(logger, level, text)

        type(base).log = log
        return base

    def errors(self) -> list[str]:
        return [text for kind, text in self.messages if kind == "error"]

    def builder(self, strongly_typed: bool = False) -> Network:
        """An empty network, and its parser, with the plugin libraries loaded."""
        from polygraphy.backend.trt import create_network
        from polygraphy.exception import PolygraphyException

        self._journal.stage("starting its builder")
        # The builder comes before the libraries: it tells the registry which logger to use.
        try:
            builder, network = create_network(strongly_typed=strongly_typed)
        except (TypeError, PolygraphyException) as error:  # the bindings' word for a null pointer is TypeError
            cause = "; ".join(text for _, text in self.messages[-1:]) or one_line(error)
            raise EngineError(f"{self.title} cannot start its builder here: {shorten(cause, 300)}") from None
        self.load_libraries()
        parser = self.trt.OnnxParser(network, self.logger)
        return Network(builder, network, parser)

    def parse(self, model: str, options: Mapping[str, Any]) -> Network:
        """The model as a network.

        Raises:
            EngineError: the parser refuses it; names the node and operator where it tells them.
        """
        network = self.builder(options["strongly_typed"])
        parser = network.parser
        if options["version_compatible"] or options["hardware_compatibility"]:
            # Otherwise InstanceNormalization becomes a plugin, which such an engine must not hold.
            flags: Any = getattr(self.trt, "OnnxParserFlag", None)
            if hasattr(flags, "NATIVE_INSTANCENORM") and hasattr(parser, "set_flag"):
                parser.set_flag(flags.NATIVE_INSTANCENORM)
        self._journal.stage("parsing the model")
        if not parser.parse_from_file(model):
            raise EngineError(_refusal(self.title, self, parser, nodes_of(model)))
        return network

    def load_libraries(self) -> None:
        """Registers the request's plugins, once."""
        if self._loaded:
            return
        self._loaded = True
        self.owners = self._load_libraries()

    def _load_libraries(self) -> dict[str, str]:
        owners: dict[str, str] = {}
        if hasattr(self.trt, "init_libnvinfer_plugins"):
            self.trt.init_libnvinfer_plugins(self.logger, "")
        registry = self.trt.get_plugin_registry()
        for path in self._request["libraries"]:
            self._journal.stage(f"loading {shorten(path)}")
            try:
                ctypes.CDLL(path)  # tells why a file cannot be loaded, which the registry does not
            except OSError as error:
                raise EngineError(f"plugin library {shorten(path)} cannot be loaded: {shorten(error, 300)}") from None
            before = set(_creators(registry))
            self.messages.clear()
            # Before 8.6 there is no such function; there the library registers its plugins when it is loaded.
            if hasattr(registry, "load_library") and registry.load_library(path) is None:
                raise EngineError(self._load_error(path, owners))
            added = [name for name in _creators(registry) if name not in before]
            owners.update(dict.fromkeys(added, path))
        self.messages.clear()  # of libraries that were loaded well in the end
        return owners

    def _load_error(self, path: str, owners: dict[str, str]) -> str:
        cause = "; ".join(self.errors()[:1])
        match = re.search(r"plugin creator of (\S+) exists already", cause)
        if match:
            other = owners.get(match[1])
            where = f" and in {shorten(other)}" if other else ", and in TensorRT itself"
            return f"the plugin {shorten(match[1])} is in {shorten(path)}{where}: name one of them with --plugins"
        cause = cause or "it offers no plugins for this release, or is no plugin library"
        return f"{self.title} refused {shorten(path)}: {shorten(cause, 300)}"

    def parser_errors(self, parser: Any, nodes: Sequence[Any]) -> list[dict[str, Any]]:
        """Index (-1 for none), name, operator and reason of each of the parser's errors."""
        found = []
        for number in range(parser.num_errors):
            error = parser.get_error(number)
            index = error.node()
            node = nodes[index] if 0 <= index < len(nodes) else None
            # Older parsers tell the index alone.
            name = error.node_name() if hasattr(error, "node_name") else ""
            operator = error.node_operator() if hasattr(error, "node_operator") else ""
            found.append(
                {
                    "index": index if node is not None else -1,
                    "name": name or (node.name if node is not None else ""),
                    "op_type": operator or (node.op_type if node is not None else ""),
                    "reason": _reason(error, operator),
                }
            )
        return found


def _reason(error: Any, operator: str) -> str:
    text = one_line(error.desc())
    if "Plugin not found" in text:
        return f"it has no operator and no loaded plugin of the name {shorten(operator)}"
    if text in ("", "false"):
        code = str(error.code()).rsplit(".", 1)[-1].lower().replace("_", " ")
        return code or "no reason given"
    return text


def _creators(registry: Any) -> list[str]:
    creators = registry.all_creators if hasattr(registry, "all_creators") else registry.plugin_creator_list
    return [creator.name for creator in creators]


def nodes_of(model: str) -> list[Any]:
    """The model's nodes. Raises `EngineError` when the file is no ONNX model."""
    import onnx

    try:
        return list(onnx.load(model, load_external_data=False).graph.node)
    except Exception as error:  # protobuf's and onnx's own exceptions share no base class
        raise EngineError(f"{shorten(model)} is no ONNX model: {shorten(error)}") from None


def build(request: dict[str, Any], journal: Journal) -> None:
    """Parses, builds, writes the engine to `request["engine"]`; see `EngineReport` for what it reports."""
    start = time.monotonic()
    worker = Worker(request, journal)
    check_options(worker.trt, request["release"], request["options"])
    nodes = nodes_of(request["model"])
    network = worker.parse(request["model"], request["options"])
    plugins = plugins_of(network.definition, nodes, worker.owners, worker.trt)
    data = serialized(request, worker, network, journal)
    if request["engine"]:
        try:
            Path(request["engine"]).write_bytes(data)
        except OSError as error:
            raise EngineError(f"the engine cannot be written: {error.strerror}") from None
    warnings = [text for kind, text in worker.messages if kind == "warning"]
    result = {
        "bytes": len(data),
        "seconds": time.monotonic() - start,
        "layers": network.definition.num_layers,
        "plugins": plugins,
        "engine_layers": None,
        "outputs": {
            o.name: list(o.shape) for o in map(network.definition.get_output, range(network.definition.num_outputs))
        },
        "warnings": list(dict.fromkeys(warnings))[:_MESSAGES],
    }
    # The engine is built, whatever becomes of the look inside.
    journal.write(result=result)
    if has_gpu():
        journal.write(
            result={**result, "engine_layers": [name for name, _ in layers_of(worker, deserialized(worker, data))]}
        )


def _refusal(title: str, worker: Worker, parser: Any, nodes: Sequence[Any]) -> str:
    errors = worker.parser_errors(parser, nodes)
    if not errors:
        cause = "; ".join(worker.errors()[:1]) or "no reason given"
        return f"{title} refused the model: {shorten(cause, 300)}"
    first = errors[0]
    more = f"; and {len(errors) - 1} more" if len(errors) > 1 else ""
    # A plugin that refuses to be made says why in a message of its own, led by its name.
    named = first["op_type"] and re.compile(rf"\b{re.escape(first['op_type'])}: ")
    own = next((text for text in worker.errors() if named and named.match(text)), "")
    tail = f" ({shorten(own, 300)})" if own else ""
    where = f"node '{shorten(first['name'])}' ({shorten(first['op_type'])})" if first["op_type"] else "the model"
    return f"{title}'s parser refused {where}: {shorten(first['reason'], 300)}{more}{tail}"


def serialized(request: Mapping[str, Any], worker: Worker, network: Network, journal: Journal) -> bytes:
    """The engine, built as `request["options"]` and `request["profile"]` say.

    Raises:
        EngineError: the builder refuses the network, or int8 has nothing to calibrate with.
    """
    from polygraphy.backend.trt import Profile, engine_bytes_from_network
    from polygraphy.exception import PolygraphyException

    trt, options = worker.trt, request["options"]
    profile = Profile()
    for name, (low, best, high) in request["profile"].items():
        profile.add(name, tuple(low), tuple(best), tuple(high))
    settings: dict[str, Any] = {"profiles": [profile], "load_timing_cache": options["timing_cache"]}
    if options["workspace"] is not None:
        settings["memory_pool_limits"] = {trt.MemoryPoolType.WORKSPACE: options["workspace"]}
    if options["version_compatible"]:
        settings["version_compatible"] = True
    if options["hardware_compatibility"] is not None:
        level = HARDWARE_COMPATIBILITY[options["hardware_compatibility"]]
        settings["hardware_compatibility_level"] = getattr(trt.HardwareCompatibilityLevel, level)
    if options["tactic_sources"] is not None:
        settings["tactic_sources"] = [getattr(trt.TacticSource, source) for source in options["tactic_sources"]]
    calibration = None
    if "int8" in options["precisions"] and not _is_quantized(network.definition, trt):
        calibration = _Calibration(options, network.definition)
        settings["calibrator"] = calibration.calibrator
    journal.stage("building the engine")
    try:
        if worker.is_rtx:
            from polygraphy.backend.tensorrt_rtx import CreateConfigRTX

            config = CreateConfigRTX(**settings)
        else:
            from polygraphy.backend.trt import CreateConfig

            config = CreateConfig(**settings, **dict.fromkeys(options["precisions"], True))
        pair = (network.builder, network.definition)
        data = engine_bytes_from_network(pair, config=config, save_timing_cache=options["timing_cache"])
    except PolygraphyException as error:
        if calibration is not None:
            calibration.check()
        cause = "; ".join(worker.errors()[:1]) or one_line(error)
        raise EngineError(f"{worker.title} could not build the engine: {shorten(cause, 300)}") from None
    if calibration is not None:
        calibration.check()
    return bytes(data)


def _is_quantized(definition: Any, trt: Any) -> bool:
    """Whether the model carries its own scales; the builder needs none then."""
    kinds = (trt.LayerType.QUANTIZE, trt.LayerType.DEQUANTIZE)
    return any(definition.get_layer(i).type in kinds for i in range(definition.num_layers))


class _Calibration:
    """Polygraphy's calibrator on the user's inputs, whose errors must not cross TensorRT's frames."""

    def __init__(self, options: Mapping[str, Any], definition: Any) -> None:
        from polygraphy.backend.trt import Calibrator

        cache, inputs = options["calibration_cache"], options["calibration"]
        if inputs is None and not (cache and Path(cache).exists() and Path(cache).stat().st_size):
            raise EngineError(
                "int8 needs the ranges of this model's tensors: build it with representative inputs (--inputs or "
                "--data_loader, and --calib to keep what they give), give an existing --calib file, or a model with "
                "QuantizeLinear and DequantizeLinear nodes"
            )
        self._names = [definition.get_input(i).name for i in range(definition.num_inputs)]
        self._inputs = inputs
        self._error: EngineError | None = None
        self.calibrator = Calibrator(data_loader=self, cache=cache)

    def __iter__(self) -> Iterator[Feed]:
        if self._inputs is None:
            return
        try:
            yield from Feeds(self._inputs, self._names)
        except EngineError as error:
            self._error = error

    def check(self) -> None:
        """Raises what was wrong with the inputs."""
        if self._error is not None:
            raise self._error


def plugins_of(network: Any, nodes: Sequence[Any], owners: dict[str, str], trt: Any) -> list[dict[str, Any]]:
    """The plugins of the model with their nodes, and the network's layers of each."""
    layers: dict[str, list[str]] = {}
    for index in range(network.num_layers):
        layer = network.get_layer(index)
        name = _plugin_name(layer, trt)
        if name is not None:
            layers.setdefault(name, []).append(layer.name)
    uses: dict[str, list[str]] = {}
    for node in nodes:
        if node.op_type in owners or node.op_type in layers:
            uses.setdefault(node.op_type, []).append(node.name)
    return [
        {"op_type": op_type, "library": owners.get(op_type), "nodes": names, "layers": layers.get(op_type, [])}
        for op_type, names in uses.items()
    ]


def _plugin_name(layer: Any, trt: Any) -> str | None:
    """The name of the plugin that this layer runs; None for a layer of another kind."""
    kind = layer.type
    if kind == getattr(trt.LayerType, "PLUGIN_V3", object()):
        layer.__class__ = trt.IPluginV3Layer
        core = layer.plugin.get_capability_interface(trt.PluginCapabilityType.CORE)
        return str(core.plugin_name)
    if kind in (getattr(trt.LayerType, "PLUGIN_V2", object()), getattr(trt.LayerType, "PLUGIN", object())):
        layer.__class__ = trt.IPluginV2Layer
        return str(layer.plugin.plugin_type)
    return None


def has_gpu() -> bool:
    from plugin_autogen.build.architectures import native

    try:
        native()
    except PluginAutogenError:
        return False
    return True


def deserialized(worker: Worker, data: bytes) -> Any:
    """The engine, ready to run; the plugin libraries must be loaded.

    Raises:
        EngineError: it was built by another release, or for another GPU, or is no engine.
    """
    runtime = worker.trt.Runtime(worker.logger)
    if hasattr(runtime, "engine_host_code_allowed"):
        runtime.engine_host_code_allowed = True  # version compatible engines hold the runtime of their release
    worker.messages.clear()
    engine = runtime.deserialize_cuda_engine(data)
    if engine is None:
        cause = "; ".join(worker.errors()[:1]) or "no reason given"
        raise EngineError(f"{worker.title} cannot load the engine: {shorten(cause, 300)}")
    return engine


def layers_of(worker: Worker, engine: Any) -> list[tuple[str, bool]]:
    """The engine's layers: their names, and whether each is a plugin as far as the engine tells."""
    inspector = engine.create_engine_inspector()
    text = inspector.get_engine_information(worker.trt.LayerInformationFormat.JSON)
    found = []
    for entry in json.loads(text)["Layers"]:
        # Without details an entry is the name alone.
        name, kind = (entry["Name"], entry.get("LayerType", "")) if isinstance(entry, dict) else (str(entry), "")
        found.append((name, "plugin" in kind.lower()))
    return found


def supports(request: dict[str, Any], journal: Journal) -> None:
    """Reports the nodes that the parser refuses; see `build.supports`."""
    worker = Worker(request, journal)
    nodes = nodes_of(request["model"])
    network = worker.builder()
    parser = network.parser
    journal.stage("asking its parser")
    data = Path(request["model"]).read_bytes()
    # The path lets the parser find external data.
    if hasattr(parser, "supports_model_v2"):
        whole = bool(parser.supports_model_v2(data, request["model"]))
    else:
        whole = bool(parser.supports_model(data, request["model"])[0])
    if whole:
        journal.write(result={"refused": []})
        return
    errors = worker.parser_errors(parser, nodes)
    by_index = {error["index"]: error for error in reversed(errors) if error["index"] >= 0}
    if not by_index:
        raise EngineError(_refusal(worker.title, worker, parser, nodes))
    journal.write(result={"refused": [by_index[index] for index in sorted(by_index)]})

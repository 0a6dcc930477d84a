"""The child process of `engine/build.py`: the only module that imports TensorRT.

Reads a request (JSON), appends what it is about to do, and at last a result or an error, to a journal (JSON lines).
What TensorRT prints itself goes to the parent through the process's output.

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
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from plugin_autogen.errors import EngineError, PluginAutogenError, one_line, shorten

_MESSAGES = 50
"""Warnings kept at most."""


class _Journal:
    def __init__(self, path: Path) -> None:
        self._path = path

    def write(self, **entry: Any) -> None:
        with self._path.open("a") as file:
            file.write(json.dumps(entry) + "\n")

    def stage(self, text: str) -> None:
        """What is done next, as it ends "TensorRT was killed while …"."""
        self.write(stage=text)


class _Worker:
    def __init__(self, request: dict[str, Any], journal: _Journal) -> None:
        self._request = request
        self._journal = journal
        self._title: str = request["title"]
        journal.stage("loading its libraries")
        try:
            self.trt: Any = importlib.import_module(request["module"])
        except (ImportError, OSError, RuntimeError) as error:
            raise EngineError(f"{self._title} cannot be loaded: {shorten(error, 300)}") from None
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

    def start(self) -> tuple[Any, Any, Any, dict[str, str]]:
        """(builder, network, parser, owners): an empty network, and the file of each plugin name that was loaded."""
        from polygraphy.backend.trt import create_network

        self._journal.stage("starting its builder")
        # The builder comes first: it tells the registry which logger to use.
        builder, network = create_network()
        owners = self._load_libraries()
        parser = self.trt.OnnxParser(network, self.logger)
        self._alive = (builder, network, parser)  # the bindings let a parser outlive its network, and then crash
        return builder, network, parser, owners

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
        return f"{self._title} refused {shorten(path)}: {shorten(cause, 300)}"

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


def _nodes(model: str) -> list[Any]:
    import onnx

    try:
        return list(onnx.load(model, load_external_data=False).graph.node)
    except Exception as error:  # protobuf's and onnx's own exceptions share no base class
        raise EngineError(f"{shorten(model)} is no ONNX model: {shorten(error)}") from None


def build(request: dict[str, Any], journal: _Journal) -> None:
    """Parses, builds, writes the engine to `request["engine"]`; see `EngineReport` for what it reports."""
    start = time.monotonic()
    worker = _Worker(request, journal)
    trt = worker.trt
    nodes = _nodes(request["model"])
    builder, network, parser, owners = worker.start()
    journal.stage("parsing the model")
    if not parser.parse_from_file(request["model"]):
        raise EngineError(_refusal(request["title"], worker, parser, nodes))
    plugins = _plugins_of(network, nodes, owners, trt)
    journal.stage("building the engine")
    data = _serialized(request, worker, builder, network)
    if request["engine"]:
        try:
            Path(request["engine"]).write_bytes(data)
        except OSError as error:
            raise EngineError(f"the engine cannot be written: {error.strerror}") from None
    warnings = [text for kind, text in worker.messages if kind == "warning"]
    result = {
        "bytes": len(data),
        "seconds": time.monotonic() - start,
        "layers": network.num_layers,
        "plugins": plugins,
        "engine_layers": None,
        "outputs": {o.name: list(o.shape) for o in map(network.get_output, range(network.num_outputs))},
        "warnings": list(dict.fromkeys(warnings))[:_MESSAGES],
    }
    # The engine is built, whatever becomes of the look inside.
    journal.write(result=result)
    layers = _engine_layers(worker, data)
    if layers is not None:
        journal.write(result={**result, "engine_layers": layers})


def _refusal(title: str, worker: _Worker, parser: Any, nodes: Sequence[Any]) -> str:
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


def _serialized(request: dict[str, Any], worker: _Worker, builder: Any, network: Any) -> bytes:
    from polygraphy.backend.trt import CreateConfig, Profile, engine_bytes_from_network
    from polygraphy.exception import PolygraphyException

    profile = Profile()
    for name, (low, best, high) in request["profile"].items():
        profile.add(name, tuple(low), tuple(best), tuple(high))
    if request["title"] == "TensorRT-RTX":
        from polygraphy.backend.tensorrt_rtx import CreateConfigRTX

        config = CreateConfigRTX(profiles=[profile])
    else:
        config = CreateConfig(profiles=[profile])
    try:
        return bytes(engine_bytes_from_network((builder, network), config=config))
    except PolygraphyException as error:
        cause = "; ".join(worker.errors()[:1]) or one_line(error)
        raise EngineError(f"{request['title']} could not build the engine: {shorten(cause, 300)}") from None


def _plugins_of(network: Any, nodes: Sequence[Any], owners: dict[str, str], trt: Any) -> list[dict[str, Any]]:
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


def _engine_layers(worker: _Worker, data: bytes) -> list[str] | None:
    """Names of the engine's layers; None where it cannot be loaded, on a machine without a GPU above all."""
    from plugin_autogen.build.architectures import native

    try:
        native()
    except PluginAutogenError:
        return None
    trt = worker.trt
    engine = trt.Runtime(worker.logger).deserialize_cuda_engine(data)
    if engine is None:
        return None
    inspector = engine.create_engine_inspector()
    text = inspector.get_engine_information(trt.LayerInformationFormat.JSON)
    return [entry["Name"] if isinstance(entry, dict) else str(entry) for entry in json.loads(text)["Layers"]]


def supports(request: dict[str, Any], journal: _Journal) -> None:
    """Reports the nodes that the parser refuses; see `build.supports`."""
    worker = _Worker(request, journal)
    nodes = _nodes(request["model"])
    _, _, parser, _ = worker.start()
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
        raise EngineError(_refusal(request["title"], worker, parser, nodes))
    journal.write(result={"refused": [by_index[index] for index in sorted(by_index)]})


def main(arguments: Sequence[str]) -> int:
    request: dict[str, Any] = json.loads(Path(arguments[0]).read_text())
    journal = _Journal(Path(arguments[1]))
    actions = {"build": build, "supports": supports}
    try:
        actions[request["action"]](request, journal)
    except PluginAutogenError as error:
        journal.write(error=str(error))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

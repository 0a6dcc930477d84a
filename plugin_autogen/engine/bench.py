"""How fast a rewritten model's engine is, layer by layer, beside the original model's where TensorRT takes that."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from plugin_autogen.engine import child, runtime_library
from plugin_autogen.engine.build import build_request, existing, require_gpu
from plugin_autogen.engine.options import BuildOptions, Inputs, Profile, StrPath
from plugin_autogen.errors import EngineError


@dataclass(frozen=True)
class LayerTime:
    """A layer of the engine: its mean time in microseconds, its share of all layers', and whether it is a plugin."""

    name: str
    microseconds: float
    share: float
    is_plugin: bool


@dataclass(frozen=True)
class Measurement:
    """What an engine takes, its inputs and outputs lying on the device.

    Attributes:
        runs: how many executions were timed one by one.
        median: microseconds on the device of one execution.
        p99: microseconds that 99 of 100 executions take at most.
        throughput: executions a second, one enqueued behind the other.
        layers: in the order in which they run; empty when they were not asked for. Timing each of them costs time of
            its own: their sum is more than `median`.
    """

    runs: int
    median: float
    p99: float
    throughput: float
    layers: tuple[LayerTime, ...]

    @property
    def plugin_share(self) -> float:
        """The share of the layers' time that plugins take."""
        return sum(layer.share for layer in self.layers if layer.is_plugin)


@dataclass(frozen=True)
class BenchReport:
    """What was measured.

    Attributes:
        builder: `TensorRT-RTX 1.7.1.116`.
        plugins: the rewritten model's engine.
        native: the original model's engine; None where it was not given or is refused.
        refusal: why TensorRT does not take the original model.
    """

    builder: str
    plugins: Measurement
    native: Measurement | None
    refusal: str | None


def bench_engine(
    model: StrPath,
    original: StrPath | None = None,
    plugins: Sequence[StrPath] = (),
    *,
    engine: StrPath | None = None,
    builder: str | None = None,
    profile: Profile | None = None,
    options: BuildOptions | None = None,
    inputs: Inputs | None = None,
    seconds: float = 3.0,
    runs: int = 10,
    warm_up: float = 0.2,
    cuda_graph: bool = False,
    layers: bool = True,
) -> BenchReport:
    """Times the rewritten model's engine, and the original model's.

    Args:
        model: the rewritten model.
        original: the model that it was made from, to be timed beside it.
        plugins: as `build_engine` has it.
        engine: an engine of `model` that was built before; None: it is built and not kept.
        builder: `tensorrt` or `rtx`; by default what is installed, TensorRT first.
        profile: as `build_engine` has it.
        options: as `build_engine` has it, for both engines.
        inputs: the first set counts; None: random ones.
        seconds: how long to measure, latency and throughput each.
        runs: how many executions to time at least.
        warm_up: seconds before the first measurement.
        cuda_graph: capture an execution as a CUDA graph, and time its launches.
        layers: time each layer too.

    Raises:
        ModelError: a model is missing.
        EngineError: no GPU, no TensorRT, or whatever `build_engine` raises.
    """
    chosen = options or BuildOptions()
    measuring = {
        "action": "bench",
        "inputs": (inputs or Inputs()).request(),
        "duration": seconds,
        "iterations": runs,
        "warm_up": warm_up,
        "cuda_graph": cuda_graph,
        "profile_layers": layers,
    }
    request = {
        **build_request(model, plugins, profile, chosen),
        **measuring,
        "engine": str(existing(engine, "engine")) if engine is not None else None,
    }
    native_request: dict[str, Any] | None = None
    if original is not None:
        native_request = {**build_request(original, (), profile, chosen), **measuring, "engine": None}
    backend = runtime_library.choose(builder)
    require_gpu("measuring")
    measured = measurement(child.run(backend, request))
    native, refusal = None, None
    if native_request is not None:
        try:
            native = measurement(child.run(backend, native_request))
        except EngineError as error:  # mostly what the plugins are there for
            refusal = str(error)
    return BenchReport(str(backend), measured, native, refusal)


def measurement(result: dict[str, Any]) -> Measurement:
    """The worker's samples as figures."""
    latencies = result["latencies"]
    total = sum(time for _, time, _ in result["layers"]) or 1.0
    return Measurement(
        runs=len(latencies),
        median=statistics.median(latencies),
        p99=percentile(latencies, 99),
        throughput=result["throughput"],
        layers=tuple(LayerTime(name, time, time / total, plugin) for name, time, plugin in result["layers"]),
    )


def percentile(samples: Sequence[float], percent: int) -> float:
    """The smallest sample that is not exceeded by `percent` of 100 samples (nearest rank)."""
    ordered = sorted(samples)
    return ordered[max(-(-percent * len(ordered) // 100), 1) - 1]

"""LSTM, GRU and RNN, and com.microsoft's DynamicQuantizeLSTM.

The inputs' share of all gates is one matrix product over all time steps. What is left of a step depends on the step
before: a loop on the host around one kernel (two for a GRU that resets before the recurrent product), in which a block
of threads sums the products of one hidden unit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from plugin_autogen.lowering.operators.convolution import accumulator
from plugin_autogen.lowering.operators.quantization import apply_quantization, dynamic_parameters, to_integer
from plugin_autogen.lowering.registry import NodeContext, converter, dtype_of, shape_of
from plugin_autogen.lowering.te_operands import emit

MAX_THREADS = 128
"""Threads that share the sums of one hidden unit."""

Activation = Callable[[Any], Any]

_DEFAULTS: dict[str, tuple[float | None, float | None]] = {
    "relu": (None, None),
    "tanh": (None, None),
    "sigmoid": (None, None),
    "softsign": (None, None),
    "softplus": (None, None),
    "affine": (1.0, 0.0),
    "leakyrelu": (0.01, None),
    "thresholdedrelu": (1.0, None),
    "scaledtanh": (1.0, 1.0),
    "hardsigmoid": (0.2, 0.5),
    "elu": (1.0, None),
}
"""Activation → default alpha and beta; None where it takes none."""


def _activation(name: str, alpha: float | None, beta: float | None) -> Activation:
    from tvm import tirx

    def sigmoid(x: Any) -> Any:
        return 1.0 / (1.0 + tirx.exp(0.0 - x))

    functions: dict[str, Activation] = {
        "relu": lambda x: tirx.max(x, 0.0),
        "tanh": tirx.tanh,
        "sigmoid": sigmoid,
        "softsign": lambda x: x / (1.0 + tirx.abs(x)),
        # the logarithm of 1 + exp(x), without overflow
        "softplus": lambda x: tirx.max(x, 0.0) + tirx.log(1.0 + tirx.exp(0.0 - tirx.abs(x))),
        "affine": lambda x: x * alpha + beta,
        "leakyrelu": lambda x: tirx.Select(x >= 0.0, x, x * alpha),
        "thresholdedrelu": lambda x: tirx.Select(x > alpha, x, x * 0.0),
        "scaledtanh": lambda x: tirx.tanh(x * beta) * alpha,
        "hardsigmoid": lambda x: tirx.max(tirx.min(x * alpha + beta, 1.0), 0.0),
        "elu": lambda x: tirx.Select(x >= 0.0, x, (tirx.exp(tirx.min(x, 0.0)) - 1.0) * alpha),
    }
    return functions[name]


def _activations(context: NodeContext, defaults: Sequence[str], directions: int) -> list[list[Activation]]:
    """For each direction its activations. alpha and beta are handed out to those that take them, in order."""
    names = [str(n).lower() for n in context.attribute("activations") or list(defaults) * directions]
    if len(names) != len(defaults) * directions:
        names = list(defaults) * directions if len(names) < len(defaults) else names[: len(defaults)] * directions
    alphas = [float(a) for a in context.attribute("activation_alpha") or []]
    betas = [float(b) for b in context.attribute("activation_beta") or []]
    functions = []
    for name in names:
        if name not in _DEFAULTS:
            context.unsupported(f"activation '{name}' is not one that ONNX defines")
        alpha, beta = _DEFAULTS[name]
        alpha = alphas.pop(0) if alpha is not None and alphas else alpha
        beta = betas.pop(0) if beta is not None and betas else beta
        functions.append(_activation(name, alpha, beta))
    return [functions[d * len(defaults) : (d + 1) * len(defaults)] for d in range(directions)]


@dataclass(frozen=True)
class _Layer:
    """Sizes and settings of a recurrent node.

    Attributes:
        gates: number of gates; weights have gates * hidden rows.
        steps, batch, hidden: sizes of X's time and batch axes and of the state.
        directions: 1 or 2; `reversed_` says for each whether it walks back in time.
        wide: the type of sums and states.
    """

    context: NodeContext
    gates: int
    steps: Any
    batch: Any
    hidden: int
    directions: int
    reversed_: tuple[bool, ...]
    batch_first: bool
    clip: float | None
    dtype: str
    wide: str
    operands: dict[str, Any] = field(default_factory=dict)

    @property
    def threads(self) -> int:
        threads = 32
        while threads < min(self.hidden, MAX_THREADS):
            threads *= 2
        return threads

    def limited(self, value: Any) -> Any:
        """A gate's input, limited to [-clip, clip]."""
        from tvm import tirx

        if self.clip is None:
            return value
        return tirx.max(tirx.min(value, tirx.const(self.clip, self.wide)), tirx.const(-self.clip, self.wide))

    def apply(self, functions: Sequence[Activation], direction: Any, value: Any) -> Any:
        """The activation of this direction (`functions` has one a direction)."""
        from tvm import tirx

        if self.directions == 1 or functions[0] is functions[1]:
            return functions[0](value)
        return tirx.Select(direction == 0, functions[0](value), functions[1](value))


def _layer(context: NodeContext, gates: int) -> _Layer:
    data, recurrent = context.input(0), context.input(2)
    shape, dtype = shape_of(data), dtype_of(data)
    direction = context.attribute("direction", "forward")
    kinds = {"forward": (False,), "reverse": (True,), "bidirectional": (False, True)}
    if direction not in kinds:
        context.unsupported(f"direction '{direction}' is none of forward, reverse, bidirectional")
    directions = len(kinds[direction])
    hidden = context.attribute("hidden_size") or (shape_of(recurrent)[-1] if gates else None)
    if not isinstance(hidden, int) or shape_of(recurrent)[0] != directions:
        context.unsupported(f"weights {list(shape_of(recurrent))} do not fit direction {direction}")
    batch_first = bool(context.attribute("layout", 0))
    steps, batch = (shape[1], shape[0]) if batch_first else (shape[0], shape[1])
    clip = context.attribute("clip")
    return _Layer(
        context,
        gates,
        steps,
        batch,
        hidden,
        directions,
        kinds[direction],
        batch_first,
        float(clip) if clip else None,
        dtype,
        accumulator(dtype),
    )


def _inputs_share(layer: _Layer, hidden_bias: Callable[[int], bool]) -> Any:
    """X times W of all steps plus biases, of R only for gates where `hidden_bias` holds: (T, B, D, gates * hidden)."""
    from tvm import te, tirx

    context, rows = layer.context, layer.gates * layer.hidden
    data, weight = context.input(0), context.input(1)
    size = shape_of(data)[-1]

    def compute(data: Any, weight: Any, bias: Any) -> Any:
        x = te.compute(data.shape, lambda *i: data(*i).astype(layer.wide), name="x")
        w = te.compute(weight.shape, lambda *i: weight(*i).astype(layer.wide), name="w")
        k = te.reduce_axis((0, size), "k")

        def one(t: Any, b: Any, d: Any, r: Any) -> Any:
            return te.sum((x(b, t, k) if layer.batch_first else x(t, b, k)) * w(d, r, k), axis=k)

        total = te.compute((layer.steps, layer.batch, layer.directions, rows), one, name="inputs")
        if bias is None:
            return total

        def biased(t: Any, b: Any, d: Any, r: Any) -> Any:
            value = total(t, b, d, r) + bias(d, r).astype(layer.wide)
            first = [g for g in range(layer.gates) if hidden_bias(g)]
            own = bias(d, r + rows).astype(layer.wide)
            if len(first) < layer.gates:
                own = tirx.if_then_else(r < len(first) * layer.hidden, own, tirx.const(0, layer.wide))
            return value + own

        return te.compute(total.shape, biased, name="biased")

    return emit(context, compute, {"data": data, "weight": weight, "bias": _tensor(context, 3)}, name="gates_of_inputs")


def _tensor(context: NodeContext, index: int) -> Any:
    return context.input(index) if context.has_input(index) else None


Step = Callable[..., None]


def _run(
    layer: _Layer,
    inputs: dict[str, Any],
    states: Sequence[str],
    step: Step,
    extra: Mapping[str, tuple[tuple[Any, ...], str]] | None = None,
) -> list[Any]:
    """The kernels around the loop over time: states initialized, steps, the last states written.

    Args:
        inputs: Relax tensors by name; `lengths` and `initial_<state>` are used here.
        states: names; the first is the hidden state.
        step: `step(buffers, number, previous, current)` writes one step's kernels; `previous` and `current` are the
            slots of the hidden state.
        extra: shape and element type of further buffers that steps need.

    Returns:
        Y and the last value of each state.
    """
    from tvm import tirx

    from plugin_autogen.lowering import te_loops as loops

    given = {name: value for name, value in inputs.items() if value is not None}
    shape = (layer.directions, layer.batch, layer.hidden)
    sequence = (layer.steps, layer.directions, layer.batch, layer.hidden)
    last = shape
    if layer.batch_first:
        sequence = (layer.batch, layer.steps, layer.directions, layer.hidden)
        last = (layer.batch, layer.directions, layer.hidden)
    index = "int32"

    def body(*arrays: Any) -> None:
        buffers = dict(zip([*given, "y", *(f"last_{s}" for s in states)], arrays, strict=True))
        for name in states:
            # the hidden state is read by all units of the next step, so it has two slots; others are a unit's own
            buffers[name] = loops.scratch((2, *shape) if name == states[0] else shape, layer.wide)
        for name, (extents, kind) in (extra or {}).items():
            buffers[name] = loops.scratch(extents, kind)
        with loops.grid(*shape, dtype=index) as place:
            d, b, h = place
            source = (b, d, h) if layer.batch_first else (d, b, h)
            for name in states:
                initial = buffers.get(f"initial_{name}")
                value = initial[source].astype(layer.wide) if initial is not None else tirx.const(0, layer.wide)
                buffers[name][(0, d, b, h) if name == states[0] else (d, b, h)] = value
        with loops.serial(layer.steps, index) as number:
            step(buffers, number, tirx.floormod(number, 2), tirx.floormod(number + 1, 2))
        with loops.grid(*shape, dtype=index) as place:
            d, b, h = place
            target = (b, d, h) if layer.batch_first else (d, b, h)
            for name in states:
                slot = (tirx.floormod(layer.steps, 2), d, b, h) if name == states[0] else (d, b, h)
                buffers[f"last_{name}"][target] = buffers[name][slot].astype(layer.dtype)

    outputs = [(sequence, layer.dtype), *((last, layer.dtype) for _ in states)]
    return loops.kernel(layer.context, body, list(given.values()), outputs)


def _time(layer: _Layer, buffers: dict[str, Any], number: Any, d: Any, b: Any) -> tuple[Any, Any]:
    """The position in time that this step stands for, and whether it lies in the sequence (None: always)."""
    from tvm import tirx

    from plugin_autogen.lowering import te_loops as loops

    lengths = buffers.get("lengths")
    length = layer.steps if lengths is None else lengths[b].astype("int32")
    back = length - 1 - number
    if lengths is not None:  # past the sequence's end, positions keep their order
        back = tirx.Select(number < length, back, number)
    if layer.directions == 2:
        time = tirx.Select(d == 1, back, number)
    else:
        time = back if layer.reversed_[0] else number
    return loops.bind(time), None if lengths is None else loops.bind(number < length)


def _dots(layer: _Layer, count: int, product: Callable[[int, Any], Any], dtype: str | None = None) -> list[Any]:
    """Inside a block: `count` sums over the hidden units of `product(i, k)`, as scalars in shared memory."""
    from tvm import tirx

    from plugin_autogen.lowering import te_loops as loops

    dtype, threads = dtype or layer.wide, layer.threads
    partial = loops.shared([count, threads], dtype)
    with loops.thread(threads) as (t,):
        sums = loops.local(dtype, count)
        for i in range(count):
            sums[i] = tirx.const(0, dtype)
        with loops.serial(-(-layer.hidden // threads)) as turn:
            k = turn * threads + t
            with loops.when(k < layer.hidden):
                for i in range(count):
                    sums[i] = sums[i] + product(i, k)
        for i in range(count):
            partial[i, t] = sums[i]
    half = threads // 2
    while half:
        with loops.thread(half) as (t,):
            for i in range(count):
                partial[i, t] = partial[i, t] + partial[i, t + half]
        half //= 2
    return [partial[i, 0] for i in range(count)]


def _write(layer: _Layer, buffers: dict[str, Any], time: Any, place: tuple[Any, Any, Any], value: Any) -> None:
    d, b, h = place
    where = (b, time, d, h) if layer.batch_first else (time, d, b, h)
    buffers["y"][where] = value.astype(layer.dtype)


def _settle(
    layer: _Layer,
    buffers: dict[str, Any],
    place: tuple[Any, Any, Any],
    slots: tuple[Any, Any],
    time: Any,
    valid: Any,
    hidden: Any,
    others: dict[str, Any] | None = None,
) -> None:
    """Writes the new states, or past the end of a sequence the old ones and zero as output."""
    from tvm import tirx

    from plugin_autogen.lowering import te_loops as loops

    previous, current = slots
    for name, value in (others or {}).items():
        old = buffers[name][place]
        buffers[name][place] = value if valid is None else tirx.Select(valid, value, old)
    before, after = (previous, *place), (current, *place)
    old = buffers["h"][before]
    kept = loops.bind(hidden if valid is None else tirx.Select(valid, hidden, old))
    buffers["h"][after] = kept
    zero = tirx.const(0, layer.wide)
    _write(layer, buffers, time, place, kept if valid is None else tirx.Select(valid, kept, zero))


def _outputs(context: NodeContext, results: list[Any]) -> list[Any]:
    return results[: len(context.node.output)]


@converter("LSTM", since=1)
def lstm(context: NodeContext) -> list[Any]:
    """Gates i, o, f, c; peepholes, clip, input_forget, sequence lengths, all directions, both layouts."""
    layer = _layer(context, 4)
    inputs = {
        "gates": _inputs_share(layer, lambda gate: True),
        "recurrent": context.input(2),
        "lengths": _tensor(context, 4),
        "initial_h": _tensor(context, 5),
        "initial_c": _tensor(context, 6),
        "peepholes": _tensor(context, 7),
    }

    def sums(buffers: dict[str, Any], d: Any, b: Any, h: Any, previous: Any) -> list[Any]:
        weights, state = buffers["recurrent"], buffers["h"]
        return _dots(
            layer,
            4,
            lambda i, k: weights[d, i * layer.hidden + h, k].astype(layer.wide) * state[previous, d, b, k],
        )

    return _outputs(context, _run(layer, inputs, ("h", "c"), _lstm_step(layer, sums)))


def _lstm_step(layer: _Layer, sums: Callable[..., list[Any]], before: Callable[..., None] | None = None) -> Step:
    """One step of an LSTM; `sums` gives the four recurrent sums of a unit in its block, `before` kernels in front."""
    from plugin_autogen.lowering import te_loops as loops

    context, hidden = layer.context, layer.hidden
    activations = list(zip(*_activations(context, ("sigmoid", "tanh", "tanh"), layer.directions), strict=True))
    coupled = bool(context.attribute("input_forget", 0))

    def step(buffers: dict[str, Any], number: Any, previous: Any, current: Any) -> None:
        if before is not None:
            before(buffers, previous)
        with loops.block(layer.directions, layer.batch, hidden, threads=layer.threads) as place:
            d, b, h = place
            recurrent = sums(buffers, d, b, h, previous)
            with loops.thread(1):
                time, valid = _time(layer, buffers, number, d, b)
                cell = loops.bind(buffers["c"][d, b, h])

                def gate(index: int, peephole: int | None = None, state: Any = None) -> Any:
                    value = buffers["gates"][time, b, d, index * hidden + h] + recurrent[index]
                    if peephole is not None and "peepholes" in buffers:
                        value = value + buffers["peepholes"][d, peephole * hidden + h].astype(layer.wide) * state
                    return layer.limited(value)

                f, g, out = activations
                i = loops.bind(layer.apply(f, d, gate(0, 0, cell)))
                forget = 1.0 - i if coupled else layer.apply(f, d, gate(2, 2, cell))
                new = loops.bind(forget * cell + i * layer.apply(g, d, gate(3)))
                o = layer.apply(f, d, gate(1, 1, new))
                value = o * layer.apply(out, d, new)
                _settle(layer, buffers, (d, b, h), (previous, current), time, valid, value, {"c": new})

    return step


@converter("GRU", since=1)
def gru(context: NodeContext) -> list[Any]:
    """Gates z, r, h; with `linear_before_reset` the reset gate acts on the recurrent product, else on the state."""
    from plugin_autogen.lowering import te_loops as loops

    layer = _layer(context, 3)
    hidden = layer.hidden
    activations = list(zip(*_activations(context, ("sigmoid", "tanh"), layer.directions), strict=True))
    after = bool(context.attribute("linear_before_reset", 0))
    bias = _tensor(context, 3)
    inputs = {
        "gates": _inputs_share(layer, lambda gate: gate < 2 or not after),
        "recurrent": context.input(2),
        "bias": bias if after else None,
        "lengths": _tensor(context, 4),
        "initial_h": _tensor(context, 5),
    }

    def dots(buffers: dict[str, Any], d: Any, h: Any, rows: Sequence[int], state: Callable[[Any], Any]) -> list[Any]:
        weights = buffers["recurrent"]
        return _dots(layer, len(rows), lambda i, k: weights[d, rows[i] * hidden + h, k].astype(layer.wide) * state(k))

    def finish(buffers: Any, place: Any, slots: Any, time: Any, valid: Any, update: Any, candidate: Any) -> None:
        before = (slots[0], *place)
        old = buffers["h"][before]
        value = (1.0 - update) * layer.apply(activations[1], place[0], layer.limited(candidate)) + update * old
        _settle(layer, buffers, place, slots, time, valid, value)

    def step(buffers: dict[str, Any], number: Any, previous: Any, current: Any) -> None:
        def gate(time: Any, d: Any, b: Any, h: Any, index: int) -> Any:
            return buffers["gates"][time, b, d, index * hidden + h]

        def activated(d: Any, value: Any) -> Any:
            return loops.bind(layer.apply(activations[0], d, layer.limited(value)))

        with loops.block(layer.directions, layer.batch, hidden, threads=layer.threads) as (d, b, h):
            sums = dots(buffers, d, h, (0, 1, 2) if after else (0, 1), lambda k: buffers["h"][previous, d, b, k])
            with loops.thread(1):
                time, valid = _time(layer, buffers, number, d, b)
                update = activated(d, gate(time, d, b, h, 0) + sums[0])
                reset = activated(d, gate(time, d, b, h, 1) + sums[1])
                if after:
                    linear = sums[2]
                    if "bias" in buffers:
                        linear = linear + buffers["bias"][d, 5 * hidden + h].astype(layer.wide)
                    candidate = gate(time, d, b, h, 2) + reset * linear
                    finish(buffers, (d, b, h), (previous, current), time, valid, update, candidate)
                else:
                    buffers["update"][d, b, h] = update
                    buffers["reset"][d, b, h] = reset * buffers["h"][previous, d, b, h]
        if after:
            return
        with loops.block(layer.directions, layer.batch, hidden, threads=layer.threads) as (d, b, h):
            sums = dots(buffers, d, h, (2,), lambda k: buffers["reset"][d, b, k])
            with loops.thread(1):
                time, valid = _time(layer, buffers, number, d, b)
                candidate = gate(time, d, b, h, 2) + sums[0]
                update = buffers["update"][d, b, h]
                finish(buffers, (d, b, h), (previous, current), time, valid, update, candidate)

    shape = (layer.directions, layer.batch, hidden)
    extra = {} if after else {"update": (shape, layer.wide), "reset": (shape, layer.wide)}
    return _outputs(context, _run(layer, inputs, ("h",), step, extra))


@converter("RNN", since=1)
def rnn(context: NodeContext) -> list[Any]:
    """One gate."""
    from plugin_autogen.lowering import te_loops as loops

    layer = _layer(context, 1)
    (activations,) = zip(*_activations(context, ("tanh",), layer.directions), strict=True)
    inputs = {
        "gates": _inputs_share(layer, lambda gate: True),
        "recurrent": context.input(2),
        "lengths": _tensor(context, 4),
        "initial_h": _tensor(context, 5),
    }

    def step(buffers: dict[str, Any], number: Any, previous: Any, current: Any) -> None:
        with loops.block(layer.directions, layer.batch, layer.hidden, threads=layer.threads) as (d, b, h):
            weights, state = buffers["recurrent"], buffers["h"]
            (total,) = _dots(layer, 1, lambda _, k: weights[d, h, k].astype(layer.wide) * state[previous, d, b, k])
            with loops.thread(1):
                time, valid = _time(layer, buffers, number, d, b)
                value = layer.apply(activations, d, layer.limited(buffers["gates"][time, b, d, h] + total))
                _settle(layer, buffers, (d, b, h), (previous, current), time, valid, value)

    return _outputs(context, _run(layer, inputs, ("h",), step))


@converter("DynamicQuantizeLSTM", domain="com.microsoft")
def dynamic_quantize_lstm(context: NodeContext) -> list[Any]:
    """An LSTM whose weights have 8 bits; X, and before each step the state of a direction, are quantized to uint8.

    Inputs X, W (directions, inputs, 4 * hidden), R (directions, hidden, 4 * hidden), B, sequence_lens, initial_h,
    initial_c, P, W_scale, W_zero_point, R_scale, R_zero_point.
    """
    from tvm import te, tirx

    from plugin_autogen.lowering import te_loops as loops

    layer = _layer(context, 4)
    data = context.input(0)
    hidden, rows, size = layer.hidden, 4 * layer.hidden, shape_of(data)[-1]
    scale, zero_point = dynamic_parameters(context, data)

    def of(parameter: Any, d: Any, r: Any) -> Any:
        """A scale or zero point of a direction, or of each of its columns."""
        return parameter[d] if len(parameter.shape) == 1 else parameter[d, r]

    def gates(q: Any, w: Any, bias: Any, scale: Any, zero: Any, w_scale: Any, w_zero: Any) -> Any:
        x = te.compute(q.shape, lambda *i: q(*i).astype("int32") - zero().astype("int32"), name="x")
        weights = te.compute(w.shape, lambda d, k, r: w(d, k, r).astype("int32") - of(w_zero, d, r).astype("int32"))
        k = te.reduce_axis((0, size), "k")
        total = te.compute(
            (layer.steps, layer.batch, layer.directions, rows),
            lambda t, b, d, r: te.sum(x(t, b, k) * weights(d, k, r), axis=k),
            name="inputs",
        )

        def scaled(t: Any, b: Any, d: Any, r: Any) -> Any:
            value = total(t, b, d, r).astype("float32") * (scale() * of(w_scale, d, r))
            return value if bias is None else value + bias(d, r) + bias(d, r + rows)

        return te.compute(total.shape, scaled, name="scaled")

    if layer.batch_first:
        context.unsupported("layout is not an attribute of this operator")
    operands = {
        "q": apply_quantization(context, data, scale, zero_point),
        "w": context.input(1),
        "bias": _tensor(context, 3),
        "scale": scale,
        "zero": zero_point,
        "w_scale": context.input(8),
        "w_zero": context.input(9),
    }
    inputs = {
        "gates": emit(context, gates, operands, name="gates_of_inputs"),
        "recurrent": context.input(2),
        "lengths": _tensor(context, 4),
        "initial_h": _tensor(context, 5),
        "initial_c": _tensor(context, 6),
        "peepholes": _tensor(context, 7),
        "r_scale": context.input(10),
        "r_zero": context.input(11),
    }

    def quantize_state(buffers: dict[str, Any], previous: Any) -> None:
        """Scale, zero point and uint8 values of each direction's hidden state."""
        count = layer.batch * hidden
        threads = 256
        with loops.block(layer.directions, threads=threads) as (d,):
            low, high = loops.shared([threads], "float32"), loops.shared([threads], "float32")
            state = buffers["h"]

            def at(i: Any) -> tuple[Any, ...]:
                return previous, d, tirx.floordiv(i, hidden), tirx.floormod(i, hidden)

            with loops.thread(threads) as (t,):
                found = loops.local("float32", 2)
                found[0] = tirx.const(0, "float32")
                found[1] = tirx.const(0, "float32")
                with loops.serial((count + threads - 1) // threads) as turn:
                    i = turn * threads + t
                    with loops.when(i < count):
                        found[0] = tirx.min(found[0], state[at(i)])
                        found[1] = tirx.max(found[1], state[at(i)])
                low[t] = found[0]
                high[t] = found[1]
            half = threads // 2
            while half:
                with loops.thread(half) as (t,):
                    low[t] = tirx.min(low[t], low[t + half])
                    high[t] = tirx.max(high[t], high[t + half])
                half //= 2
            with loops.thread(1):
                spread = loops.bind(high[0] - low[0])
                one = tirx.const(1, "float32")
                step = loops.bind(tirx.Select(spread == 0.0, one, spread / tirx.const(255, "float32")))
                start = tirx.nearbyint((0.0 - low[0]) / step)
                buffers["h_scale"][d] = step
                buffers["h_zero"][d] = start
            with loops.thread(threads) as (t,), loops.serial((count + threads - 1) // threads) as turn:
                i = turn * threads + t
                with loops.when(i < count):
                    rounded = tirx.nearbyint(state[at(i)] / buffers["h_scale"][d])
                    value = to_integer(rounded + buffers["h_zero"][d], None, "uint8").astype("int32")
                    buffers["h_steps"][at(i)[1:]] = value - buffers["h_zero"][d].astype("int32")

    def sums(buffers: dict[str, Any], d: Any, b: Any, h: Any, previous: Any) -> list[Any]:
        weights, zero = buffers["recurrent"], buffers["r_zero"]
        totals = _dots(
            layer,
            4,
            lambda i, k: (
                (
                    weights[d, k, i * hidden + h].astype("int32")
                    - (zero[d] if zero_rank == 1 else zero[d, i * hidden + h]).astype("int32")
                )
                * buffers["h_steps"][d, b, k]
            ),
            "int32",
        )
        scale = buffers["r_scale"]
        return [
            total.astype("float32")
            * (buffers["h_scale"][d] * (scale[d] if scale_rank == 1 else scale[d, i * hidden + h]))
            for i, total in enumerate(totals)
        ]

    scale_rank, zero_rank = len(shape_of(context.input(10))), len(shape_of(context.input(11)))
    extra = {
        "h_scale": ((layer.directions,), "float32"),
        "h_zero": ((layer.directions,), "float32"),
        "h_steps": ((layer.directions, layer.batch, hidden), "int32"),
    }
    return _outputs(context, _run(layer, inputs, ("h", "c"), _lstm_step(layer, sums, quantize_state), extra))

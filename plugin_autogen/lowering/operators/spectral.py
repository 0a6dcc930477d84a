"""DFT of any length, and STFT: a mixed-radix transform with one kernel a radix, twiddle factors in a table.

A pass with radix r splits each transform of length m into r of length m / r (decimation in frequency, results in
order): the state after it holds, for each output index known so far and each remaining position, one complex number.
Lengths with a large prime factor become a convolution (Bluestein) of a length that has none.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from plugin_autogen.lowering.operators.convolution import accumulator
from plugin_autogen.lowering.registry import NodeContext, converter, dtype_of, shape_of
from plugin_autogen.lowering.spatial import PER_OUTPUT

if TYPE_CHECKING:
    import numpy as np

RADIX = 32
"""Products of factors are gathered into radices up to this one: a thread sums this many terms."""
LARGEST_PRIME = 256
"""Prime factors beyond this take Bluestein's way."""

Complex = tuple[Any, Any]
"""Real and imaginary part as TIR expressions."""


@dataclass(frozen=True)
class _Signal:
    """What is transformed.

    Attributes:
        context: of the node.
        tensors: Relax tensors that `load` reads, as TE tensors.
        before, after: sizes of the axes around the transformed one.
        load: real and imaginary part (`wide`) at (TE tensors, indices before, position, indices after).
        wide: element type to compute in.
    """

    context: NodeContext
    tensors: Sequence[Any]
    before: tuple[Any, ...]
    after: tuple[Any, ...]
    load: Callable[[Sequence[Any], Sequence[Any], Any, Sequence[Any]], Complex]
    wide: str


def radices(length: int) -> list[int] | None:
    """Factors of the length, each at most `RADIX` or a prime; None where a prime is too large for a pass."""
    primes = []
    rest, factor = length, 2
    while rest > 1:
        while rest % factor == 0:
            primes.append(factor)
            rest //= factor
        factor = factor + 1 if factor * factor <= rest else max(rest, 2)
    if any(p > LARGEST_PRIME for p in primes):
        return None
    found: list[int] = []
    for prime in sorted(primes, reverse=True):
        fitting = [i for i, r in enumerate(found) if r * prime <= RADIX]
        if fitting:
            found[fitting[0]] *= prime
        else:
            found.append(prime)
    return found or [1]


def transform(signal: _Signal, length: int, inverse: bool, bins: int, parts: int, scale: float = 1.0) -> Any:
    """The transform along the signal's axis.

    Args:
        signal: positions from 0 to `length` - 1 are read.
        length: of the transform.
        inverse: sign of the exponent; the result is not divided by the length.
        bins: how many outputs, from 0 on, are computed.
        parts: 2 for complex results, 1 for their real part.
        scale: factor of the result.

    Returns:
        A Relax tensor (*before, bins, *after, parts) in the signal's wide type.
    """
    factors = radices(length)
    if factors is None:
        return _bluestein(signal, length, inverse, bins, parts, scale)
    known, remaining = 1, length
    value: Any = None
    for number, radix in enumerate(factors):
        last = number == len(factors) - 1
        table = _table(length, inverse, signal.wide, scale if last else 1.0)
        remaining //= radix
        value = _pass(signal, table, length, known, radix, remaining, bins if last else None, parts if last else 2)
        known *= radix
        signal = _state(signal, value)
    return value


def _table(length: int, inverse: bool, dtype: str, scale: float) -> np.ndarray:
    """exp(±2πi t / length) as (length, 2)."""
    import numpy as np

    angle = 2 * np.pi * np.arange(length) / length
    sign = 1 if inverse else -1
    return (scale * np.stack([np.cos(angle), sign * np.sin(angle)], axis=-1)).astype(dtype)


def _pass(
    signal: _Signal,
    table: np.ndarray,
    length: int,
    known: int,
    radix: int,
    remaining: int,
    bins: int | None,
    parts: int,
) -> Any:
    """One kernel, from `known` outputs and radix * remaining positions to known * radix and `remaining`."""
    from tvm import relax, te, tirx

    leading = len(signal.before)
    # after the last pass one position remains, and its axis is left out
    outputs = known * radix if bins is None else bins
    shape = (*signal.before, outputs, *((remaining,) if bins is None else ()), *signal.after, parts)

    def compute(*tensors: Any) -> Any:
        inputs, twiddles = tensors[:-1], tensors[-1]
        j = te.reduce_axis((0, radix), "j")

        def one(*i: Any) -> Any:
            before, output = i[:leading], i[leading]
            position = i[leading + 1] if bins is None else 0
            after, part = i[leading + (2 if bins is None else 1) : -1], i[-1]
            place = position + j * remaining
            turn = tirx.floormod(tirx.floordiv(output, known) * place, radix * remaining) * known
            real, imaginary = signal.load(inputs, (*before, tirx.floormod(output, known)), place, after)
            wr, wi = twiddles(turn, 0), twiddles(turn, 1)
            if imaginary is None:
                return te.sum(real * twiddles(turn, part), axis=j)
            re, im = real * wr - imaginary * wi, real * wi + imaginary * wr
            return te.sum(re if parts == 1 else tirx.Select(part == 0, re, im), axis=j)

        return te.compute(shape, one, name="butterflies", attrs=PER_OUTPUT)

    twiddles = relax.const(table, signal.wide)
    return signal.context.te(compute, *signal.tensors, twiddles, name=f"dft_{length}_radix_{radix}")


def _state(signal: _Signal, value: Any) -> _Signal:
    """What a pass left, as the signal of the next one."""

    def load(tensors: Sequence[Any], before: Sequence[Any], position: Any, after: Sequence[Any]) -> Complex:
        (state,) = tensors
        return state(*before, position, *after, 0), state(*before, position, *after, 1)

    return _Signal(signal.context, [value], signal.before, signal.after, load, signal.wide)


def _without_known(load: Callable[..., Complex]) -> Callable[..., Complex]:
    """The `load` of a signal that no pass has split yet: it has no axis of known outputs."""
    return lambda tensors, before, position, after: load(tensors, before[:-1], position, after)


def _bluestein(signal: _Signal, length: int, inverse: bool, bins: int, parts: int, scale: float) -> Any:
    """nk = (n² + k² - (k - n)²) / 2: a convolution with a chirp, done by transforms of a longer length."""
    import numpy as np
    from tvm import relax, te, tirx

    wide = signal.wide
    size = 1 << (2 * length - 2).bit_length()
    sign = 1 if inverse else -1
    square = (np.arange(length, dtype=np.int64) ** 2) % (2 * length)
    chirp = np.exp(sign * 1j * np.pi * square / length)
    kernel = np.zeros(size, complex)
    kernel[:length] = chirp.conj()
    kernel[size - length + 1 :] = chirp[1:][::-1].conj()
    spectrum = np.fft.fft(kernel) / size * scale
    chirps, spectra = (relax.const(np.stack([c.real, c.imag], -1).astype(wide), wide) for c in (chirp, spectrum))
    zero = tirx.const(0, wide)

    def chirped(tensors: Sequence[Any], before: Sequence[Any], position: Any, after: Sequence[Any]) -> Complex:
        table = tensors[-1]
        place = tirx.min(position, length - 1)
        re, im = _times(signal.load(tensors[:-1], before, place, after), (table(place, 0), table(place, 1)))
        inside = position < length
        return tirx.if_then_else(inside, re, zero), tirx.if_then_else(inside, im, zero)

    first = _Signal(signal.context, [*signal.tensors, chirps], signal.before, signal.after, chirped, signal.wide)
    value = transform(first, size, False, size, 2)

    def filtered(tensors: Sequence[Any], before: Sequence[Any], position: Any, after: Sequence[Any]) -> Complex:
        state, table = tensors
        place = (*before[:-1], position, *after)
        return _times((state(*place, 0), state(*place, 1)), (table(position, 0), table(position, 1)))

    second = _Signal(signal.context, [value, spectra], signal.before, signal.after, filtered, signal.wide)
    value = transform(second, size, True, bins, 2)
    leading = len(signal.before)

    def finish(state: Any, table: Any) -> Any:
        def one(*i: Any) -> Any:
            k = i[leading]
            re, im = _times((state(*i[:-1], 0), state(*i[:-1], 1)), (table(k, 0), table(k, 1)))
            return re if parts == 1 else tirx.Select(i[-1] == 0, re, im)

        return te.compute((*signal.before, bins, *signal.after, parts), one, name="chirped")

    return signal.context.te(finish, value, chirps, name="dft_chirp")


def _times(a: Complex, b: Complex) -> Complex:
    if a[1] is None:
        return a[0] * b[0], a[0] * b[1]
    return a[0] * b[0] - a[1] * b[1], a[0] * b[1] + a[1] * b[0]


@converter("DFT", since=17)
def dft(context: NodeContext) -> Any:
    """DFT-17 (axis as attribute) and 20 (axis as input); real or complex input, inverse, onesided."""
    data = context.input(0)
    shape = shape_of(data)
    rank = len(shape)
    if context.opset >= 20:
        axis = int(context.constant(2).reshape(-1)[0]) if context.has_input(2) else -2
    else:
        axis = int(context.attribute("axis", 1))
    axis = axis % rank
    if axis == rank - 1:
        context.unsupported("the last axis holds the parts of complex numbers")
    inverse, onesided = bool(context.attribute("inverse", 0)), bool(context.attribute("onesided", 0))
    given = shape[axis]
    if context.has_input(1):
        length = int(context.constant(1).reshape(-1)[0])
    else:
        length = 2 * (given - 1) if inverse and onesided else given
    if not isinstance(length, int) or length < 1:
        context.unsupported("the length of the transform must be known")
    real_output = inverse and onesided
    bins = length // 2 + 1 if onesided and not inverse else length
    load = _load(context, axis, given, length, real_output)
    wide = accumulator(dtype_of(data))
    signal = _Signal(context, [data], shape[:axis], shape[axis + 1 : -1], _without_known(load), wide)
    scale = 1.0 / length if inverse else 1.0
    return _as_stated(context, transform(signal, length, inverse, bins, 1 if real_output else 2, scale))


def _load(context: NodeContext, axis: int, given: Any, length: int, hermitian: bool) -> Callable[..., Complex]:
    """Reads the input: zeros behind its end; with `hermitian`, the second half mirrors the first."""
    from tvm import tirx

    complex_input = not (isinstance(context.shape(0)[-1], int) and context.shape(0)[-1] == 1)
    wide = accumulator(context.dtype(0))
    half = length // 2 + 1

    def load(tensors: Sequence[Any], before: Sequence[Any], position: Any, after: Sequence[Any]) -> Complex:
        data = tensors[0]
        mirrored = hermitian and length > 2
        place = tirx.Select(position < half, position, length - position) if mirrored else position
        end = min(half, given) if hermitian else given
        # the axis may be shorter than the transform, longer axes are cut off
        shorter = not isinstance(end, int) or end < (half if hermitian else length)

        def part(which: int) -> Any:
            inside = tirx.min(place, end - 1) if shorter else place
            value = data(*before, inside, *after, which).astype(wide)
            return tirx.if_then_else(place < end, value, tirx.const(0, wide)) if shorter else value

        real = part(0)
        if not complex_input:
            return real, None
        imaginary = part(1)
        return real, tirx.Select(position < half, imaginary, 0.0 - imaginary) if mirrored else imaginary

    return load


def _as_stated(context: NodeContext, value: Any) -> Any:
    """The result in the node's element type."""
    from plugin_autogen.lowering.te_helpers import cast

    return cast(context, value, context.dtype(0))


@converter("STFT", since=17)
def stft(context: NodeContext) -> Any:
    """Frames of the signal times the window, transformed: (batch, frames, bins, 2)."""
    signal = context.input(0)
    batch, samples, _ = shape_of(signal)
    step = int(context.constant(1).reshape(-1)[0])
    if context.has_input(3):
        length = int(context.constant(3).reshape(-1)[0])
    else:
        length = context.shape(2)[0] if context.has_input(2) else samples
    if not isinstance(length, int) or step < 1:
        context.unsupported("the length of a frame must be known, and frame_step positive")
    frames = (samples - length) // step + 1
    complex_input = context.shape(0)[-1] != 1
    wide = accumulator(context.dtype(0))

    def load(tensors: Sequence[Any], before: Sequence[Any], position: Any, after: Sequence[Any]) -> Complex:
        b, frame = before
        weight = tensors[1](position).astype(wide) if len(tensors) > 1 else None

        def part(which: int) -> Any:
            value = tensors[0](b, frame * step + position, which).astype(wide)
            return value if weight is None else value * weight

        return part(0), part(1) if complex_input else None

    tensors = [signal, context.input(2)] if context.has_input(2) else [signal]
    onesided = bool(context.attribute("onesided", 1))
    framed = _Signal(context, tensors, (batch, frames), (), _without_known(load), wide)
    return _as_stated(context, transform(framed, length, False, length // 2 + 1 if onesided else length, 2))

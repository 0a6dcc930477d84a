"""DFT and STFT against numpy and ONNX's reference."""

from __future__ import annotations

import numpy as np
import pytest

from plugin_autogen.lowering.operators.spectral import radices
from tests.operators.harness import check

RNG = np.random.default_rng(17)


def normal(*shape: int, dtype: str = "float32") -> np.ndarray:
    return RNG.standard_normal(shape).astype(dtype)


def complex_of(x: np.ndarray) -> np.ndarray:
    x = x.astype("float64")
    return x[..., 0] + (1j * x[..., 1] if x.shape[-1] == 2 else 0)


def parts_of(z: np.ndarray, dtype: str = "float32") -> np.ndarray:
    return np.stack([z.real, z.imag], axis=-1).astype(dtype)


def test_radices() -> None:
    assert radices(1) == [1]
    assert radices(4096) == [32, 32, 4]
    assert radices(2 * 251) == [251, 2]
    assert radices(257) is None
    for length in range(1, 600):
        found = radices(length)
        assert found is None or np.prod(found) == length


LENGTHS = [1, 2, 3, 7, 16, 30, 45, 100, 128, 251, 257, 1000, 2 * 509, 4096]


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("parts", [1, 2])
@pytest.mark.parametrize("inverse", [0, 1])
def test_lengths(length: int, parts: int, inverse: int) -> None:
    data = normal(2, length, parts)
    transformed = (np.fft.ifft if inverse else np.fft.fft)(complex_of(data), axis=1)
    kernels = 8 if radices(length) is None else len(radices(length) or [])
    check("DFT", [data], {"inverse": inverse}, opset=20, expected=[parts_of(transformed)], kernels=kernels)


@pytest.mark.parametrize("length", [2, 9, 10, 64, 262])
def test_real_transform_and_back(length: int) -> None:
    data = normal(3, length, 1)
    spectrum = parts_of(np.fft.rfft(data[..., 0], axis=1))
    check("DFT", [data], {"onesided": 1}, opset=20, expected=[spectrum])
    wanted = np.int64(length)
    attributes = {"onesided": 1, "inverse": 1}
    check("DFT", [spectrum, wanted], attributes, constants=(1,), opset=20, expected=[data])
    if length % 2 == 0:
        check("DFT", [spectrum], attributes, opset=20, expected=[data])


@pytest.mark.parametrize(("given", "length"), [(5, 12), (12, 5), (8, 8)])
@pytest.mark.parametrize("onesided", [0, 1])
@pytest.mark.parametrize("inverse", [0, 1])
def test_padded_and_cut(given: int, length: int, onesided: int, inverse: int) -> None:
    data = normal(2, given, 2 if inverse else 1)
    z = complex_of(data)
    if inverse and onesided:
        expected = np.fft.irfft(z, n=length, axis=1)[..., None].astype("float32")
    elif inverse:
        expected = parts_of(np.fft.ifft(z, n=length, axis=1))
    else:
        expected = parts_of(np.fft.fft(z, n=length, axis=1)[:, : length // 2 + 1 if onesided else length])
    attributes = {"onesided": onesided, "inverse": inverse}
    check("DFT", [data, np.int64(length)], attributes, constants=(1,), opset=20, expected=[expected])


@pytest.mark.parametrize("axis", [0, 1, 2, -2, -4])
def test_axes(axis: int) -> None:
    data = normal(6, 40, 5, 2)
    expected = [parts_of(np.fft.fft(complex_of(data), axis=axis % 4))]
    check("DFT", [data, None, np.int64(axis)], constants=(2,), opset=20, expected=expected)
    check("DFT", [data], {"axis": axis}, opset=17, expected=expected)


@pytest.mark.parametrize("dtype", ["float16", "float64"])
def test_element_types(dtype: str) -> None:
    data = normal(2, 48, 2, dtype=dtype)
    check("DFT", [data], opset=20, expected=[parts_of(np.fft.fft(complex_of(data), axis=1), dtype)])


@pytest.mark.parametrize("onesided", [0, 1])
@pytest.mark.parametrize("windowed", [True, False])
@pytest.mark.parametrize("length", [16, 25])
def test_stft(onesided: int, windowed: bool, length: int) -> None:
    data = normal(2, 128, 1)
    window = np.hanning(length).astype("float32") if windowed else None
    inputs = [data, np.int64(8), window, np.int64(length)]
    check("STFT", inputs, {"onesided": onesided}, constants=(1, 3), opset=17, kernels=2)

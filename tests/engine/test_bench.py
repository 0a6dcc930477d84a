"""What `bench` makes of the worker's samples."""

from __future__ import annotations

import random

import pytest

from plugin_autogen.cli_engine import print_bench
from plugin_autogen.engine.bench import BenchReport, LayerTime, measurement, percentile


@pytest.mark.parametrize(
    ("count", "expected"), [(1, 1), (2, 2), (99, 99), (100, 99), (101, 100), (200, 198), (1000, 990)]
)
def test_99_of_100_samples_are_within_the_percentile(count: int, expected: int) -> None:
    samples = [float(i) for i in range(1, count + 1)]
    random.Random(count).shuffle(samples)
    assert percentile(samples, 99) == expected
    assert sum(s <= expected for s in samples) / count >= 0.99
    assert percentile(samples, 100) == count


def test_a_measurement_of_samples() -> None:
    found = measurement(
        {
            "latencies": [10.0, 30.0, 20.0, 1000.0],
            "throughput": 5e4,
            "layers": [["reformat", 1.0, False], ["sample", 6.0, True], ["conv", 3.0, False]],
        }
    )
    assert (found.runs, found.median, found.p99, found.throughput) == (4, 25.0, 1000.0, 5e4)
    assert found.layers[1] == LayerTime("sample", 6.0, 0.6, True)
    assert found.plugin_share == 0.6
    assert measurement({"latencies": [1.0], "throughput": 1.0, "layers": []}).plugin_share == 0


def test_the_tables(capsys: pytest.CaptureFixture[str]) -> None:
    plugins = measurement(
        {
            "latencies": [20.0] * 9 + [40.0],
            "throughput": 4e4,
            "layers": [["small", 1.0, False], *([f"layer {i}", 2.0, False] for i in range(24)), ["[b]\n", 51.0, True]],
        }
    )
    native = measurement({"latencies": [50.0], "throughput": 2e4, "layers": []})
    print_bench(BenchReport("TensorRT 8.6.0", plugins, native, None))
    lines = [line.split() for line in capsys.readouterr().out.splitlines() if line.strip()]
    assert ["with", "plugins", "20.0", "40.0", "40000", "51", "%", "10"] in lines
    assert ["native", "50.0", "50.0", "20000", "-", "1"] in lines
    assert ["plugins", "2.50", "times", "as", "fast", "as", "native"] in lines
    assert ["[b]", "plugin", "51.0", "51.0", "%"] in lines
    assert not any(line[0] == "small" for line in lines), "the slowest are shown"
    print_bench(BenchReport("TensorRT 8.6.0", plugins, None, "refused\nnode"))
    out = capsys.readouterr().out
    assert "native     refused node\n" in out and "times as fast" not in out

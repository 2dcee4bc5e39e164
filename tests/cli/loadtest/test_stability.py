"""The statistics of a load test, on samples whose answer is known."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from airflow_parallel_provider.cli.loadtest.sampling import LoadTestSource, Sample, Sampler
from airflow_parallel_provider.cli.loadtest.stability import MOST_WINDOWS, memory, stability, theil_sen
from airflow_parallel_provider.engine.interfaces.source import as_source

MIB = 2**20


def samples(
    count: int = 101, *, rate: float = 1000, slow: float = 0.0, noise: float = 0.0, leak: float = 0.0
) -> list[Sample]:
    """One sample every 0.1 s; ``slow`` is lost of the rate by the end; ``leak`` bytes a second."""
    chance, passed, made = random.Random(1), 0.0, []
    for number in range(count):
        share = number / (count - 1)
        passed += 0.1 * rate * (1 - slow * share) * (1 + noise * chance.uniform(-1, 1))
        read = int(passed) + 500
        made.append(Sample(number * 0.1, read, int(passed), int(100 * MIB + leak * number * 0.1)))
    return made


def test_a_steady_rate() -> None:
    found = stability(samples())

    assert found is not None
    assert len(found.windows) == MOST_WINDOWS
    assert found.mean == pytest.approx(1000, rel=0.01)
    assert found.variation < 0.01
    assert abs(found.trend) < 0.01


def test_a_rate_that_halves() -> None:
    found = stability(samples(slow=0.5))

    assert found is not None
    assert found.trend == pytest.approx(-0.6, abs=0.08)  # 0.95 -> 0.5 of the rate, of the median 0.73


def test_noise_is_variation_but_no_trend() -> None:
    found = stability(samples(noise=0.9, count=401))

    assert found is not None
    assert found.variation > 0.1
    assert abs(found.trend) < 0.3


def test_one_standstill_is_no_trend() -> None:
    steady = samples()
    stalled = [
        Sample(
            each.seconds,
            each.read,
            each.passed if each.seconds < 8 else max(steady[79].passed, each.passed - 1000),
            each.memory,
        )
        for each in steady
    ]

    found = stability(stalled)

    assert found is not None
    assert min(found.windows) < 100
    assert abs(found.trend) < 0.1


def test_start_up_and_the_emptying_of_channels_are_left_out() -> None:
    waiting = [Sample(number * 0.1, 500, 0, 0) for number in range(20)]
    running = [Sample(each.seconds + 2, each.read, each.passed, each.memory) for each in samples()]
    last = running[-1]
    emptying = [Sample(last.seconds + number * 0.1, last.read, last.passed + number, 0) for number in range(1, 30)]

    found = stability([*waiting, *running, *emptying])

    assert found is not None
    assert found.variation < 0.02


@pytest.mark.parametrize("few", [[], samples(6), samples(rate=5), [Sample(at * 0.1, 500, 0, 0) for at in range(50)]])
def test_too_little_is_not_judged(few: list[Sample]) -> None:
    assert stability(few) is None


def test_bounded_memory() -> None:
    found = memory(samples())

    assert found is not None
    assert found.growth_bytes == 0
    assert found.median_bytes == found.peak_bytes == 100 * MIB


def test_a_leak() -> None:
    found = memory(samples(leak=MIB))

    assert found is not None
    assert found.bytes_per_second == pytest.approx(MIB, rel=0.01)
    assert found.bytes_per_thousand_items == pytest.approx(MIB, rel=0.02)
    assert found.growth_bytes == pytest.approx(7 * MIB, rel=0.05)


def test_memory_that_grows_only_at_the_start_is_bounded() -> None:
    grown = [
        Sample(each.seconds, each.read, each.passed, int(min(each.seconds, 2.0) * 100 * MIB)) for each in samples()
    ]

    found = memory(grown)

    assert found is not None
    assert found.growth_bytes == 0
    assert found.peak_bytes == 200 * MIB


@contextmanager
def holding(size: int) -> Iterator[None]:
    """Another program, started by this process, which uses that much memory."""
    code = f"kept = bytearray({size}); kept[::4096] = bytes([1]) * len(kept[::4096]); print(flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as program:
        assert program.stdin is not None
        assert program.stdout is not None
        program.stdout.readline()
        yield
        program.stdin.close()


def test_theil_sen() -> None:
    assert theil_sen([0, 1, 2, 3, 4], [1, 3, 5, 7, 1000]) == 2
    assert theil_sen([1, 1], [1, 2]) == 0
    assert theil_sen([], []) == 0


def test_a_sampler_keeps_no_more_than_it_may() -> None:
    sampler = Sampler(most=10)
    for number in range(1000):
        sampler.add({"seconds": float(number), "items_read": number, "stages": [], "final": number == 999})

    taken = [sample.seconds for sample in sampler.samples]
    assert len(taken) <= 11
    assert taken[0] == 0
    assert taken[-1] == 999
    assert taken == sorted(taken)
    assert all(sample.memory > MIB for sample in sampler.samples)


def test_only_processes_that_the_run_starts_are_counted() -> None:
    sampler_before = Sampler()
    with holding(100 * MIB):
        sampler_after = Sampler()
        for each in (sampler_before, sampler_after):
            each.add({"seconds": 0.0, "items_read": 0, "stages": [], "final": False})

    (counted,), (left_out,) = sampler_before.samples, sampler_after.samples
    assert counted.memory - left_out.memory >= 100 * MIB


def test_a_source_is_repeated() -> None:
    source = LoadTestSource(as_source([1, 2, 3]), items=7, seconds=None)

    assert list(source) == [1, 2, 3, 1, 2, 3, 1]
    assert (len(source), source.given, source.rounds, source.exhausted) == (7, 7, 2, False)


def test_a_source_that_can_be_read_once() -> None:
    source = LoadTestSource(as_source(iter([1, 2])), items=7, seconds=100)

    assert list(source) == [1, 2]
    assert source.exhausted
    with pytest.raises(TypeError, match="unknown before"):
        len(source)


def test_time_ends_a_source(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("airflow_parallel_provider.cli.loadtest.sampling.time.monotonic", lambda: now[0])
    source = iter(LoadTestSource(as_source([1, 2, 3]), items=None, seconds=5))

    first = [next(source) for _ in range(4)]
    now[0] = 105.0

    assert first == [1, 2, 3, 1]
    assert list(source) == []

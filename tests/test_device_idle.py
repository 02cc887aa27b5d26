"""The idle share of a device, with a fake clock and a fake profiler."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from vaebench import device_idle, records
from vaebench.config import parse_run
from vaebench.device_idle import Idle, IdleMeter, Interval, profiler_of, union_seconds
from vaebench.store import Store


class Device:
    """A device that executes what `run` says; the clock moves with it."""

    def __init__(self) -> None:
        self.now, self.kernels = 0.0, list[Interval]()
        self.started, self.stopped = 0, 0

    def run(self, wait: float, kernel: float) -> None:
        """Nothing for `wait` seconds, then a kernel of `kernel` seconds."""
        self.now += wait
        self.kernels.append((self.now, self.now + kernel))
        self.now += kernel

    def start(self) -> None:
        self.started += 1
        self.kernels.clear()

    def stop(self) -> list[Interval]:
        self.stopped += 1
        return list(self.kernels)


def measured(device: Device, cases: int) -> Idle | None:
    with IdleMeter(device, cases, clock=lambda: device.now) as meter:
        for k in range(cases):
            meter.next_case()
            device.run(5.0 if k == 0 else 1.0, 3.0)
    return meter.result


@pytest.mark.parametrize(
    ("cases", "expected"),
    [
        (1, Idle(0.625, 8.0, 1)),  # the only case, with its cold start
        (2, Idle(0.25, 4.0, 1)),
        (5, Idle(0.25, 16.0, 4)),
        (100, Idle(0.25, 32.0, 8)),
    ],
)
def test_the_first_case_and_all_after_the_ninth_are_left_out(cases: int, expected: Idle) -> None:
    device = Device()
    assert measured(device, cases) == expected
    assert (device.started, device.stopped) == (1, 1)


def test_kernels_that_run_at_the_same_time_count_once() -> None:
    assert union_seconds([(0, 2), (1, 3), (1.5, 1.75), (5, 6)]) == 4
    assert union_seconds([]) == 0


def test_a_long_measurement_ends_early(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device_idle, "MOST_SECONDS", 7.0)
    assert measured(Device(), 100) == Idle(0.25, 8.0, 2)


def test_a_profiler_that_records_nothing_gives_no_share() -> None:
    device = Device()
    device.stop = lambda: []  # type: ignore[method-assign]
    assert measured(device, 3) is None


def test_the_measurement_ends_when_a_case_fails() -> None:
    device = Device()

    def feed() -> None:
        with IdleMeter(device, 9, clock=lambda: device.now) as meter:
            for _ in range(3):
                meter.next_case()
                device.run(1.0, 1.0)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        feed()
    assert device.stopped == 1


def test_a_cpu_has_no_profiler() -> None:
    assert profiler_of(torch.device("cpu")) is None
    assert profiler_of(None) is None


def test_the_measurement_of_more_cases_stays_in_the_store(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    assert store.idle() == {}
    for cases, kept in ((3, 3), (1, 3), (8, 8)):
        store.put_idle({"share": 0.1 * cases, "seconds": 1.0, "cases": cases})
        assert store.idle()["cases"] == kept


@pytest.mark.parametrize("name", ["reconstruction", "latent"])
def test_a_record_has_the_idle_share_of_its_device(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from vaebench import runner

    monkeypatch.chdir(tmp_path)
    device = Device()
    monkeypatch.setattr(device_idle, "profiler_of", lambda _: device)
    words = ["vaes=[pool/4x8x8]", "num_frames=5", "size=32", "clips=3"]
    words += ["metrics=[psnr]"] if name == "reconstruction" else ["noise=[]", "masks=[]"]
    real = device.stop
    monkeypatch.setattr(device, "stop", lambda: [*real(), (0.0, 1e-9)])  # a kernel
    for _ in range(2):  # the second run measures nothing: the share comes from the store
        outcome = runner.run(parse_run(words, suite=name))
        (record,) = outcome.records
        idle = record.machine["device_idle"]
        assert idle["cases"] == 2
        assert 0.99 < idle["share"] <= 1.0
        assert records.read(records.file_of(Path("runs/results"), record)).machine["device_idle"] == idle
    assert device.started == 1


@pytest.mark.gpu
def test_the_share_of_a_gpu_that_waits() -> None:
    import time

    device = torch.device("cuda")
    waited = 0.0
    with IdleMeter(profiler_of(device), 6) as meter:
        for k in range(6):
            meter.next_case()
            torch.cuda._sleep(1 << 27)
            torch.cuda.synchronize()
            start = time.perf_counter()
            time.sleep(0.05)
            waited += (time.perf_counter() - start) * (k > 0)
    assert meter.result is not None
    assert meter.result.cases == 5
    expected = waited / meter.result.seconds
    assert expected - 0.02 < meter.result.share < expected + 0.2  # the rest is the cost of the calls

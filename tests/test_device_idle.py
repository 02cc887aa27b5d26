"""The idle share of a device, with a fake clock and a fake profiler."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from vaebench import device_idle, records, runner
from vaebench.config import parse_run
from vaebench.device_idle import Idle, IdleMeter, Interval, StepMeter, profiler_of, union_seconds
from vaebench.generation import tiers
from vaebench.generation.sampling import Sampling
from vaebench.store import IDLE, Store
from vaebench.suite import Case
from vaebench.suites import blockwise
from vaebench.suites.reconstruction import Reconstruction
from vaebench.vae import VideoVAE


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


def stepped(device: Device, steps: int) -> Idle | None:
    """As `measured`, for a suite that names its steps within one case."""
    with StepMeter(device, clock=lambda: device.now) as meter:
        meter.next_case()
        device.run(100.0, 1.0)
        assert list(meter.steps(work(device, steps), steps)) == list(range(steps))
    return meter.result


def work(device: Device, steps: int) -> Iterator[int]:
    for k in range(steps):
        device.run(5.0 if k == 0 else 1.0, 3.0)
        yield k


@pytest.mark.parametrize("measured", [measured, stepped])
@pytest.mark.parametrize(
    ("cases", "expected"),
    [
        (1, Idle(0.625, 8.0, 1)),  # the only case, with its cold start
        (2, Idle(0.25, 4.0, 1)),
        (5, Idle(0.25, 16.0, 4)),
        (100, Idle(0.25, 32.0, 8)),
    ],
)
def test_the_first_case_and_all_after_the_ninth_are_left_out(
    measured: Callable[[Device, int], Idle | None], cases: int, expected: Idle
) -> None:
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


CLIPS = ["num_frames=5", "size=32", "clips=3"]
SUITES = {  # suite -> its settings, and the cases or steps that the measurement covers
    "reconstruction": ([*CLIPS, "metrics=[psnr]"], 2),
    "latent": ([*CLIPS, "noise=[]", "masks=[]"], 2),
    "relay": ([*CLIPS, "protocols=loop", "window=5", "hops=1"], 2),
    "blockwise": ([*CLIPS, "metrics=[psnr]"], 1),  # one case once more
    "diffusability": (["tier=0", "size=32", "clips=3"], 2),  # windows, of which there are three
}


@pytest.fixture
def device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Device:
    """A device that executes one short kernel during each measurement."""
    monkeypatch.chdir(tmp_path)
    device = Device()
    real = device.stop
    monkeypatch.setattr(device_idle, "profiler_of", lambda _: device)
    monkeypatch.setattr(device, "stop", lambda: [*real(), (0.0, 1e-9)])
    return device


@pytest.mark.usefixtures("no_weights")
@pytest.mark.parametrize("name", SUITES)
def test_a_record_has_the_idle_share_of_its_device(name: str, device: Device) -> None:
    words, cases = SUITES[name]
    for _ in range(2):  # the second run measures nothing: the share comes from the store
        outcome = runner.run(parse_run(["vaes=[pool/4x8x8]", *words], suite=name))
        (record,) = outcome.records
        idle = record.machine["device_idle"]
        assert idle["cases"] == cases
        assert 0.99 < idle["share"] <= 1.0
        assert records.read(records.file_of(Path("runs/results"), record)).machine["device_idle"] == idle
    assert device.started == 1


@pytest.mark.usefixtures("no_weights")
def test_a_profiler_that_fails_costs_no_case_of_blockwise(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop() -> list[Interval]:
        raise RuntimeError("CUPTI is busy")

    monkeypatch.setattr(device, "stop", stop)
    outcome = runner.run(parse_run(["vaes=[pool/4x8x8]", *CLIPS, "metrics=[psnr]"], suite="blockwise"))
    assert not outcome.failed
    assert outcome.records[0].scores["psnr@whole"].n == 3
    assert "device_idle" not in outcome.records[0].machine or not outcome.records[0].machine["device_idle"]
    assert any("CUPTI is busy" in note for note in outcome.notes)


@pytest.mark.usefixtures("no_weights", "reset_accelerate")
def test_a_training_is_measured_over_some_of_its_steps(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    tier = tiers.TIERS["smoke"]
    train = replace(tier.train, steps=12, batch=2, checkpoint_every=12)
    sampling = Sampling("2", "ddim", 1.0)
    small = replace(tier, shape=(2, 32, 2), train=train, sampling=sampling, samples=1, windows=1, size=32)
    monkeypatch.setitem(tiers.TIERS, "smoke", small)
    outcome = runner.run(parse_run(["vaes=[pool/4x8x8]", "tier=smoke", "device=cpu"], suite="diffusability"))
    assert not outcome.failed
    assert outcome.records[0].machine["device_idle"]["cases"] == device_idle.CASES
    assert device.started == 1


def test_the_times_of_a_case_are_taken_without_the_profiler(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    running = list[bool]()  # whether the profiler ran, for each time that was taken
    real = blockwise.stopwatch

    def stopwatch(of: torch.device) -> object:
        running.append(device.started > device.stopped)
        return real(of)

    monkeypatch.setattr(blockwise, "stopwatch", stopwatch)
    words = ["vaes=[pool/4x8x8]", *CLIPS, "metrics=[psnr]", "independent=[4]"]
    runner.run(parse_run(words, suite="blockwise"))
    assert running == [False, False, True, True, False, False, False, False]


def test_what_was_measured_before_an_interruption_is_stored(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    real, calls = Reconstruction.measure, list[str]()

    def measure(self: Reconstruction, vae: VideoVAE, case: Case) -> dict[str, Any]:
        calls.append(case.id)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(self, vae, case)

    monkeypatch.setattr(Reconstruction, "measure", measure)
    words = ["vaes=[pool/4x8x8]", *SUITES["reconstruction"][0]]
    with pytest.raises(KeyboardInterrupt):
        runner.run(parse_run(words))
    (stored,) = Path("runs").glob(f"*/{IDLE}")
    assert '"cases": 2' in stored.read_text()


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

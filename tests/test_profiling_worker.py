"""The worker of the efficiency suite measures right: a sleep of known length, an allocation of known size, known operations."""

import time
from collections.abc import Callable
from dataclasses import replace
from itertools import chain, repeat

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

import adapters
from tests import wfvae_reference
from tests.profiled import CPU, UNUSED, job, suite
from vaebench.profiling import worker
from vaebench.suites import efficiency
from vaebench.timing import peak_memory
from vaebench.vae import Posterior, VAESpec, networks
from wfvae import WFVAE

pytestmark = pytest.mark.usefixtures("elsewhere")


class Clock:
    """A clock that only the work moves on: what a busy machine does cannot be seen on it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        monkeypatch.setattr(time, "perf_counter", lambda: self.now)

    def work(self, *seconds: float) -> Callable[[], None]:
        """A call that takes each of these times in turn, and then the last of them for ever."""
        times = chain(seconds, repeat(seconds[-1]))

        def call() -> None:
            self.now += next(times)

        return call


def test_a_planted_sleep_is_measured_right():
    inside: list[float] = []

    def sleep() -> None:
        start = time.perf_counter()
        time.sleep(0.02)
        inside.append(time.perf_counter() - start)

    times = np.array(worker.repeat(sleep, CPU, error=0.05, max_seconds=5))
    around = times - np.array(inside)  # what the clock adds to the work; a sleep may itself be late on a busy machine
    assert len(inside) == len(times)
    assert times.min() >= 0.02
    assert around.min() >= 0
    assert around.min() < 0.001


def test_repeats_end_when_the_mean_is_known_well_enough_or_time_is_up(monkeypatch: pytest.MonkeyPatch):
    clock = Clock(monkeypatch)
    assert worker.repeat(clock.work(0.5), CPU, error=0.5, max_seconds=60) == [0.5] * worker.FEWEST
    assert len(worker.repeat(clock.work(0.5), CPU, error=0.5, max_seconds=0.01)) == worker.FEWEST_LATE
    restless = worker.repeat(clock.work(*[0.0, 0.5] * 50), CPU, error=1e-6, max_seconds=10)
    assert sum(restless) == 10.5  # the call that passes the limit is the last one
    assert len(worker.repeat(clock.work(*[0.0, 0.5] * 500), CPU, error=1e-6, max_seconds=1e6)) == worker.MOST


def test_warming_up_ends_when_the_time_has_settled(monkeypatch: pytest.MonkeyPatch):
    clock = Clock(monkeypatch)
    cold, calls = worker.warm_up(clock.work(0.75, 0.5, 0.25), CPU, max_seconds=10)
    assert (cold, calls) == (0.75, 4)
    assert worker.warm_up(clock.work(*[0.25, 0.5] * 9), CPU, max_seconds=10)[1] == worker.MOST_WARM_CALLS
    assert worker.warm_up(clock.work(0.75), CPU, max_seconds=0.5) == (0.75, 1)


class Toy:
    """Encode and decode take the times they are given."""

    spec = VAESpec("toy", "a", 1, 1, 3, causal=True)

    def __init__(self, encode: Callable[[], None] = lambda: None, decode: Callable[[], None] = lambda: None) -> None:
        self.work = {"encode": encode, "decode": decode}

    def encode(self, video: torch.Tensor) -> Posterior:
        self.work["encode"]()
        return Posterior(video)

    def decode(self, latent: torch.Tensor) -> torch.Tensor:
        self.work["decode"]()
        return latent


def test_the_cold_call_is_the_first_one_of_each_half(monkeypatch: pytest.MonkeyPatch):
    clock = Clock(monkeypatch)
    vae = Toy(clock.work(8.0, 0.5), clock.work(4.0, 0.25))
    monkeypatch.setattr(worker, "prepare", lambda job, candidate: (vae, torch.rand(1, 3, 5, 16, 16), CPU))
    monkeypatch.setattr(worker, "ceilings", lambda device, dtype: {})
    found = worker.measure_time(job(), UNUSED)
    assert (found["encode_cold_s"], found["decode_cold_s"]) == (8.0, 4.0)
    assert (set(found["encode_s"]), set(found["decode_s"])) == ({0.5}, {0.25})


@pytest.mark.parametrize("compiled", [False, True])
def test_time_and_memory_are_both_those_of_the_compiled_network(compiled: bool, monkeypatch: pytest.MonkeyPatch):
    calls: list[str] = []

    def compile(function: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[torch.Tensor], torch.Tensor]:
        def call(x: torch.Tensor) -> torch.Tensor:
            calls.append("compiled")
            return function(x)

        return call

    monkeypatch.setattr(torch, "compile", compile)
    monkeypatch.setattr(worker, "prepare", lambda job, candidate: (Toy(), torch.rand(1, 3, 5, 16, 16), CPU))
    monkeypatch.setattr(worker, "ceilings", lambda device, dtype: {})
    for measure in (worker.measure_time, worker.measure_memory):
        calls.clear()
        measure(job(compile=compiled), UNUSED)
        assert bool(calls) == compiled


def test_two_runs_of_one_model_agree_within_the_stated_error(monkeypatch: pytest.MonkeyPatch):
    """Times that scatter by a tenth: 95 % of the means that end a series are within the error that it states."""
    clock, error = Clock(monkeypatch), 0.02
    draw = np.random.default_rng(0)
    means = np.array(
        [np.mean(worker.repeat(clock.work(*draw.gamma(100, 0.01, 300)), CPU, error, 1e6)) for _ in range(200)]
    )
    # stopping at the first interval that is narrow enough costs a little of the 95 %
    assert 0.9 <= np.mean(np.abs(means - 1) <= error) < 1
    pairs = np.abs(means[::2] - means[1::2])
    assert np.mean(pairs <= 2**0.5 * error) >= 0.9


def test_a_known_allocation_is_measured_right():
    size = 200 * 2**20
    with peak_memory(CPU) as peak:
        block = torch.ones(size // 4)
        del block
    assert peak.above_bytes == pytest.approx(size, rel=0.05)
    with peak_memory(CPU) as after:
        torch.ones(1000)
    assert after.above_bytes < 0.1 * size  # an earlier high-water mark is not counted again


def test_the_floating_point_operations_are_those_of_the_convolutions(monkeypatch: pytest.MonkeyPatch):
    """A 1x1 convolution 3 -> 8 over T x H x W positions is 2 * 3 * 8 operations at each."""
    conv = torch.nn.Conv3d(3, 8, 1, bias=False)
    back = torch.nn.Conv3d(8, 3, 1, bias=False)

    class OneByOne:
        spec = VAESpec("toy", "a", 1, 1, 8, causal=True)
        network = torch.nn.ModuleList([conv, back])

        def __init__(self) -> None:
            self.net = self.network

        def encode(self, video):
            return Posterior(conv(video))

        def decode(self, latent):
            return back(latent)

    monkeypatch.setattr(worker, "prepare", lambda job, candidate: (OneByOne(), torch.rand(1, 3, 5, 16, 16), CPU))
    with torch.inference_mode():
        found = worker.measure_memory(job(), UNUSED)
    assert found["encode_flop"] == found["decode_flop"] == 2 * 3 * 8 * 5 * 16 * 16
    assert found["parameters"] == 48


def test_the_flops_of_wfvae_are_those_of_plain_convolutions_and_not_of_a_faster_algorithm():
    """The reference implementation runs one plain convolution for each layer; Winograd's algorithm would count 0.7 of it."""
    candidate = adapters.resolve("wfvae/tiny-random")
    asked = replace(job(), name=candidate.name, num_frames=9, size=32)
    with torch.inference_mode():
        found = worker.measure_memory(asked, candidate)
        vae, video, _ = worker.prepare(asked, candidate)
        (model,) = networks(vae)
        assert isinstance(model, WFVAE)
        with FlopCounterMode(display=False) as encoding:
            moments, _, _ = wfvae_reference.encode(model, video)
        with FlopCounterMode(display=False) as decoding:
            wfvae_reference.decode(model, moments.chunk(2, dim=1)[0])
    assert found["flop_device"] == "meta"
    # ours transforms wavelets without convolutions, at a percent of the cost
    assert found["encode_flop"] == pytest.approx(encoding.get_total_flops(), rel=0.02)
    assert found["decode_flop"] == pytest.approx(decoding.get_total_flops(), rel=0.02)


def test_the_flops_of_a_vae_that_reads_values_are_counted_on_the_device_and_say_so(monkeypatch: pytest.MonkeyPatch):
    candidate = adapters.resolve("dct/8")
    vae = candidate.load("whole")
    encode = type(vae).encode

    def reads_values(self, video):
        assert video.sum().item() != 0
        return encode(self, video)

    monkeypatch.setattr(type(vae), "encode", reads_values)
    asked = replace(job(), name="dct/8", num_frames=4, size=16)
    with torch.inference_mode():
        found = worker.measure_memory(asked, candidate)
    assert (found["flop_device"], found["encode_flop"] > 0) == ("cpu", True)
    times = {"encode_s": np.array([0.1]), "decode_s": np.array([0.1]), "matmul_flop_per_s": np.array(1e9)}
    params = {"asked_dtype": np.str_("float32"), "asked_frames": np.array(4), "asked_size": np.array(16)}
    case = {name: np.asarray(value) for name, value in {**params, **found, **times, "frames": 4, "size": 16}.items()}
    scores = suite().summarize({"": case})
    assert "counted on cpu" in scores["encode_flop@float32 4x16"].note


def test_energy_is_absent_with_a_reason_where_the_package_is_missing(monkeypatch: pytest.MonkeyPatch):
    import sys

    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert "nvidia-ml-py" in worker.no_energy(torch.device("cuda"))
    assert "NVIDIA" in worker.no_energy(CPU)


class Convolved:
    """A VAE that is a network itself, as a user's may be: weights of 2, 3, 4 and 5 dimensions."""

    spec = VAESpec("toy", "a", 1, 1, 3, causal=True)

    class Network(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = torch.nn.ModuleList([
                torch.nn.Conv3d(3, 4, 3), torch.nn.Conv2d(3, 4, 3), torch.nn.Conv1d(3, 4, 3), torch.nn.Linear(3, 4)
            ])  # fmt: skip


def strides(network: torch.nn.Module) -> list[tuple[int, ...]]:
    return [parameter.stride() for parameter in network.parameters() if parameter.dim() > 1]


@pytest.mark.parametrize("is_module", [False, True])
def test_channels_last_puts_the_channels_of_every_convolution_last_and_changes_no_value(is_module: bool):
    network = Convolved.Network()
    vae = network if is_module else Convolved()
    if not is_module:
        vae.network = network
    before = [parameter.clone() for parameter in network.parameters()]
    # (4, 3, 3, 3, 3), (4, 3, 3, 3), (4, 3, 3), (4, 3): a step along the channels is as long as all that follows them
    assert strides(network) == [(81, 27, 9, 3, 1), (27, 9, 3, 1), (9, 3, 1), (3, 1)]
    worker.to_channels_last(vae)
    assert strides(network) == [(81, 1, 27, 9, 3), (27, 1, 9, 3), (9, 3, 1), (3, 1)]
    assert all(torch.equal(a, b) for a, b in zip(before, network.parameters(), strict=True))


def test_the_flag_puts_the_weights_of_a_loaded_vae_in_channels_last_and_its_results_stay():
    asked = [replace(job(channels_last=flag), name="cogvideox/tiny", num_frames=9) for flag in (False, True)]
    plain, last = (worker.prepare(each, adapters.resolve(each.name)) for each in asked)

    def channels_first(vae: object) -> int:
        own = [p for network in worker.networks(vae) for p in network.parameters() if p.dim() == 5]
        return sum(not p.is_contiguous(memory_format=torch.channels_last_3d) for p in own)

    assert channels_first(plain[0]) > 0
    assert channels_first(last[0]) == 0
    with torch.inference_mode():
        assert torch.allclose(plain[0].encode(plain[1]).mean, last[0].encode(last[1]).mean, atol=1e-5)


def test_the_peak_of_a_half_is_what_it_takes_above_the_weights(monkeypatch: pytest.MonkeyPatch):
    mib = 2**20

    class Heavy:
        """64 MiB of weights; encode takes 32 MiB and decode 16 MiB more while they run."""

        spec = VAESpec("toy", "a", 1, 1, 3, causal=True)

        def __init__(self) -> None:
            self.network = torch.nn.Linear(1, 16 * mib, bias=False)

        def encode(self, video: torch.Tensor) -> Posterior:
            torch.ones(8 * mib)
            return Posterior(video)

        def decode(self, latent: torch.Tensor) -> torch.Tensor:
            torch.ones(4 * mib)
            return latent

    monkeypatch.setattr(worker, "prepare", lambda job, candidate: (Heavy(), torch.rand(1, 3, 5, 16, 16), CPU))
    with torch.inference_mode():
        memory = worker.measure_memory(job(), UNUSED)
    times = {"encode_s": np.array([0.1]), "decode_s": np.array([0.1]), "matmul_flop_per_s": np.array(1e9)}
    shape = {"frames": 5, "size": 16, "asked_frames": 5, "asked_size": 16}
    stored = {**{name: np.asarray(value) for name, value in {**memory, **shape}.items()}, **times}
    scores = {score.metric: score for score in efficiency._scores(stored)}
    assert scores["encode_peak_bytes"].value == pytest.approx(32 * mib, rel=0.05)
    assert scores["decode_peak_bytes"].value == pytest.approx(16 * mib, rel=0.05)
    for half in ("encode", "decode"):
        assert scores[f"{half}_total_bytes"].value > 64 * mib + scores[f"{half}_peak_bytes"].value


@pytest.mark.gpu
def test_memory_of_a_known_allocation_on_a_gpu():
    with peak_memory(torch.device("cuda")) as peak:
        block = torch.ones(50 * 2**20, device="cuda")
        del block
    assert peak.above_bytes == pytest.approx(200 * 2**20, rel=0.02)


def test_the_video_of_a_job_has_both_sides():
    _, video, _ = worker.prepare(replace(job(), name="pool/4x8x8", num_frames=4, size="16x24"), UNUSED)
    assert video.shape == (1, 3, 4, 16, 24)

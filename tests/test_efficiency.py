"""Time and memory are measured right: a sleep of known length, an allocation of known size, a crash that stays outside."""

import time
from collections.abc import Callable
from dataclasses import replace
from itertools import chain, repeat
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

import adapters
from tests import wfvae_reference
from vaebench import cli, records
from vaebench.config import parse_run
from vaebench.profiling import worker
from vaebench.suite import Case
from vaebench.suites import efficiency
from vaebench.timing import peak_memory
from vaebench.vae import Posterior, VAESpec, networks
from wfvae import WFVAE

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def suite(*words: str) -> efficiency.Efficiency:
    return efficiency.build(parse_run(["device=cpu", "max_seconds=0.3", *words], suite="efficiency"))


def record(name: str) -> records.Record:
    (file,) = Path("runs/results/efficiency").rglob(f"{name}.json")
    return records.read(file)


def job(**flags: bool) -> worker.Job:
    some = dict.fromkeys(("tf32", "cudnn_benchmark", "compile", "channels_last"), False)
    return worker.Job(
        name="toy/a", device="cpu", dtype="float32", mode="whole", num_frames=5, size=16, error=0.5, max_seconds=60.0,
        memory_gib=0.0, threads=1, **{**some, **flags},
    )  # fmt: skip


UNUSED = adapters.resolve("pool/4x8x8")  # where `prepare` is replaced


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


def test_each_case_is_measured_and_recorded_with_units(capsys: pytest.CaptureFixture[str]):
    words = ["vaes=[cogvideox/tiny]", "frames=[9]", "sizes=[32]", "max_seconds=0.2", "device=cpu"]
    assert cli.main(["run", "--suite", "efficiency", *words]) == 0
    found = record("cogvideox-tiny")
    assert found.vae["weights"] == "random"
    scores = found.scores
    case = "float32 9x32"
    assert scores[f"encode_s@{case}"].unit == "s"
    assert scores[f"encode_s@{case}"].n >= worker.FEWEST_LATE
    assert scores[f"encode_s@{case}"].note == ""
    assert scores[f"encode_clips_per_s@{case}"].value == pytest.approx(1 / scores[f"encode_s@{case}"].value)
    assert all("NVML" in found.absent[f"{half}_joules"] for half in ("encode", "decode"))
    assert scores[f"decode_peak_bytes@{case}"].value > 9 * 32 * 32 * 3 * 4  # at least the video it returns
    assert scores[f"encode_frames_per_s@{case}"].value == pytest.approx(9 / scores[f"encode_s@{case}"].value)
    assert scores[f"encode_flop@{case}"].value > 1e6
    assert found.extra[case]["matmul_flop_per_s"] > 1e8
    table = capsys.readouterr().out
    assert "cogvideox/tiny · float32 9x32" in table
    assert "MiB" in table
    assert "untrained" not in table


def test_out_of_memory_is_a_result_with_its_size(capsys: pytest.CaptureFixture[str]):
    words = [
        "vaes=[cogvideox/tiny]",
        "frames=[33]",
        "sizes=[512]",
        "memory_gib=1.5",
        "device=cpu",
        "max_seconds=0.1",
    ]
    assert cli.main(["run", "--suite", "efficiency", *words]) == 0
    score = record("cogvideox-tiny").scores["encode_s@float32 33x512"]
    assert (score.value, score.status) == (None, "out of memory")
    assert "(33x512x512 float32)" in score.note
    assert "OOM" in capsys.readouterr().out


def test_a_worker_that_dies_is_a_failure_and_the_next_model_runs(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    real = efficiency.Efficiency._spawn
    halves = {f"{half}_{what}": 1.0 for half in ("encode", "decode") for what in ("above_bytes", "total_bytes", "flop")}
    times = {"encode_s": [0.1, 0.1, 0.1], "decode_s": [0.2, 0.2, 0.2], "matmul_flop_per_s": 1e9}

    def spawn(self, job, what):
        if job.name == "cogvideox/tiny":
            return real(self, replace(job, name="cogvideox/nothing"), what)
        return halves if what == "memory" else times

    monkeypatch.setattr(efficiency.Efficiency, "_spawn", spawn)
    words = ["vaes=[cogvideox/tiny,pool/4x8x8]", "frames=[4]", "sizes=[16]", "device=cpu"]
    assert cli.main(["run", "--suite", "efficiency", *words]) == 1
    assert "no variant 'nothing'" in capsys.readouterr().err
    assert record("pool-4x8x8").scores["decode_frames_per_s@float32 4x16"].value == pytest.approx(20)


def test_a_case_is_named_as_asked_and_runs_the_next_legal_shape(monkeypatch: pytest.MonkeyPatch):
    made = suite("frames=[33]", "sizes=[60]")
    vae = made.open(adapters.resolve("cogvideox/2b"))
    (case,) = made.cases(None, vae.spec)
    assert case.id == "float32 33x60"  # one name for all families, so that one chart holds them
    jobs: list[worker.Job] = []
    halves = {f"{h}_{what}": 1.0 for h in ("encode", "decode") for what in ("above_bytes", "total_bytes", "flop")}

    def spawn(self, job, what):
        jobs.append(job)
        return halves if what == "memory" else {"encode_s": [2.0], "decode_s": [4.0], "matmul_flop_per_s": 1e9}

    monkeypatch.setattr(efficiency.Efficiency, "_spawn", spawn)
    monkeypatch.setattr(type(vae.spec.frames), "fit", lambda self, frames: frames + 3)
    kept = made.measure(vae, case)
    assert {(job.num_frames, job.size) for job in jobs} == {(36, 64)}
    scores = made.summarize({case.id: kept})
    assert scores["encode_frames_per_s@float32 33x60"].value == 18
    assert scores["encode_clips_per_s@float32 33x60"].value == 0.5
    assert scores["decode_s@float32 33x60"].note == "33x60 is run as 36x64, the next valid shape"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("size=64", r"size=64 would change nothing: .*; choose shapes with frames=\[\.\.\.\]"),
        ("num_frames=9", "num_frames=9 would change nothing"),
        ("data=synthetic", "data=synthetic would change nothing"),
        ("posterior=sample", "posterior=sample would change nothing"),
        ("clips=1", "clips=1 would change nothing"),
        ("seed=1", "seed=1 would change nothing"),
        ("dtype=bfloat16 dtypes=[float32]", "dtype=bfloat16 would change nothing"),
        ("frames=[0]", r"frames=\[0\] should be 1 or more"),
        ("sizes=[-64]", "sizes='-64' should be a side such as 256"),
    ],
)
def test_settings_that_would_change_nothing_are_refused(words: str, said: str):
    with pytest.raises(ValueError, match=said):
        suite(*words.split())


def test_the_interval_of_the_median_covers_at_least_95_percent_and_no_more_than_it_must():
    from scipy.stats import binom

    assert efficiency._median_interval(np.arange(5)) == (None, None)
    for n in range(6, 201):
        low, high = efficiency._median_interval(np.arange(n))
        assert low + high == n - 1
        assert 2 * binom.cdf(low, n, 0.5) <= 0.05 < 2 * binom.cdf(low + 1, n, 0.5)


def test_energy_is_absent_with_a_reason_where_the_package_is_missing(monkeypatch: pytest.MonkeyPatch):
    import sys

    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert "nvidia-ml-py" in worker.no_energy(torch.device("cuda"))
    assert "NVIDIA" in worker.no_energy(CPU)


def test_the_search_finds_the_largest_legal_length_that_fits(monkeypatch: pytest.MonkeyPatch):
    made = suite("largest=true", "frames=[5]", "sizes=[64]")
    vae = made.open(adapters.resolve("cogvideox/2b"))
    asked: list[int] = []

    def spawn(self, job, what):
        asked.append(job.num_frames)
        return {"out_of_memory": ""} if job.num_frames > 100 else {}

    monkeypatch.setattr(efficiency.Efficiency, "_spawn", spawn)
    found = made.measure(vae, Case("float32 largest 64", params={"dtype": "float32", "size": 64}))
    assert found["largest"] == 97  # 8k+1
    assert made.summarize({"float32 largest 64": found})["largest_frames@float32 64 px"].note == ""
    assert all(vae.spec.frames.allows(frames) for frames in asked)
    assert len(asked) < 15


def test_only_a_search_that_met_its_limit_says_so(monkeypatch: pytest.MonkeyPatch):
    made = suite("largest=true", "frames=[5]", "sizes=[64]")
    vae = made.open(adapters.resolve("cogvideox/2b"))

    def largest(memory: int) -> records.Score:
        fits = lambda self, job, what: {"out_of_memory": ""} if job.num_frames > memory else {}  # noqa: E731
        monkeypatch.setattr(efficiency.Efficiency, "_spawn", fits)
        kept = made.measure(vae, Case("float32 largest 64", params={"dtype": "float32", "size": 64}))
        return made.summarize({"float32 largest 64": kept})["largest_frames@float32 64 px"]

    assert (largest(900).value, largest(900).note) == (897, "")
    assert largest(10**6).value == 1017  # the last of 8k+1 below 1024
    assert "the limit of 1024 frames" in largest(10**6).note


def test_variants_that_differ_in_weights_alone_run_once():
    names = suite().default_vaes(["pool/4x8x8", "cogvideox/2b", "cogvideox/5b", "dct/4", "dct/16"])
    assert names == ["pool/4x8x8", "cogvideox/2b", "dct/4", "dct/16"]


def test_the_setting_names_device_threads_and_every_flag():
    from vaebench.data import synthetic

    source = synthetic.build(parse_run([]))
    plain = suite().setting(source)
    assert f"{torch.get_num_threads()}threads" in plain
    assert (
        suite("channels_last=true", "mode=native", "memory_gib=8").setting(source)
        == f"{plain}-native-8gib-channels_last"
    )


@pytest.mark.parametrize(
    ("words", "flags"),
    [([], ["tf32", "cudnn_benchmark"]), (["tf32=false"], ["cudnn_benchmark"]), (["cudnn_benchmark=false"], ["tf32"])],
)
def test_on_a_gpu_the_fast_flags_are_on_and_named(words: list[str], flags: list[str], monkeypatch: pytest.MonkeyPatch):
    from vaebench import machine
    from vaebench.data import synthetic

    for module in (machine, efficiency):
        monkeypatch.setattr(module, "pick_device", lambda name: torch.device("cuda"))
    monkeypatch.setattr(efficiency, "device_name", lambda device: "NVIDIA H200")
    monkeypatch.setattr(efficiency, "no_energy", lambda device: "")
    made = efficiency.build(parse_run(words, suite="efficiency"))
    assert made.setting(synthetic.build(parse_run([]))) == "-".join(["nvidia-h200", *flags])
    job = made._job(UNUSED, "float32", 3, 16)
    assert [name for name in ("tf32", "cudnn_benchmark") if getattr(job, name)] == flags
    assert [name for name in ("tf32", "cudnn_benchmark") if made.identity[name]] == flags


def test_the_idle_share_of_a_call_compares_its_kernels_with_its_time():
    class Recorded:
        def start(self) -> None: ...

        def stop(self) -> list[tuple[float, float]]:
            return [(0.0, 0.25), (0.125, 0.375)]

    calls: list[int] = []
    assert worker.idle_share(lambda: calls.append(1), Recorded(), 0.5) == 0.25
    assert worker.idle_share(lambda: calls.append(1), Recorded(), 0.25) == 0.0
    assert calls == [1, 1]
    assert worker.idle_share(lambda: calls.append(1), None, 0.5) is None
    assert calls == [1, 1]


@pytest.mark.gpu
def test_a_row_from_a_gpu_states_its_flags_and_its_idle_share():
    words = ["vaes=[wfvae/tiny]", "frames=[5]", "sizes=[64]", "max_seconds=0.5", "device=cuda"]
    assert cli.main(["run", "--suite", "efficiency", *words]) == 0
    found = record("wfvae-tiny")
    assert found.machine["flags"]["tf32"]
    assert found.machine["flags"]["cudnn_benchmark"]
    for half in ("encode", "decode"):
        assert 0 <= found.extra["float32 5x64"][f"{half}_idle_share"] < 1


def test_the_cases_are_the_grid_that_was_asked_for():
    made = suite("frames=[5,17]", "sizes=[64]", "dtypes=[float32,bfloat16]")
    spec = made.open(adapters.resolve("cogvideox/2b")).spec
    ids = [case.id for case in made.cases(None, spec)]
    assert ids == ["float32 5x64", "float32 17x64", "bfloat16 5x64", "bfloat16 17x64"]


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


def test_a_shape_of_two_sides_is_run_as_the_next_valid_one(capsys: pytest.CaptureFixture[str]):
    made = suite("frames=[3]", "sizes=[10x20,16]")
    assert [case.id for case in made.cases([], UNUSED.spec)] == ["float32 3x10x20", "float32 3x16"]
    assert made._job(UNUSED, "float32", 3, "10x20").size == "16x24"
    assert made._job(UNUSED, "float32", 3, "10x15").size == 16
    words = ["vaes=[pool/4x8x8]", "frames=[3]", "sizes=[10x20]", "max_seconds=0.2", "device=cpu"]
    assert cli.main(["run", "--suite", "efficiency", *words]) == 0
    scores = record("pool-4x8x8").scores
    assert scores["encode_s@float32 3x10x20"].note == "3x10x20 is run as 4x16x24, the next valid shape"
    out = capsys.readouterr().out
    assert "pool/4x8x8 · float32 3x10x20" in out
    assert cli.main(["plot", "--only", "cost_bars"]) == 0


def test_the_video_of_a_job_has_both_sides():
    _, video, _ = worker.prepare(replace(job(), name="pool/4x8x8", num_frames=4, size="16x24"), UNUSED)
    assert video.shape == (1, 3, 4, 16, 24)

"""The efficiency suite: its cases, settings and scores, and a crash that stays outside."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import adapters
from tests.profiled import UNUSED, suite
from tests.records import record as toy_record
from vaebench import cli, records
from vaebench.config import parse_run
from vaebench.profiling import grid, worker
from vaebench.suite import Case
from vaebench.suites import efficiency

pytestmark = pytest.mark.usefixtures("elsewhere")


def record(name: str) -> records.Record:
    (file,) = Path("runs/results/efficiency").rglob(f"{name}.json")
    return records.read(file)


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
    assert "cogvideox/tiny · native · float32 9x32" in table
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


def test_a_run_with_fewer_cases_never_replaces_a_record(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    halves = {f"{half}_{what}": 1.0 for half in ("encode", "decode") for what in ("above_bytes", "total_bytes", "flop")}
    times = {"encode_s": [0.1], "decode_s": [0.2], "matmul_flop_per_s": 1e9}

    def spawn(self, job, what):
        if what == "memory":
            return {"out_of_memory": "planted"} if job.num_frames == 8 else halves
        return times

    def run(*words: str) -> int:
        return cli.main(["run", "--suite", "efficiency", "device=cpu", *words])

    monkeypatch.setattr(efficiency.Efficiency, "_spawn", spawn)
    assert run("vaes=pool/4x8x8", "frames=4,8", "sizes=16x24,32") == 0
    (file,) = Path("runs/results").rglob("pool-4x8x8.json")
    before = file.read_bytes()
    capsys.readouterr()
    assert run("vaes=pool/4x8x8,dct/4", "frames=4,12", "sizes=32") == 1
    assert (
        f"failed: pool/4x8x8: {file} has cases that this run would delete: float32 4x16x24, float32 8x16x24, float32 8x32; "
        "set frames=4,8,12 sizes=16x24,32 dtypes=float32, or write to another folder with results=DIR\n"
    ) in capsys.readouterr().err
    assert file.read_bytes() == before
    assert "encode_s@float32 12x32" in record("dct-4").scores  # the other VAE is measured
    assert run("vaes=pool/4x8x8", "frames=4", "sizes=32", "results=other") == 0
    # the same cases and more of them replace the record
    assert run("vaes=pool/4x8x8", "frames=4,8", "sizes=16x24,32") == 0
    assert run("vaes=pool/4x8x8", "frames=4,8,12", "sizes=16x24,32", "dtypes=float32") == 0
    assert "encode_s@float32 12x16x24" in record("pool-4x8x8").scores


def test_the_search_for_the_longest_video_is_a_case_of_a_record():
    condition = {"dtype": "float32", "size": 64}
    longest = records.Score(97.0, "frames", "higher", 1, metric="largest_frames", condition=condition)
    found = toy_record("efficiency", "toy-device", "toy/a", records.by_key([longest]))
    shape = {"dtype": "float32", "frames": 5, "size": 64}
    assert grid.replacement_refusal(found, [condition, shape]) == ""
    refusal = grid.replacement_refusal(found, [shape])
    assert "would delete: float32 largest 64; set frames=5 sizes=64 dtypes=float32 largest=true, or" in refusal


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


@pytest.mark.usefixtures("measured_here")
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

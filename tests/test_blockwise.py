"""The suite that says what block-wise inference costs: nothing where it claims so, and where the seams are elsewhere."""

import csv
import re
import resource
from pathlib import Path

import numpy as np
import pytest
import torch

import adapters
from vaebench import cli, plugins, records, tables
from vaebench.config import parse_run
from vaebench.evaluation import evaluate
from vaebench.inference.differences import differences
from vaebench.inference.modes import share_weights
from vaebench.metrics.fvd import FVD
from vaebench.scoring import change
from vaebench.suites import blockwise
from vaebench.vae import FrameRule, Posterior, VAESpec, networks

SMALL = ["num_frames=13", "size=32", "metrics=[psnr]", "data=synthetic", "clips=2"]
pytestmark = pytest.mark.usefixtures("elsewhere")


def run(*words: str) -> int:
    return cli.main(["run", "--suite", "blockwise", *SMALL, *words])


def record(name: str) -> records.Record:
    (file,) = Path("runs/results/blockwise").rglob(f"{name}.json")
    return records.read(file)


BLURRED = '''
"""A VAE whose frames mix with their two predecessors; `streamed` starts afresh every RESTART frames, if at all."""

import torch

from vaebench.vae import FrameRule, Posterior, VAESpec

RESTART = {restart}
SPEC = VAESpec(
    "blurred", "a", 1, 1, 3, causal=True, frames=FrameRule(), modes=("whole", "streamed"), lossless_modes=("streamed",)
)
VARIANTS = {{"a": SPEC}}


class Blurred:
    def __init__(self, mode):
        self.spec, self.mode = SPEC, mode

    def encode(self, video):
        chunks = video.split(RESTART if RESTART and self.mode == "streamed" else video.shape[2], dim=2)
        return Posterior(torch.cat([blur(chunk) for chunk in chunks], dim=2) - self.shift)

    def decode(self, latent):
        return latent + self.shift

    @property
    def shift(self):
        return {shift} if self.mode == "streamed" else 0.0


def blur(video):
    before = torch.cat([video[:, :, :1], video[:, :, :1], video], dim=2)
    return (before[:, :, :-2] + before[:, :, 1:-1] + before[:, :, 2:]) / 3


def load(spec, *, weights="", device="cpu", dtype=None, mode="whole"):
    return Blurred(mode)
'''


def blurred(restart: int, shift: float = 0.0) -> str:
    """The file of an adapter; `restart` is how many frames pass before its "streamed" mode forgets, 0 for never."""
    file = Path(f"blurred{restart}_{shift}.py")
    file.write_text(BLURRED.format(restart=restart, shift=shift))
    return f"vaes=./{file}"


def test_a_mode_that_keeps_its_promise_passes(capsys: pytest.CaptureFixture[str]):
    vae = blurred(0)
    assert run(vae, "require=lossless", "lengths=[1,5,13]") == 0
    scores = record("blurred-a").scores
    assert scores["pixels_max@streamed"].value == 0
    assert scores["psnr@streamed"].value == 0
    out, err = capsys.readouterr()
    assert "blurred/a · streamed" in out
    assert (
        "./blurred0_0.0.py: lossless (streamed): largest difference 0.0e+00 <= 2e-05 over 6 cases" in err.splitlines()
    )
    assert run(vae, "lengths=[1,5,13]") == 0
    assert "lossless" not in capsys.readouterr().err  # nothing was required


def test_a_mode_that_breaks_its_promise_is_named_with_case_and_size_and_the_exit_code_is_1(
    capsys: pytest.CaptureFixture[str],
):
    vae = blurred(8)
    assert run(vae, "require=lossless", "lengths=[5,13]") == 1
    said = capsys.readouterr().err
    assert re.search(
        r"^failed: \./blurred8_0\.0\.py: not lossless: largest difference \S+ > 2e-05 over 4 cases \(pixels .*@13\)$",
        said,
        re.M,
    )
    assert "@5" not in said  # shorter than the piece: nothing was lost there
    assert run(vae, "lengths=[5,13]") == 0  # and without the demand it is a result


@pytest.mark.parametrize(
    ("pixels", "latents", "met", "said"),
    [
        (2e-5, 1e-5, True, "lossless (streamed): largest difference 2.0e-05 <= 2e-05 over 2 cases"),
        (
            3e-5,
            0.0,
            False,
            "not lossless: largest difference 3.0e-05 > 2e-05 over 2 cases (pixels of streamed at b@13)",
        ),
        (
            0.0,
            4e-2,
            False,
            "not lossless: largest difference 4.0e-02 > 2e-05 over 2 cases (latents of streamed at b@13)",
        ),
        (0.0, np.nan, False, "not lossless: largest difference inf > 2e-05 over 2 cases (latents of streamed at b@13)"),
        (np.inf, 0.0, False, "not lossless: largest difference inf > 2e-05 over 2 cases (pixels of streamed at b@13)"),
    ],
)
def test_the_verdict_is_of_the_largest_difference_of_all_cases(pixels: float, latents: float, met: bool, said: str):
    suite = blockwise.build(parse_run([*SMALL, "require=lossless"], suite="blockwise"))
    spec = adapters.find("wfvae/tiny-random")
    exact = {"pixels_max@streamed": np.float64(0), "latents_max@streamed": np.float64(0)}
    moved = {"pixels_max@streamed": np.float64(pixels), "latents_max@streamed": np.float64(latents)}
    for statistics in ({"a@13": exact, "b@13": moved}, {"b@13": moved, "a@13": exact}):
        labelled = {case: {**kept, "pixels_max@independent-16": np.float64(1)} for case, kept in statistics.items()}
        assert suite.demands(spec, labelled) == [(met, said)]  # independent-16 claims nothing


def test_the_profile_shows_where_the_seams_are():
    vae = blurred(8)
    assert run(vae, "independent=[]") == 0
    profile = record("blurred-a").extra["profiles"]["streamed"]
    moved = [i for i, value in enumerate(profile["by_frame"]) if value > 1e-6]
    assert moved == [8, 9]  # the two frames after the seam, which lost their predecessors
    assert len(profile["by_row"]) == len(profile["by_column"]) == 32
    assert len(profile["by_step"]) == 12
    assert min(profile["by_step"][7], profile["by_step"][9]) > 0  # it flickers into the seam and out of it


def test_choices_of_ones_own_are_in_the_settings_name_and_the_defaults_are_not():
    def setting(*words: str) -> str:
        config = parse_run(["num_frames=13", "size=32", "data=synthetic", *words], suite="blockwise")
        return blockwise.build(config).setting(plugins.find("data", "synthetic").build(config))

    assert setting() == setting("independent=[16]") == "synthetic-13x32"
    assert (
        setting("metrics=[psnr]", "lengths=[5,13]", "independent=[]")
        == "synthetic-13x32-psnr-lengths5+13-independent-none"
    )
    assert setting("protocol=wfvae-paper") == "synthetic-13x32-wfvae-paper"
    assert setting("protocol=wfvae-paper", "metrics=[psnr]", "seed=3") == "synthetic-13x32-wfvae-paper-seed3-psnr"
    assert setting("posterior=sample") == "synthetic-13x32-sample"
    assert setting("metrics=[psnr,ssim,lpips,fvd]") == "synthetic-13x32"


def test_the_signs_are_those_of_the_papers_table():
    """PSNR against the reference falls when frames are lost, or rises when a blur is: here the first piece is as before."""
    vae = blurred(4)
    assert run(vae, "independent=[]") == 0
    found = record("blurred-a").scores
    assert found["psnr@streamed"].signed
    whole, got = (torch.rand(1, 3, 4, 8, 8) for _ in range(2))
    kept = differences(whole, got, whole, got, None)
    assert kept["pixels_rms"] == pytest.approx(float((whole - got).square().mean().sqrt()))
    assert np.sum(kept["by_frame"]) / 4 == pytest.approx(kept["pixels_rms"] ** 2, rel=1e-5)


def test_a_demand_that_would_test_nothing_is_refused(capsys: pytest.CaptureFixture[str]):
    assert run("vaes=[pool/4x8x8]", "require=lossless") == 2
    assert "not ready: pool/4x8x8: claims no lossless mode" in capsys.readouterr().err
    assert run("vaes=[pool/4x8x8]", "require=lossles") == 2
    assert "require='lossles' is not known; the only value is lossless" in capsys.readouterr().err
    assert run("vaes=[pool/4x8x8]", "lengths=[99]") == 2


def test_a_vae_without_a_lossless_mode_does_not_stop_the_others(capsys: pytest.CaptureFixture[str]):
    assert run("vaes=[pool/4x8x8,wfvae/tiny-random]", "require=lossless", "clips=1", "independent=[]") == 1
    captured = capsys.readouterr().err
    assert "not ready: pool/4x8x8: claims no lossless mode" in captured
    assert "wfvae/tiny-random: lossless (" in captured
    assert record("wfvae-tiny-random").scores


def test_independent_chunks_of_a_vae_without_memory_cost_nothing_and_of_one_with_memory_do():
    assert run("vaes=[pool/4x8x8,cogvideox/tiny]", "independent=[4]") == 0
    assert record("pool-4x8x8").scores["pixels_max@independent-4"].value == 0
    assert record("cogvideox-tiny").scores["pixels_max@independent-9"].value > 1e-3


@pytest.mark.parametrize("name", ["cogvideox/tiny", "odvae/tiny", "allegro/tiny", "wfvae/tiny-random"])
def test_every_mode_of_a_family_is_measured_against_its_whole(name: str):
    size = "size=64" if name.startswith("allegro") else "size=32"
    assert run(f"vaes=[{name}]", size, "clips=1", "independent=[]", "num_frames=9") == 0
    found = record(name.replace("/", "-"))
    for mode in adapters.find(name).modes[1:]:
        assert found.scores[f"pixels_max@{mode}"].value >= 0
        curve = found.extra["profiles"][mode]["metrics"]["psnr"]
        assert len(curve) == 9
        change = np.mean(curve) - np.mean(found.extra["profiles"]["whole"]["metrics"]["psnr"])
        assert found.scores[f"psnr@{mode}"].value == pytest.approx(change)  # the curve and the table are one thing


def test_the_causal_cache_of_wfvae_costs_nothing_at_any_length_or_cut():
    # the first synthetic clip stands still and would hide a lost frame; the second moves
    lengths = "lengths=[1,5,13]"
    assert (
        run("vaes=[wfvae/tiny-random]", "require=lossless", lengths, "chunks=[1,3]", "clips=2", "independent=[]") == 0
    )
    found = record("wfvae-tiny-random")
    assert {f"pixels_max@{mode}" for mode in ("streamed", "chunks-1", "chunks-3")} <= found.scores.keys()
    assert max(s.value for name, s in found.scores.items() if name.startswith("latents_max")) <= 2e-5
    assert found.extra["by_length"]["lengths"] == [1, 5, 13]


def test_every_way_is_warmed_up_once_for_each_shape_before_it_is_timed():
    encoded: list[str] = []

    class Recorded:
        spec = VAESpec("recorded", "a", 1, 1, 3, causal=True, modes=("whole", "streamed"))

        def __init__(self, mode: str) -> None:
            self.mode = mode

        def encode(self, video: torch.Tensor) -> Posterior:
            encoded.append(self.mode)
            return Posterior(video.clone())

        def decode(self, latent: torch.Tensor) -> torch.Tensor:
            return latent.clone()

    given = {"num_frames": 13, "size": 32, "metrics": ["psnr"], "clips": 2, "independent": [], "lengths": [5, 13]}
    evaluate(Recorded, suite="blockwise", data="synthetic", **given)
    ways = ["whole", "streamed"]
    assert encoded == 2 * (3 * ways) + 2 * ways  # warm-up, memory and time of two shapes, and times of the second clip


def test_a_ratio_of_cost_is_the_mean_of_the_clips_ratios_with_their_interval():
    suite = blockwise.build(parse_run(SMALL, suite="blockwise"))
    cost = {"psnr@whole": 1.0, "psnr@tiled": 1.0, "bytes@whole": 0.0, "bytes@tiled": 0.0, "length": 13}
    cost |= {"latent_frames@tiled": [4, 4]}
    cost |= {f"{which}_{how}@tiled": 0.0 for which in ("pixels", "latents") for how in ("max", "rms")}
    times = [(1.0, 1.0), (2.0, 4.0), (1.0, 3.0)]  # ratios 1, 2, 3: mean 2, deviation 1, t(0.975, 2) = 4.302653
    statistics = {
        f"{i}": {
            name: np.float64(value) for name, value in {**cost, "seconds@whole": whole, "seconds@tiled": tiled}.items()
        }
        for i, (whole, tiled) in enumerate(times)
    }
    found = suite.summarize(statistics)["time@tiled"]
    half = 4.302653 / 3**0.5
    assert (found.value, found.low, found.high) == pytest.approx((2.0, 2 - half, 2 + half))
    assert "mean ratio" in found.note


def test_memory_is_a_ratio_without_an_interval_because_it_is_measured_once_for_each_shape():
    # blocks of less than 64 KiB may reuse memory that is resident already
    assert run("vaes=[pool/4x8x8]", "independent=[4]", "size=128") == 0
    memory = record("pool-4x8x8").scores["memory@independent-4"]
    assert memory.value is not None
    assert (memory.n, memory.stderr, memory.low, memory.high) == (2, None, None, None)
    assert len({row for row in _column("pool-4x8x8", "bytes@whole")}) == 1


def _column(name: str, column: str) -> list[str]:
    (file,) = Path("runs/results/blockwise").rglob(f"{name}.clips.csv")
    with file.open() as rows:
        return [row[column] for row in csv.DictReader(rows)]


class Allocating:
    """A VAE whose encoder takes `mib` of memory for a moment, many times in blocks that glibc would keep."""

    spec = VAESpec("allocating", "a", 1, 1, 3, causal=True, modes=("whole", "half"))

    def __init__(self, mode: str) -> None:
        self.mib = 24 if mode == "half" else 48

    def encode(self, video: torch.Tensor) -> Posterior:
        blocks = [torch.ones(2**18) for _ in range(self.mib)]  # 1 MiB each
        del blocks
        return Posterior(video.clone())

    def decode(self, latent: torch.Tensor) -> torch.Tensor:
        return latent.clone()


def test_the_memory_ratio_is_that_of_known_allocations():
    given = {"num_frames": 5, "size": 32, "metrics": ["psnr"], "clips": 2, "independent": []}
    for _ in range(2):  # in a process whose allocator has kept memory, too
        found = evaluate(Allocating, suite="blockwise", data="synthetic", **given)
        assert found.extra["by_length"]["whole"]["bytes"] == [pytest.approx(48 * 2**20, rel=0.05)]
        assert found.scores["memory@half"].value == pytest.approx(0.5, rel=0.05)


def test_time_is_measured_while_freed_memory_is_kept():
    """An allocation that follows a free takes the same pages again and causes no page faults."""
    faults: list[int] = []

    class Faulting(Allocating):
        def encode(self, video: torch.Tensor) -> Posterior:
            before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
            posterior = super().encode(video)
            faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
            return posterior

    given = {"num_frames": 5, "size": 32, "metrics": ["psnr"], "clips": 4, "independent": []}
    evaluate(Faulting, suite="blockwise", data="synthetic", **given)
    pages = 24 * 2**20 // resource.getpagesize()
    warm_up, memory, timed = faults[:2], faults[2:4], faults[6:]
    assert len(warm_up) == 2
    assert min(memory) >= 0.9 * pages
    # the median: other work on the machine may cost a single run some pages; with the setting on, every run costs all
    assert sorted(timed)[len(timed) // 2] < 0.1 * pages


@pytest.mark.parametrize("name", ["pool/4x8x8", "wfvae/tiny-random"])
def test_under_a_protocol_the_whole_scores_as_in_the_reconstruction_suite(name: str):
    words = ["protocol=wfvae-paper", "metrics=[psnr,ssim,flicker]", "num_frames=13", "size=32", "clips=2"]
    words += [f"vaes=[{name}]", "data=synthetic"]
    assert cli.main(["run", "--suite", "blockwise", *words]) == 0
    assert cli.main(["run", "--suite", "reconstruction", "mode=whole", *words]) == 0
    mine, theirs = (
        records.read(next(Path(f"runs/results/{suite}").rglob(f"{name.replace('/', '-')}*.json")))
        for suite in ("blockwise", "reconstruction")
    )
    assert "wfvae-paper" in mine.setting
    for metric in ("psnr", "ssim", "flicker"):
        assert mine.scores[f"{metric}@whole"].value == pytest.approx(theirs.scores[metric].value, rel=1e-6), metric


def test_modes_with_latents_of_one_shape_get_the_same_draw_of_the_posterior():
    """A whole of 12 frames has 3 latents, and so do three independent chunks of 4: with the same noise, nothing differs."""

    class Noisy:
        spec = VAESpec("noisy", "a", 4, 1, 3, causal=False, frames=FrameRule(4))

        def encode(self, video: torch.Tensor) -> Posterior:
            mean = video.unflatten(2, (-1, 4)).mean(dim=3)
            return Posterior(mean, torch.zeros_like(mean))

        def decode(self, latent: torch.Tensor) -> torch.Tensor:
            return latent.repeat_interleave(4, dim=2)

    given = {"num_frames": 12, "size": 32, "metrics": ["psnr"], "clips": 2, "independent": [4]}
    sampled, other_seed, mode = (
        evaluate(Noisy(), suite="blockwise", data="synthetic", **given, **words).scores
        for words in ({"posterior": "sample"}, {"posterior": "sample", "seed": 1}, {"posterior": "mode"})
    )
    assert sampled["pixels_max@independent-4"].value == 0
    assert sampled["latents_max@independent-4"].value == 0
    assert len({scores["psnr@whole"].value for scores in (sampled, other_seed, mode)}) == 3


def test_lossless_is_not_required_of_samples(capsys: pytest.CaptureFixture[str]):
    words = ["vaes=[wfvae/tiny-random]", "protocol=wfvae-paper", "require=lossless", "clips=1", "independent=[]"]
    assert run(*words) == 2
    assert "add posterior=mode, or leave require out" in capsys.readouterr().err
    assert run(*words, "posterior=mode") == 0
    assert "lossless (streamed" in capsys.readouterr().err


def test_the_metrics_are_those_of_the_protocol_by_default():
    def names(*words: str) -> list[str]:
        return blockwise.build(parse_run(["num_frames=13", "size=32", *words], suite="blockwise")).names

    assert names() == ["psnr", "ssim", "lpips", "fvd"]
    assert names("protocol=wfvae-paper") == ["psnr", "ssim", "lpips", "i3d_l2"]
    assert names("protocol=wfvae-paper", "metrics=[psnr]") == ["psnr"]


def test_the_interval_of_a_change_is_that_of_the_paired_differences():
    psnr = plugins.find("metrics", "psnr").build("cpu")
    # differences -1, -2, -3 on clips that lie 20 dB apart: mean -2, deviation 1, t(0.975, 2) = 4.302653
    found = change("psnr", psnr, before=np.array([20.0, 30.0, 40.0]), after=np.array([19.0, 28.0, 37.0]))
    half = 4.302653 / 3**0.5
    assert (found.value, found.stderr) == pytest.approx((-2.0, 1 / 3**0.5))
    assert (found.low, found.high) == pytest.approx((-2 - half, -2 + half))
    assert found.signed


def test_the_lossless_figure_is_the_worse_of_the_whole_way_and_of_the_decoder_alone():
    whole = torch.zeros(1, 3, 2, 4, 4)
    got, same = whole.clone(), whole.clone()
    got[0, 0, 0, 0, 0], same[0, 0, 1, 0, 0] = 0.25, -0.5  # encode and decode; decode the latent of the whole
    latent = torch.zeros(1, 4, 1, 2, 2)
    assert differences(whole, got, latent, latent, None)["pixels_max"] == 0.25
    assert differences(whole, got, latent, latent, same)["pixels_max"] == 0.5
    assert differences(whole, same, latent, latent, got)["pixels_max"] == 0.5
    padded = torch.cat([whole, torch.full((1, 3, 4, 4, 4), 9.0)], dim=2)  # frames that only pad the clip do not count
    assert differences(whole, whole, latent, latent, padded)["pixels_max"] == 0


def test_a_decoder_that_is_not_lossless_is_found_where_its_encoder_hides_it(capsys: pytest.CaptureFixture[str]):
    """A mode whose encoder undoes what its decoder adds gives the whole's pixels, but not from the whole's latent."""
    assert run(blurred(0, shift=0.25), "independent=[]", "require=lossless") == 1
    assert (
        "not lossless: largest difference 2.5e-01 > 2e-05 over 2 cases (pixels of streamed" in capsys.readouterr().err
    )
    assert record("blurred-a").scores["pixels_max@streamed"].value == pytest.approx(0.25, abs=1e-6)


def test_modes_with_the_same_weights_keep_them_once():
    whole, other = (adapters.load("wfvae/tiny-random") for _ in range(2))
    (network,) = networks(other)
    share_weights(other, whole)
    theirs = {p.data_ptr() for p in networks(whole)[0].parameters()}
    assert {p.data_ptr() for p in network.parameters()} == theirs
    odd = adapters.load("wfvae/tiny-random")
    with torch.no_grad():
        next(networks(odd)[0].parameters()).add_(1)
    share_weights(odd, whole)
    assert len(theirs - {p.data_ptr() for p in networks(odd)[0].parameters()}) == 1


def test_a_clip_too_short_for_a_metric_goes_without_it():
    assert run("vaes=[pool/4x8x8]", "metrics=[psnr,flicker]", "lengths=[1,13]", "independent=[4]") == 0
    found = record("pool-4x8x8")
    assert not found.failed
    assert found.scores["flicker@independent-4"].value == 0
    curve = found.extra["by_length"]["independent-4"]
    assert curve["flicker"][0] is None
    assert curve["flicker"][1] > 0
    assert None not in curve["psnr"]


def test_independent_chunks_are_named_by_the_length_that_is_run():
    assert run("vaes=[cogvideox/tiny]", "independent=[8,9]", "clips=1") == 0
    assert {name.partition("@")[2] for name in record("cogvideox-tiny").scores if "independent" in name} == {
        "independent-9"
    }


def test_independent_chunks_as_long_as_the_clips_are_noted(capsys: pytest.CaptureFixture[str]):
    assert run("vaes=[pool/4x8x8]", "independent=[12,16]", "clips=1") == 0
    scores = record("pool-4x8x8").scores
    assert scores["psnr@independent-12"].note == ""
    assert scores["psnr@independent-16"].note == "independent-16 cuts nothing: each clip fits into one chunk"
    assert "psnr: independent-16 cuts nothing: each clip fits into one chunk\n" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("protocol=wfvae", "no protocol 'wfvae'; did you mean 'wfvae-paper'?"),
        ("lengths=[0]", "lengths=[0] should be numbers of frames, 1 or more each"),
        ("chunks=[-1]", "chunks=[-1] should be numbers of frames"),
        ("independent=[0]", "independent=[0] should be numbers of frames"),
    ],
)
def test_what_the_suite_cannot_do_is_refused(words: str, said: str, capsys: pytest.CaptureFixture[str]):
    assert run("vaes=[pool/4x8x8]", words) == 2
    assert said in capsys.readouterr().err


def test_a_change_keeps_its_metrics_caution():
    fvd = FVD(i3d=None)  # reduction needs no network
    features = np.random.default_rng(0).standard_normal((3, 2, 4))
    assert change("fvd", fvd, features, features).note == fvd.caution(3) != ""


def test_the_table_has_a_row_for_every_mode():
    assert run("vaes=[pool/4x8x8]", "independent=[4,8]") == 0
    table = tables.tabulate([record("pool-4x8x8")])
    assert list(table["VAE"]) == [f"pool/4x8x8 · {label}" for label in ("whole", "independent-4", "independent-8")]


def test_a_posterior_of_another_shape_has_no_latent_difference():
    video = torch.rand(1, 3, 4, 8, 8)
    kept = differences(video, video, torch.zeros(1, 4, 2, 4, 4), torch.zeros(1, 4, 3, 4, 4), None)
    assert np.isnan(kept["latents_max"])
    assert kept["pixels_max"] == 0

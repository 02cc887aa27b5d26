"""The suite that says what block-wise inference costs: nothing where it claims so, and where the seams are elsewhere."""

import re
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch

import adapters
from vaebench import cli, plugins, results, runner, tables
from vaebench.config import parse_run
from vaebench.metrics.fvd import FVD
from vaebench.scoring import change
from vaebench.suites import blockwise
from vaebench.vae import FrameRule, Posterior, VAESpec

SMALL = ["num_frames=13", "size=32", "metrics=[psnr]", "data=synthetic", "clips=2"]


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def run(*words: str) -> int:
    return cli.main(["run", "--suite", "blockwise", *SMALL, *words])


def record(name: str) -> results.Record:
    (file,) = Path("runs/results/blockwise").rglob(f"{name}.json")
    return results.read(file)


class Blurred:
    """A VAE whose frames mix with their two predecessors; `streamed` starts afresh every `restart` frames, if at all."""

    encoded: ClassVar[list[str]] = []  # the mode of each call

    def __init__(self, mode: str, restart: int) -> None:
        self.spec, self.mode = SPEC, mode
        self.restart = restart if mode == "streamed" else 0

    def encode(self, video: torch.Tensor) -> Posterior:
        self.encoded.append(self.mode)
        pieces = video.split(self.restart or video.shape[2], dim=2)
        return Posterior(torch.cat([self._blur(piece) for piece in pieces], dim=2))

    @staticmethod
    def _blur(video: torch.Tensor) -> torch.Tensor:
        before = torch.cat([video[:, :, :1], video[:, :, :1], video], dim=2)
        return (before[:, :, :-2] + before[:, :, 1:-1] + before[:, :, 2:]) / 3

    def decode(self, latent: torch.Tensor) -> torch.Tensor:
        return latent.clone()


SPEC = VAESpec(
    "blurred",
    "a",
    1,
    1,
    3,
    causal=True,
    frames=FrameRule(),
    modes=("whole", "streamed"),
    lossless_modes=("streamed",),
)


@pytest.fixture
def blurred(monkeypatch: pytest.MonkeyPatch):
    """Makes `blurred/a` known; the argument is how many frames pass before its "streamed" mode forgets, 0 for never."""
    real = {name: getattr(adapters, name) for name in ("find", "load", "available", "weights_digest", "label")}

    def install(restart: int) -> None:
        def own(name: str) -> bool:
            return name == "blurred/a"

        monkeypatch.setattr(adapters, "find", lambda n: SPEC if own(n) else real["find"](n))
        monkeypatch.setattr(adapters, "available", lambda n, w="": "" if own(n) else real["available"](n, w))
        monkeypatch.setattr(runner, "code_digest", lambda family: family)  # it has no file
        monkeypatch.setattr(adapters, "label", lambda n, w="": n if own(n) else real["label"](n, w))
        monkeypatch.setattr(adapters, "weights_digest", lambda n, w="": f"restart {restart}")
        monkeypatch.setattr(adapters, "load", lambda n, mode="whole", **_: Blurred(mode, restart))

    return install


def test_a_mode_that_keeps_its_promise_passes(blurred, capsys: pytest.CaptureFixture[str]):
    blurred(0)
    assert run("vaes=[blurred/a]", "require=lossless", "lengths=[1,5,13]") == 0
    scores = record("blurred-a").scores
    assert scores["pixels_max@streamed"].value == 0
    assert scores["psnr@streamed"].value == 0
    out, err = capsys.readouterr()
    assert "blurred/a · streamed" in out
    assert "blurred/a: lossless (streamed): largest difference 0.0e+00 <= 2e-05 over 6 cases" in err.splitlines()
    assert run("vaes=[blurred/a]", "lengths=[1,5,13]") == 0
    assert "lossless" not in capsys.readouterr().err  # nothing was required


def test_a_mode_that_breaks_its_promise_is_named_with_case_and_size_and_the_exit_code_is_1(
    blurred, capsys: pytest.CaptureFixture[str]
):
    blurred(8)
    assert run("vaes=[blurred/a]", "require=lossless", "lengths=[5,13]") == 1
    said = capsys.readouterr().err
    assert re.search(
        r"^failed: blurred/a: not lossless: largest difference \S+ > 2e-05 over 4 cases \(pixels .*@13\)$", said, re.M
    )
    assert "@5" not in said  # shorter than the piece: nothing was lost there
    assert run("vaes=[blurred/a]", "lengths=[5,13]") == 0  # and without the demand it is a result


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
    exact = {"pixels_max@streamed": np.float64(0), "latents_max@streamed": np.float64(0)}
    moved = {"pixels_max@streamed": np.float64(pixels), "latents_max@streamed": np.float64(latents)}
    for statistics in ({"a@13": exact, "b@13": moved}, {"b@13": moved, "a@13": exact}):
        labelled = {case: {**kept, "pixels_max@naive-16": np.float64(1)} for case, kept in statistics.items()}
        assert suite.demands(SPEC, labelled) == [(met, said)]  # naive-16 claims nothing


def test_the_profile_shows_where_the_seams_are(blurred):
    blurred(8)
    assert run("vaes=[blurred/a]", "naive=[]") == 0
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

    assert setting() == setting("naive=[16]") == "synthetic-13x32"
    assert setting("metrics=[psnr]", "lengths=[5,13]", "naive=[]") == "synthetic-13x32-psnr-lengths5+13-naive-none"


def test_the_signs_are_those_of_the_papers_table(blurred):
    """PSNR against the reference falls when frames are lost, or rises when a blur is: here the first piece is as before."""
    blurred(4)
    assert run("vaes=[blurred/a]", "naive=[]") == 0
    found = record("blurred-a").scores
    assert found["psnr@streamed"].signed
    whole, got = (torch.rand(1, 3, 4, 8, 8) for _ in range(2))
    kept = blockwise.differences(whole, got, whole, got, None)
    assert kept["pixels_rms"] == pytest.approx(float((whole - got).square().mean().sqrt()))
    assert np.sum(kept["by_frame"]) / 4 == pytest.approx(kept["pixels_rms"] ** 2, rel=1e-5)


def test_a_demand_that_would_test_nothing_is_refused(capsys: pytest.CaptureFixture[str]):
    assert run("vaes=[pool/4x8x8]", "require=lossless") == 2
    assert "claims no lossless mode" in capsys.readouterr().err
    assert run("vaes=[pool/4x8x8]", "require=lossles") == 2
    assert run("vaes=[pool/4x8x8]", "lengths=[99]") == 2


def test_naive_pieces_of_a_vae_without_memory_cost_nothing_and_of_one_with_memory_do():
    assert run("vaes=[pool/4x8x8,cogvideox/tiny]", "naive=[4]") == 0
    assert record("pool-4x8x8").scores["pixels_max@naive-4"].value == 0
    assert record("cogvideox-tiny").scores["pixels_max@naive-9"].value > 1e-3


@pytest.mark.parametrize("name", ["cogvideox/tiny", "odvae/tiny", "allegro/tiny", "wfvae/tiny-random"])
def test_every_mode_of_a_family_is_measured_against_its_whole(name: str):
    size = "size=64" if name.startswith("allegro") else "size=32"
    assert run(f"vaes=[{name}]", size, "clips=1", "naive=[]", "num_frames=9") == 0
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
    assert run("vaes=[wfvae/tiny-random]", "require=lossless", lengths, "pieces=[1,3]", "clips=2", "naive=[]") == 0
    found = record("wfvae-tiny-random")
    assert {f"pixels_max@{mode}" for mode in ("streamed", "pieces-1", "pieces-3")} <= found.scores.keys()
    assert max(s.value for name, s in found.scores.items() if name.startswith("latents_max")) <= 2e-5
    assert found.extra["by_length"]["lengths"] == [1, 5, 13]


def test_every_way_is_warmed_up_once_for_each_shape_before_it_is_timed(blurred, monkeypatch: pytest.MonkeyPatch):
    blurred(0)
    monkeypatch.setattr(Blurred, "encoded", [])
    assert run("vaes=[blurred/a]", "naive=[]", "lengths=[5,13]") == 0  # two clips
    warm_up = ["whole", "streamed"]
    assert Blurred.encoded == 4 * warm_up + 2 * warm_up
    assert Blurred.encoded.count("whole") == 2 * 2 + 2


def test_a_ratio_of_cost_is_the_mean_of_the_clips_ratios_with_their_interval(blurred):
    blurred(0)
    suite = blockwise.build(parse_run(SMALL, suite="blockwise"))
    cost = {"psnr@whole": 1.0, "psnr@tiled": 1.0, "bytes@whole": 0.0, "bytes@tiled": 0.0, "length": 13}
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


def test_the_interval_of_a_change_is_that_of_the_paired_differences():
    psnr = plugins.find("metrics", "psnr").build("cpu")
    # differences -1, -2, -3 on clips that lie 20 dB apart: mean -2, deviation 1, t(0.975, 2) = 4.302653
    found = change(psnr, before=np.array([20.0, 30.0, 40.0]), after=np.array([19.0, 28.0, 37.0]))
    half = 4.302653 / 3**0.5
    assert (found.value, found.stderr) == pytest.approx((-2.0, 1 / 3**0.5))
    assert (found.low, found.high) == pytest.approx((-2 - half, -2 + half))
    assert found.signed


def test_the_lossless_figure_is_the_worse_of_the_whole_way_and_of_the_decoder_alone():
    whole = torch.zeros(1, 3, 2, 4, 4)
    got, same = whole.clone(), whole.clone()
    got[0, 0, 0, 0, 0], same[0, 0, 1, 0, 0] = 0.25, -0.5  # encode and decode; decode the latent of the whole
    latent = torch.zeros(1, 4, 1, 2, 2)
    assert blockwise.differences(whole, got, latent, latent, None)["pixels_max"] == 0.25
    assert blockwise.differences(whole, got, latent, latent, same)["pixels_max"] == 0.5
    assert blockwise.differences(whole, same, latent, latent, got)["pixels_max"] == 0.5
    padded = torch.cat([whole, torch.full((1, 3, 4, 4, 4), 9.0)], dim=2)  # frames that only pad the clip do not count
    assert blockwise.differences(whole, whole, latent, latent, padded)["pixels_max"] == 0


def test_a_decoder_that_is_not_lossless_is_found_where_its_encoder_hides_it(
    blurred, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    """A mode whose encoder undoes what its decoder adds gives the whole's pixels, but not from the whole's latent."""
    blurred(0)

    def encode(self, video):
        return Posterior(Blurred._blur(video) - (0.25 if self.mode == "streamed" else 0))

    def decode(self, latent):
        return latent + (0.25 if self.mode == "streamed" else 0)

    monkeypatch.setattr(Blurred, "encode", encode)
    monkeypatch.setattr(Blurred, "decode", decode)
    assert run("vaes=[blurred/a]", "naive=[]", "require=lossless") == 1
    assert (
        "not lossless: largest difference 2.5e-01 > 2e-05 over 2 cases (pixels of streamed" in capsys.readouterr().err
    )
    assert record("blurred-a").scores["pixels_max@streamed"].value == pytest.approx(0.25, abs=1e-6)


def test_modes_with_the_same_weights_keep_them_once():
    whole, other = (adapters.load("wfvae/tiny-random") for _ in range(2))
    (network,) = blockwise.networks(other)
    blockwise.share_weights(other, whole)
    theirs = {p.data_ptr() for p in blockwise.networks(whole)[0].parameters()}
    assert {p.data_ptr() for p in network.parameters()} == theirs
    odd = adapters.load("wfvae/tiny-random")
    with torch.no_grad():
        next(blockwise.networks(odd)[0].parameters()).add_(1)
    blockwise.share_weights(odd, whole)
    assert len(theirs - {p.data_ptr() for p in blockwise.networks(odd)[0].parameters()}) == 1


def test_a_clip_too_short_for_a_metric_goes_without_it():
    assert run("vaes=[pool/4x8x8]", "metrics=[psnr,flicker]", "lengths=[1,13]", "naive=[4]") == 0
    found = record("pool-4x8x8")
    assert not found.failed
    assert found.scores["flicker@naive-4"].value == 0
    curve = found.extra["by_length"]["naive-4"]
    assert curve["flicker"][0] is None
    assert curve["flicker"][1] > 0
    assert None not in curve["psnr"]


def test_naive_pieces_are_named_by_the_length_that_is_run():
    assert run("vaes=[cogvideox/tiny]", "naive=[8,9]", "clips=1") == 0
    assert {name.partition("@")[2] for name in record("cogvideox-tiny").scores if "naive" in name} == {"naive-9"}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("protocol=wfvae-paper", "leave protocol and posterior out"),
        ("posterior=sample", "leave protocol and posterior out"),
        ("lengths=[0]", "lengths counts frames, from 1 up, got [0]"),
        ("pieces=[-1]", "pieces counts frames"),
        ("naive=[0]", "naive counts frames"),
    ],
)
def test_what_the_suite_cannot_do_is_refused(words: str, said: str, capsys: pytest.CaptureFixture[str]):
    assert run("vaes=[pool/4x8x8]", words) == 2
    assert said in capsys.readouterr().err


def test_a_change_keeps_its_metrics_caution():
    fvd = FVD(i3d=None)  # reduction needs no network
    features = np.random.default_rng(0).standard_normal((3, 2, 4))
    assert change(fvd, features, features).note == fvd.caution(3) != ""


def test_the_table_has_a_row_for_every_mode():
    assert run("vaes=[pool/4x8x8]", "naive=[4,8]") == 0
    _, rows = tables.tabulate([record("pool-4x8x8")])
    assert [row[0] for row in rows] == [f"pool/4x8x8 · {label}" for label in ("whole", "naive-4", "naive-8")]


def test_a_posterior_of_another_shape_has_no_latent_difference(blurred):
    blurred(0)
    video = torch.rand(1, 3, 4, 8, 8)
    kept = blockwise.differences(video, video, torch.zeros(1, 4, 2, 4, 4), torch.zeros(1, 4, 3, 4, 4), None)
    assert np.isnan(kept["latents_max"])
    assert kept["pixels_max"] == 0


def test_lossless_modes_are_a_part_of_the_spec():
    assert "streamed" in adapters.find("wfvae/tiny-random").lossless_modes
    assert replace(SPEC, lossless_modes=()).lossless_modes == ()

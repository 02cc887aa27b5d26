"""Settings of diffusability: each is either applied and named, or refused; and the cases of many processes."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

import adapters
from tests.sources import build as source
from tests.sources import cut
from tests.videos import write
from vaebench import cli, records
from vaebench.config import parse_run
from vaebench.device_idle import StepMeter
from vaebench.features import inception_score
from vaebench.generation import extractors, scores
from vaebench.suites import diffusability
from vaebench.suites.diffusability import Diffusability
from vaebench.vae import Posterior


@pytest.fixture(autouse=True)
def _no_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VAEBENCH_WEIGHTS", str(tmp_path / "none"))
    monkeypatch.setenv("HOME", str(tmp_path))


def suite(*words: str) -> Diffusability:
    return diffusability.build(parse_run(["device=cpu", *words], suite="diffusability"))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["tier=1", "clip_frames=12"], "clip_frames=12: FVD16 and IS need 16 frames"),
        (
            ["tier=2", "guidance=4", "data=skytimelapse"],
            "guidance=4.0 would change nothing: .* data=skytimelapse has no classes",
        ),
        (["tier=2", "guided_channels=official-first-4"], "data=bundle has no classes"),
        (["tier=0", "steps=10"], "steps=10 would change nothing: tier=0 trains no model"),
        (["tier=0", "features=[videomae_ssv2]"], "features=.* would change nothing: tier=0"),
        (["tier=0", "real_stride=1"], "real_stride=1 would change nothing: tier=0"),
        (["tier=smoke", "size=128"], "size=128 would change nothing: tier=smoke uses 64 pixels"),
        (["tier=1", "micro_batch=-1"], "should be 0 or more"),
        (["tier=1", "data=ucf101", "guidance=-2"], "should be 0 or more"),
    ],
)
def test_a_setting_that_would_change_nothing_or_cannot_work_is_refused(words: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        suite(*words)


def test_what_tier_0_reads_is_taken_there() -> None:
    made = suite("tier=0", "windows=2", "clip_frames=1", "interval=1", "scaling=published", "size=64")
    assert made.setting(source("bundle")) == "tier0-bundle-64px-windows-2-clip-frames-1-interval-1-scaling-published"


def test_records_of_other_features_or_another_seed_take_no_place_of_each_other() -> None:
    bundle = source("bundle")
    assert suite("tier=1").setting(bundle) == "tier1-bundle-256px"
    other = suite("tier=1", "features=[i3d,videomae_ssv2]", "seed=3").setting(bundle)
    assert other == "tier1-bundle-256px-features-i3d+videomae_ssv2-seed3"
    assert suite("tier=1", "features=[]").setting(bundle) == "tier1-bundle-256px-features-none"


def test_accelerate_is_asked_for_before_anything_is_encoded(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "accelerate", None)
    assert cli.main(["run", "--suite", "diffusability", "tier=smoke", "device=cpu", "vaes=[pool/4x8x8]"]) == 2
    assert "this command needs the package accelerate: pip install" in capsys.readouterr().err
    assert not Path("runs").exists()


@pytest.mark.parametrize(("words", "scale"), [(["scaling=published"], [1.0] * 3), ([], None)])
def test_the_record_says_how_latents_were_standardised(words: list[str], scale: list[float] | None) -> None:
    words = ["tier=0", "size=32", "clips=2", "windows=1", "device=cpu", "vaes=[pool/4x8x8]", *words]
    assert cli.main(["run", "--suite", "diffusability", *words]) == 0
    (file,) = Path("runs/results/diffusability").rglob("pool-4x8x8.json")
    found = records.read(file)
    latents = found.extra["latents"]
    assert len(latents["shift"]) == 3
    assert latents["scale"] == scale if scale else len(set(latents["scale"])) == 1 != latents["scale"][0]


def test_windows_that_are_left_out_are_counted_where_the_user_looks(
    sky: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["tier=0", "size=32", "windows=2", "device=cpu", "vaes=[pool/4x8x8]", "data=skytimelapse", f"root={sky}"]
    assert cli.main(["run", "--suite", "diffusability", *words]) == 0
    assert "2 unreadable windows are left out" in capsys.readouterr().err
    (file,) = Path("runs/results/diffusability").rglob("pool-4x8x8.json")
    assert [line[:11] for line in records.read(file).extra["latents"]["left_out"]] == ["07/07_2 0: ", "07/07_2 1: "]
    assert str(sky) not in file.read_text().replace(json.dumps(str(sky)), "")  # but for the setting that was given


@pytest.mark.parametrize(("data", "guidance"), [("ucf101", 7.0), ("skytimelapse", 1.0), ("bundle", 1.0)])
def test_guidance_is_recorded_only_where_there_are_classes_to_guide_to(data: str, guidance: float) -> None:
    assert suite("tier=2", f"data={data}").identity["tier"]["sampling"]["guidance"] == guidance


@pytest.mark.parametrize(("data", "step"), [("ucf101", 100_000), ("skytimelapse", 20_000), ("folder", 100_000)])
def test_gradients_are_clipped_from_the_step_that_latte_names_for_the_data_set(data: str, step: int) -> None:
    assert suite("tier=2", f"data={data}").identity["tier"]["train"]["clip_from"] == step


def test_every_distance_that_cannot_be_had_is_named_with_the_reason() -> None:
    absent = suite("tier=1", "features=[videomae_ssv2]").absent
    found = scores.distances("videomae_ssv2", *np.random.default_rng(0).normal(size=(3, 4, 2)), ddof=1)
    own = {name for name in found if not name.removesuffix("_videomae_ssv2").endswith(("_floor", "_debiased"))}
    assert own <= set(absent)
    assert all("vit_g_hybrid" in absent[name] for name in own)


def test_the_error_of_the_split_score_is_that_of_a_mean_of_ten_parts() -> None:
    probabilities = np.random.default_rng(0).dirichlet(np.full(101, 0.2), 40)
    score = scores.inception_scores(probabilities, probabilities[:0])["is_styleganv_10split"]
    shuffled = probabilities.copy()
    np.random.RandomState(42).shuffle(shuffled)
    parts = [inception_score.is_tgan_1split(part) for part in np.split(shuffled, 10)]
    assert score.value == pytest.approx(np.mean(parts))
    assert score.stderr == pytest.approx(np.std(parts, ddof=1) / 10**0.5)


def shared_out(monkeypatch: pytest.MonkeyPatch, world: int, samples: int, tier: str = "1") -> list[list[str]]:
    """The cases of each of `world` processes, where every weight file is at hand."""
    monkeypatch.setattr(extractors, "extractor", lambda name, device: lambda video: np.zeros(2))
    monkeypatch.setattr(diffusability.weights, "path", lambda file: Path(__file__))
    monkeypatch.setattr(diffusability, "rank_and_world", lambda: (0, world))
    words = [] if tier == "0" else [f"samples={samples}"]
    made = suite(f"tier={tier}", *words)
    videos = range(3000)
    cases = [case.id for case in made.cases(videos, None)]  # type: ignore[arg-type]
    return [cases[rank::world] for rank in range(world)]


@pytest.mark.parametrize(("world", "samples"), [(1, 8), (2, 8), (2, 64), (3, 64), (8, 2048), (65, 2048)])
def test_every_process_takes_part_in_the_training_before_it_scores_reals(
    world: int, samples: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for cases in shared_out(monkeypatch, world, samples):
        kinds = [case.partition(" ")[0] for case in cases if case != "latents"]
        assert kinds[0] in ("denoising", "samples")
        assert "real" not in kinds[: sum(kind != "real" for kind in kinds)]


def test_more_processes_than_cases_that_need_the_model_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match=r"2 cases need the trained model, so 3 processes .* start at most 2"):
        shared_out(monkeypatch, 3, 32)
    assert shared_out(monkeypatch, 3, 0, tier="0") == [["latents"], [], []]  # trains nothing


def run_of(made: Diffusability, plan: Any, found: Any, windows: Any) -> Any:
    """What the features of real clips need of a `DiffusionRun`."""
    latents = SimpleNamespace(windows=windows)
    return SimpleNamespace(
        plan=plan, source=found, latents=latents, vae=Same(), device=made.device, meter=StepMeter(None)
    )


def test_reals_are_the_windows_that_could_be_encoded(ucf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A video whose first window is damaged and whose second is not has latents, and no real."""
    monkeypatch.setattr(extractors, "extractor", lambda name, device: lambda video: video.mean((2, 3, 4))[0].numpy())
    monkeypatch.setattr(diffusability.weights, "path", lambda file: Path(__file__))
    made = suite("tier=1", "data=ucf101", f"root={ucf}", "size=32", "real_selection=first2048")
    found = source("ucf101", ucf)
    encoded = [window for window in cut(found, per_clip=2) if window.id != "Archery/v_Archery_g01_c01 0"]
    plan = made._plan(Same.spec)
    subject = run_of(made, plan, found, encoded)
    assert len(made.clip_features.real(subject, range(0, 32))["real i3d"]) == 5


class Same:
    """A VAE that keeps every pixel."""

    spec = adapters.find("identity/pixels")

    def encode(self, video: torch.Tensor) -> Posterior:
        return Posterior(video)

    def decode(self, latent: torch.Tensor) -> torch.Tensor:
        return latent


@pytest.mark.parametrize(("words", "stride"), [([], 3), (["real_stride=1"], 1), (["real_stride=5"], 5)])
def test_the_reals_are_taken_every_real_stride_frames(
    words: list[str], stride: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Frame t of the video is grey of 3 t levels, so the feature "grey of each frame" tells which frames were taken.

    They lie evenly, first and last included, in a span of 16 strides; the span begins anywhere.
    """
    grey = np.broadcast_to(3 * np.arange(80, dtype=np.uint8)[:, None, None, None], (80, 32, 32, 3))
    (tmp_path / "clips").mkdir()
    write(tmp_path / "clips" / "grey.mp4", np.ascontiguousarray(grey), options={"qp": "0"})
    monkeypatch.setattr(extractors, "extractor", lambda name, device: lambda video: video.mean((1, 3, 4))[0].numpy())
    monkeypatch.setattr(diffusability.weights, "path", lambda file: Path(__file__))
    made = suite("tier=smoke", "data=folder", f"root={tmp_path / 'clips'}", *words)
    plan = made._plan(Same.spec)
    found = made._source(plan)
    windows = cut(found)
    subject = run_of(made, plan, found, windows)
    (feature,) = made.clip_features.real(subject, range(1))["real i3d"]
    taken = np.round(feature * 255 / 3)
    assert (taken - taken[0]).tolist() == np.linspace(0, 16 * stride - 1, 16).astype(int).tolist()


@pytest.mark.parametrize(("words", "frames"), [([], 46), (["real_stride=1"], 46), (["real_stride=5"], 76)])
def test_the_clips_of_a_source_are_long_enough_for_what_is_learned_and_for_the_reals(
    words: list[str], frames: int
) -> None:
    made = suite("tier=smoke", "data=synthetic", *words)
    clip = next(iter(made._source(made._plan(Same.spec))))
    assert clip.load().shape[1] == frames  # 15 steps of 3 frames, or of 5, and the last frame


@pytest.mark.parametrize(("words", "value"), [([], 3.0), (["covariance=biased"], 2.0)])
def test_a_biased_covariance_divides_by_n(words: list[str], value: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """One feature, reals 0 and 2 (mean 1), samples 0 and 4 (mean 2): 1 + (deviation of samples - deviation of reals)^2.

    Over n - 1 the deviations are sqrt(8) and sqrt(2), over n they are 2 and 1.
    """
    monkeypatch.setattr(extractors, "extractor", lambda name, device: lambda video: np.zeros(1))
    monkeypatch.setattr(diffusability.weights, "path", lambda file: Path(__file__))
    real, generated = np.array([[0.0], [2.0]]), np.array([[0.0], [4.0]])
    statistics = {
        "samples 0-1": {"generated i3d": generated},
        "real 0-1": {"real i3d": real, "reconstructed i3d": real},
    }
    assert suite("tier=smoke", *words).summarize(statistics)["fvd16"].value == pytest.approx(value)


@pytest.mark.parametrize("what", ["weights", "config_sha256"])
def test_other_weights_or_another_config_have_latents_of_their_own(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    before = suite("tier=0").open(adapters.resolve("pool/4x8x8")).latents_key
    assert suite("tier=0").open(adapters.resolve("pool/4x8x8")).latents_key == before
    monkeypatch.setattr(adapters.ResolvedVAE, what, "other")
    assert suite("tier=0").open(adapters.resolve("pool/4x8x8")).latents_key != before


def test_a_window_that_is_loaded_again_shows_the_same_frames(ucf: Path) -> None:
    window = cut(source("ucf101", ucf))[0]
    first = window.load()
    assert all(torch.equal(window.load(), first) for _ in range(3))


def test_errors_of_windows_name_files_below_the_root(ucf: Path, sky: Path) -> None:
    with pytest.raises(ValueError, match=r"^YoYo/v_YoYo_g03_c01\.avi: too short"):
        cut(source("ucf101", ucf), frames=21)[-1].load()
    with pytest.raises(ValueError, match=r"^07/07_2: too short"):
        cut(source("skytimelapse", sky))[1].load()


def test_the_interval_of_the_denoising_loss_is_over_scenes() -> None:
    """Six windows of three scenes: means 1, 2, 3, so a deviation of 1 over three, and t(0.975, 2) = 4.302653."""
    errors = np.array([[0.5, 1.5, 2.0, 2.0, 2.5, 3.5]] * 4)  # (log SNRs, windows)
    score = scores.denoising(errors, np.array([0, 0, 1, 1, 2, 2]), 3, smoke_test=False)
    half = 4.302653 / 3**0.5
    assert (score.value, score.low, score.high) == pytest.approx((2.0, 2 - half, 2 + half))
    assert score.n == 6
    assert "the interval is over 3 scenes" in score.note
    two = scores.denoising(errors, np.array([0, 0, 0, 1, 1, 1]), 2, smoke_test=False)
    assert two.value == 2.0
    assert two.low is two.high is None
    # scenes of unequal size: the value stays the mean of all windows, and the interval is centred on it
    uneven = scores.denoising(errors, np.array([0, 0, 0, 0, 1, 2]), 3, smoke_test=False)
    assert (uneven.value, (uneven.low + uneven.high) / 2) == pytest.approx((2.0, 2.0))

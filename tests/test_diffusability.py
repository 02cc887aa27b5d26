"""Diffusability: windows as Latte cuts them, the latent cache, the statistics of tier 0, and the suite from clip to record."""

from __future__ import annotations

import math
import random
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState, GradientState, PartialState

import adapters
from tests.goldens_io import Golden, goldens
from tests.videos import pictures, write
from vaebench import cli, plugins, results, runner
from vaebench.config import RunConfig, parse_run
from vaebench.data import _resizes, _windows
from vaebench.latte.diffusion import linear
from vaebench.latte.train import checkpoints
from vaebench.metrics._frechet import debiased, frechet, noise_floor
from vaebench.suites import _generation, _latent_statistics, _latents, _trained, diffusability
from vaebench.suites._generation import Sampling
from vaebench.vae import Posterior, VAESpec
from vaebench.weights import Unavailable

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VAEBENCH_WEIGHTS", str(tmp_path / "no weights"))
    monkeypatch.setenv("HOME", str(tmp_path))
    yield
    for state in (AcceleratorState, GradientState, PartialState):
        state._reset_state()


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """The smoke tier, smaller still."""
    tier = diffusability.TIERS["smoke"]
    train = replace(tier.train, steps=4, batch=2, checkpoint_every=2)
    tiny = replace(
        tier, shape=(2, 32, 2), train=train, sampling=Sampling("2", "ddim", 1.0), samples=3, windows=1, size=32
    )
    monkeypatch.setitem(diffusability.TIERS, "smoke", tiny)


@pytest.fixture(scope="session")
def ucf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A miniature of UCF-101: two classes, three groups, six videos of 64x48; one with fewer frames than a span."""
    root = tmp_path_factory.mktemp("data") / "UCF-101"
    names = [f"{kind}/v_{kind}_g0{group}_c01" for kind in ("Archery", "YoYo") for group in (1, 2, 3)]
    for seed, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        frames = pictures(20 if name.endswith("YoYo_g03_c01") else 56, seed=seed)
        write(root / f"{name}.avi", frames, codec="mpeg4")
    return root


@pytest.fixture
def sky(tmp_path: Path) -> Path:
    """A miniature of SkyTimelapse: one recording with two scenes, the second too short."""
    from PIL import Image

    root = tmp_path / "sky_train"
    for folder, count in (("07/07_1", 60), ("07/07_2", 48)):
        (root / folder).mkdir(parents=True)
        for number, pixels in enumerate(pictures(count, 32, 40)):
            Image.fromarray(pixels).save(root / folder / f"sky_{number}.png")
    return root


def source(data: str, root: Path | str = "", frames: int = 16, size: int = 32) -> Any:
    return plugins.find("data", data).build(RunConfig(data=data, root=str(root), num_frames=frames, size=size))


def cut(found: Any, **settings: Any) -> list[_windows.Window]:
    return _windows.windows(
        found, **{"frames": 16, "interval": 3, "per_clip": 1, "flips": False, "seed": 0, **settings}
    )


def run(*words: str) -> int:
    return cli.main(["run", "--suite", "diffusability", "tier=smoke", "device=cpu", *words])


def record(setting: str = "smoke-test-bundle-32px", name: str = "pool-4x8x8") -> results.Record:
    """`setting`: a pattern, as a folder of videos is named with what tells it from others of its name."""
    (file,) = Path("results/diffusability").glob(f"{setting}/{name}.json")
    return results.read(file)


# --- windows -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("golden", goldens(lambda m: m.get("kind") == "clipsample"), ids=str)
def test_windows_are_the_official_ones(golden: Golden) -> None:
    tensors = golden.tensors()
    cases = next(value for key, value in tensors.items() if key.startswith("cases"))
    for row, (frames, interval, total, seed, begin, end, length) in enumerate(cases.tolist()):
        draw = random.Random(seed).randint
        assert _windows.span(total, frames, interval, lambda most, draw=draw: draw(0, most)) == (begin, end)
        assert _windows.spread(begin, end, frames) == tensors["ucf_indices"][row, :frames].tolist()
        assert list(range(begin, end, interval)) == tensors["sky_indices"][row, :length].tolist()


def test_ucf_windows_carry_labels_are_mirrored_and_take_short_videos_whole(ucf: Path) -> None:
    found = cut(source("ucf101", ucf), per_clip=2, flips=True)
    assert len(found) == 6 * 2 * 2
    assert [window.label for window in found[:4]] == ["Archery"] * 4
    assert found[0].scene == "Archery/v_Archery_g01"
    plain, mirrored, other = (found[i].load() for i in (0, 1, 2))
    assert plain.shape == (3, 16, 32, 32)
    assert plain.dtype == torch.uint8
    assert torch.equal(plain.flip(-1), mirrored)
    assert not torch.equal(plain, other)
    assert torch.equal(plain, cut(source("ucf101", ucf), per_clip=2, flips=True)[0].load())
    assert found[-1].load().shape == (3, 16, 32, 32)  # of 20 frames
    with pytest.raises(ValueError, match=r"YoYo_g03_c01\.avi: too short: it holds 20 frames, a window of 21"):
        cut(source("ucf101", ucf), frames=21)[-1].load()


def test_sky_windows_keep_the_interval_and_ask_for_more_than_the_span(sky: Path) -> None:
    long, short = cut(source("skytimelapse", sky))
    assert long.scene == short.scene == "07"
    every = torch.from_numpy(pictures(60, 32, 40)[:, :, 4:36]).permute(3, 0, 1, 2)  # (3, 60, 32, 32)
    shown = long.load()
    assert any(torch.equal(shown, every[:, begin : begin + 48 : 3]) for begin in range(12))
    with pytest.raises(ValueError, match=r"07_2: too short: .* takes more than 48 frames, it holds 48"):
        short.load()


@pytest.mark.parametrize("golden", goldens(lambda m: m.get("kind") == "preproc"), ids=str)
def test_resizes_are_the_official_ones(golden: Golden) -> None:
    size, tensors = golden.json("spec")["size"], golden.tensors()

    def resized(name: str, frames: torch.Tensor, *, images: bool = False) -> torch.Tensor:
        found = _resizes.find(name, images=images)
        return torch.stack([found(frame, size) for frame in frames.permute(0, 2, 3, 1)]).float()  # (T, 3, size, size)

    video, image = tensors["ucf_u8_tchw"], tensors["sky_u8_tchw"]
    learned = resized("latte", video)
    near = {"rtol": 0, "atol": 2e-6}
    torch.testing.assert_close(learned / 127.5 - 1, tensors["ucf_out"], **near)
    torch.testing.assert_close(learned.flip(-1) / 255, tensors["ucf_flip"], **near)
    torch.testing.assert_close(resized("latte", image, images=True) / 127.5 - 1, tensors["sky_out"], **near)
    torch.testing.assert_close(resized("cdfvd", video).transpose(0, 1) / 255, tensors["cdfvd_video_cthw"], **near)
    for name, golden_frame in {"latte-tool": "frame_latte_tool", "styleganv-tool": "frame_sgv_tool"}.items():
        assert torch.equal(resized(name, video)[0].permute(1, 2, 0), tensors[golden_frame].float())


@pytest.mark.parametrize("name", _resizes.NAMES)
@pytest.mark.parametrize("images", [False, True])
def test_every_resize_keeps_the_middle_and_crops_alone_at_its_own_size(name: str, images: bool) -> None:
    frame = torch.from_numpy(pictures(1, 32, 45)[0])
    resize = _resizes.find(name, images=images)
    assert torch.equal(resize(frame, 32).byte(), frame[:, 6:38].permute(2, 0, 1))  # (45 - 32) / 2 = 6.5, to even
    ramp = torch.arange(90, dtype=torch.uint8).expand(64, 90)[..., None].expand(-1, -1, 3)
    assert resize(ramp, 16).shape == (3, 16, 16)
    assert resize(ramp, 16).float().mean().item() == pytest.approx(44.5, abs=2.1)  # of half a new pixel


def test_latte_resizes_without_antialiasing_and_flips_before_it_crops(ucf: Path, sky: Path) -> None:
    checks = torch.tensor([0, 255], dtype=torch.uint8).repeat(16).expand(32, 32)[..., None].expand(-1, -1, 3)
    quarter = {name: _resizes.find(name, images=False)(checks, 8).float().std().item() for name in _resizes.NAMES}
    assert quarter["latte"] < 1
    third = torch.tensor([0, 0, 255], dtype=torch.uint8).repeat(8).expand(24, 24)[..., None].expand(-1, -1, 3)
    assert _resizes.find("latte", images=False)(third, 8).max() == 0  # it reads every third pixel alone
    assert _resizes.find("antialiased", images=False)(third, 8).max() > 60
    plain, mirrored = (cut(source("ucf101", ucf, size=33), flips=True, resize="latte")[i].load() for i in (0, 1))
    assert plain.dtype == torch.float32
    assert plain.shape == (3, 16, 33, 33)
    assert not torch.equal(plain.flip(-1), mirrored)  # 44 columns: 5 or 6 are cut off on the left
    assert cut(source("skytimelapse", sky), resize="latte")[0].load().dtype == torch.float32


def test_other_sources_start_at_their_first_frame() -> None:
    window = cut(source("synthetic", frames=46), clips=1)[0]
    assert torch.equal(window.load(), next(iter(source("synthetic", frames=46))).load()[:, ::3])


@pytest.mark.parametrize(
    ("data", "words"), [("ucf101", "UCF-101 unpacked"), ("skytimelapse", "one split of SkyTimelapse")]
)
def test_missing_data_is_said_with_its_place_and_layout(
    data: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("vaes=[pool/4x8x8]", f"data={data}") == 2
    said = capsys.readouterr().err
    assert f"data={data} is not available without root=DIR: {words}" in said
    assert "https://" in said


# --- the cache -----------------------------------------------------------------------------------------------------


class Counting:
    """Each latent is its block's mean, with a variance of its own, and encoding is counted."""

    def __init__(self) -> None:
        self.pool = adapters.load("pool/4x8x8")
        self.spec: VAESpec = self.pool.spec
        self.count = 0

    def encode(self, video: torch.Tensor) -> Posterior:
        self.count += 1
        mean = self.pool.encode(video).mean
        return Posterior(mean, mean.abs().add(0.1).log())

    def decode(self, latent: torch.Tensor) -> torch.Tensor:
        return self.pool.decode(latent)


def test_what_is_encoded_stays_encoded_and_what_is_lost_is_encoded_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_latents, "SHARD", 3)
    found = cut(source("synthetic", frames=46))  # eight
    vae = Counting()
    cache = _latents.encode(vae, found, tmp_path, device=CPU)
    assert (len(cache), vae.count) == (8, 8)
    before = cache.take([7, 0])
    expected = vae.encode(_windows_to_model(found[7])).mean
    torch.testing.assert_close(before.mean[:1], expected, rtol=1e-3, atol=1e-3)  # fp16
    torch.testing.assert_close(before.std[:1], (expected.abs() + 0.1).sqrt(), rtol=1e-3, atol=1e-3)
    vae.count = 0
    (tmp_path / "00001.safetensors").unlink()
    again = _latents.encode(vae, found, tmp_path, device=CPU, rank=1, world=2)
    assert vae.count == 3
    assert torch.equal(again.take([7, 0]).mean, before.mean)
    assert not list(tmp_path.glob("*.part"))


def _windows_to_model(window: _windows.Window) -> torch.Tensor:
    from vaebench.video import to_model

    return to_model(window.load())[None]


def test_a_window_that_cannot_be_read_is_left_out_with_its_reason(sky: Path, tmp_path: Path) -> None:
    cache = _latents.encode(adapters.load("pool/4x8x8"), cut(source("skytimelapse", sky)), tmp_path / "c", device=CPU)
    assert len(cache) == 1
    assert "07_2: too short" in cache.left_out["07/07_2 0"]
    nothing = cut(source("skytimelapse", sky))[1:]
    with pytest.raises(ValueError, match=r"none of 1 windows could be encoded: .*too short"):
        _latents.encode(adapters.load("pool/4x8x8"), nothing, tmp_path / "d", device=CPU)


def fake_cache(mean: torch.Tensor, std: torch.Tensor | None = None) -> Any:
    class Held(_latents.Cache):
        def _slice(self, name: str, row: int) -> torch.Tensor:
            value = mean if name == "mean" else std
            assert value is not None
            return value[row]

        has_std = property(lambda self: std is not None)  # type: ignore[assignment]

    return Held(Path(), [(0, i) for i in range(len(mean))], None, {}, [])


def test_measured_latents_have_mean_zero_by_channel_and_variance_one_with_the_posteriors() -> None:
    generator = torch.Generator().manual_seed(0)
    mean = torch.randn(40, 3, 2, 4, 4, generator=generator) * torch.tensor([1.0, 2, 5]).view(3, 1, 1, 1) + 7
    std = torch.full_like(mean, 2.0)
    cache = fake_cache(mean, std)
    cache.scaling = _latents.measured(cache)
    batch = cache.take(range(40))
    assert batch.mean.mean((0, 2, 3, 4)).abs().max() < 1e-5
    total = batch.mean.transpose(0, 1).flatten(1).var(1, correction=0).mean() + batch.std.square().mean()
    assert total.item() == pytest.approx(1, abs=1e-5)
    torch.testing.assert_close(cache.scaling.undo(batch.mean), mean)


def test_published_scaling_is_the_specs_own() -> None:
    spec = replace(adapters.find("pool/4x8x8"), scale=(1.0, 2.0, 4.0), shift=0.5)
    scaling = _latents.published(spec)
    assert scaling.apply(torch.ones(1, 3, 1, 1, 1)).flatten().tolist() == [0.5, 1.0, 2.0]


def test_equal_latents_have_no_scale() -> None:
    with pytest.raises(ValueError, match="nothing to learn"):
        _latents.measured(fake_cache(torch.ones(4, 2, 1, 2, 2)))


# --- tier 0 --------------------------------------------------------------------------------------------------------


def schedule_snr() -> np.ndarray:
    kept = linear().alphas_cumprod.numpy()
    return kept / (1 - kept)


def test_the_linear_denoiser_of_white_latents_has_the_closed_form_over_the_schedule() -> None:
    loss = _latent_statistics.linear_loss(np.ones((3, 2, 4, 4)), schedule_snr())
    np.testing.assert_allclose(loss, linear().alphas_cumprod.numpy())
    assert loss.mean() == pytest.approx(0.275, abs=1e-3)


def coloured(exponent: float, count: int = 64, size: int = 16) -> torch.Tensor:
    """(count, 2, 4, size, size) noise whose DCT power falls as frequency ** exponent, in space."""
    from scipy.fft import idctn

    radius = np.hypot(*np.mgrid[:size, :size])
    radius[0, 0] = 1
    coefficients = np.random.default_rng(0).normal(size=(count, 2, 4, size, size)) * radius ** (exponent / 2)
    return torch.from_numpy(idctn(coefficients, axes=(2, 3, 4), norm="ortho")).float()


@pytest.mark.parametrize("exponent", [0.0, -2.0])
def test_the_slope_of_a_spectrum_is_the_one_it_was_made_with(exponent: float) -> None:
    kept = _latent_statistics.statistics(fake_cache(coloured(exponent)), np.ones(1))
    assert _latent_statistics.slope(*kept["space"]) == pytest.approx(exponent, abs=0.1)
    assert _latent_statistics.slope(np.arange(1, 4), kept["time"][1:]) == pytest.approx(0, abs=0.1)
    assert _latent_statistics.slope(np.arange(1, 3), np.ones(2)) is None


def test_the_linear_loss_of_noise_is_that_of_its_own_spectrum() -> None:
    mean = coloured(-2.0, count=600) + 3  # a constant that a linear denoiser may know
    radius = np.hypot(*np.mgrid[:16, :16])
    radius[0, 0] = 1
    true = np.broadcast_to(radius**-2.0, (2, 4, 16, 16))
    snr = np.array([0.1, 1.0, 100.0])
    kept = _latent_statistics.statistics(fake_cache(mean), snr)
    np.testing.assert_allclose(kept["linear_loss"], _latent_statistics.linear_loss(true, snr), rtol=0.02)


def test_effective_rank_counts_the_directions_in_use() -> None:
    assert _latent_statistics.effective_rank(torch.ones(5)) == pytest.approx(5)
    assert _latent_statistics.effective_rank(torch.tensor([3.0, 0, 0])) == pytest.approx(1)


def test_moments_kl_and_dead_channels_are_those_of_the_aggregated_posterior() -> None:
    generator = torch.Generator().manual_seed(0)
    mean = torch.randn(50, 2, 1, 8, 8, generator=generator) * torch.tensor([0.6, 0.0]).view(2, 1, 1, 1)
    std = torch.tensor([0.8, 1e-3]).view(2, 1, 1, 1).expand_as(mean)
    kept = _latent_statistics.statistics(fake_cache(mean, std), np.ones(1))
    np.testing.assert_allclose(kept["channel_std"], [1.0, 1e-3], rtol=0.02)
    alive = 0.5 * (0.36 + 0.64 - 1 - math.log(0.64))
    dead = 0.5 * (1e-6 - 1 - math.log(1e-6))
    assert float(kept["kl"]) == pytest.approx((alive + dead) / 2, rel=0.01)
    scores = diffusability._of_latents(kept)
    assert scores["dead_channels"].value == 1
    assert scores["slope_time"].value is None


# --- distances and scores ------------------------------------------------------------------------------------------


def test_distances_stand_beside_their_floor_and_interval() -> None:
    rng = np.random.default_rng(0)
    real, rebuilt, fake = rng.normal(size=(3, 300, 4)) + np.array([0, 0.1, 1.0])[:, None, None]
    scores = _generation.distances("i3d", real, rebuilt, fake, ddof=1)
    assert scores["fvd16"].value == frechet(real, fake)
    assert scores["fvd16_floor"].value == noise_floor(real, fake)
    assert scores["fvd16"].low < 4.0 < scores["fvd16"].high  # |1, 1, 1, 1|^2
    assert scores["fvd16_vs_rebuilt"].value < scores["fvd16"].value
    assert scores["rfvd16"].value < 0.1
    assert scores["fvd16_debiased"].value == debiased(real, fake) < scores["fvd16"].value
    assert scores["fvd16_debiased"].high - scores["fvd16_debiased"].low == pytest.approx(
        scores["fvd16"].high - scores["fvd16"].low
    )
    assert "rfvd16_debiased" not in scores  # paired sets
    biased = _generation.distances("i3d", real, rebuilt, fake, ddof=0)["fvd16"].value
    assert biased == frechet(real, fake, ddof=0) != scores["fvd16"].value
    one = _generation.distances("videomae_ssv2", real[:1], rebuilt[:1], fake[:1], ddof=1)
    assert one["fvd16_videomae_ssv2"].value is one["kvd16_videomae_ssv2"].value is None


def test_inception_scores_of_samples_stand_beside_that_of_reals() -> None:
    rng = np.random.default_rng(0)
    fake, real = rng.dirichlet(np.full(101, 0.2), 40), np.eye(101)[np.arange(50)] * 0.9 + 0.1 / 101
    scores = _generation.inception_scores(fake, real)
    assert set(_generation.INCEPTION) < set(scores)
    assert scores["is_debiased_of_reals"].value > scores["is_debiased"].value > 1
    assert scores["is_debiased_of_reals"].n == 50
    assert set(_generation.inception_scores(fake, real[:9])) == set(_generation.INCEPTION)


def test_scored_frames_are_the_first_sixteen_on_the_grid_and_jpeg_is_pillows_75() -> None:
    from io import BytesIO

    from PIL import Image

    video = torch.from_numpy(pictures(17)).permute(3, 0, 1, 2)[None].float() / 127.5 - 1
    plain = _generation.to_frames(video, "none")
    assert plain.shape == (1, 3, 16, 48, 64)
    assert torch.equal((plain * 255).round().byte()[0].permute(1, 2, 3, 0), torch.from_numpy(pictures(17)[:16]))
    file = BytesIO()
    Image.fromarray(pictures(17)[3]).save(file, "JPEG", quality=75)
    through = _generation.to_frames(video, "jpeg75")[0, :, 3].mul(255).round().byte().permute(1, 2, 0)
    assert np.array_equal(through.numpy(), np.asarray(Image.open(file)))


def test_a_video_shows_the_samples_beside_each_other_and_leaves_the_rest_black(tmp_path: Path) -> None:
    video = torch.from_numpy(pictures(5, 33, 40)).permute(3, 0, 1, 2)[None].float() / 127.5 - 1
    file = tmp_path / "samples.mp4"
    _generation.write_video(file, [video] * 4 + [-video])
    with av.open(str(file)) as container:
        shown = np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]).astype(int)
    assert shown.shape == (5, 66, 160, 3)
    expected = pictures(5, 33, 40).astype(int)
    assert np.abs(shown[:, :33, 120:] - expected).mean() < 6
    assert np.abs(shown[:, 33:, :40] - (255 - expected)).mean() < 6
    assert shown[:, 34:, 42:].mean() < 4
    assert not list(tmp_path.glob("*.part"))


def test_a_sample_has_its_own_seed_and_label() -> None:
    assert len({_generation.seed_of(0, number) for number in range(50)} | {_generation.seed_of(1, 0)}) == 51
    assert {_generation.label_of(0, number, 4) for number in range(50)} == {0, 1, 2, 3}


# --- the suite -----------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("small")
def test_a_smoke_test_runs_from_clip_to_table_and_says_what_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("vaes=[pool/4x8x8,dct/16]") == 0
    said = capsys.readouterr()
    lines = said.out.splitlines()
    assert lines[0] == "diffusability · smoke-test-bundle-32px"
    assert lines[1].split()[6] == "denoising_loss"
    assert "SMOKE TEST, a toy model that says nothing of the VAE" in said.err
    assert "absent: fvd16: not available: i3d_torchscript.pt is not here" in said.err
    found = record()
    assert found.extra["smoke_test"] is True
    assert found.scores["denoising_loss"].n == 2  # a quarter of eight clips
    assert "of 2 videos that were not learned" in found.scores["denoising_loss"].note
    assert len(found.extra["denoising_loss"]) == 16
    assert "fvd16" not in found.scores
    from PIL import Image

    with Image.open("results/diffusability/smoke-test-bundle-32px/pool-4x8x8.frames/samples.png") as sheet:
        size = sheet.size
    assert size == (4 * 32, 3 * 32)
    (on_the_way,) = Path("runs").glob(f"{found.extra['samples_video'].partition('/')[0]}/samples-0000002.mp4")
    assert on_the_way.with_suffix(".png").is_file()
    for file in (on_the_way, Path("runs") / found.extra["samples_video"]):
        with av.open(str(file)) as container:
            shown = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
        assert len(shown) == 16
        assert shown[0].shape == (32, (4 if file == on_the_way else 3) * 32, 3)


@pytest.mark.usefixtures("small")
def test_a_finished_training_is_not_repeated_when_scores_are_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    assert run("vaes=[pool/4x8x8]") == 0
    before = record().scores
    for folder in Path("runs").glob("[0-9a-f]*"):
        if not folder.name.startswith("la"):
            shutil.rmtree(folder)
    monkeypatch.setattr(_trained, "train", lambda *_: pytest.fail("trained again"))
    monkeypatch.setattr(_latents, "_encode_shard", lambda *_: pytest.fail("encoded again"))
    assert run("vaes=[pool/4x8x8]") == 0
    assert record().scores == before


@pytest.mark.usefixtures("small")
def test_an_interrupted_training_goes_on_from_its_checkpoint_to_the_same_numbers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    words = ["tier=smoke", "vaes=[pool/4x8x8]", "device=cpu"]
    runner.run(parse_run([*words, "runs=whole", "results=whole"], suite="diffusability"))
    real_train, steps = _trained.train, []

    def stopped(*arguments: Any) -> Iterator[Any]:
        for report in real_train(*arguments):
            steps.append(report.step)
            if report.step == 3 and steps == [1, 2, 3]:
                raise KeyboardInterrupt
            yield report

    monkeypatch.setattr(_trained, "train", stopped)
    with pytest.raises(KeyboardInterrupt):
        runner.run(parse_run(words, suite="diffusability"))
    assert [file.stem for folder in Path("runs").glob("latte-*") for file in checkpoints(folder)] == ["0000002"]
    runner.run(parse_run(words, suite="diffusability"))
    assert steps == [1, 2, 3, 3, 4]
    whole = results.read(Path("whole/diffusability/smoke-test-bundle-32px/pool-4x8x8.json"))
    assert record().extra["denoising_loss"] == whole.extra["denoising_loss"]


@pytest.mark.usefixtures("small")
def test_shards_make_the_record_of_one_run_and_the_first_one_trains(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("vaes=[pool/4x8x8]", "runs=one", "results=one") == 0
    assert run("vaes=[pool/4x8x8]", "shard=1/2") == 0
    assert "waiting for other shards" in capsys.readouterr().err
    assert run("vaes=[pool/4x8x8]", "shard=0/2") == 1  # the other's cases had failed: nothing was trained yet
    assert "run shard=0/n first" in capsys.readouterr().err
    assert run("vaes=[pool/4x8x8]", "shard=1/2") == 0
    one = results.read(Path("one/diffusability/smoke-test-bundle-32px/pool-4x8x8.json"))
    assert record().scores == one.scores


def test_tier_0_trains_nothing_and_takes_any_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_trained, "train", lambda *_: pytest.fail("trained"))
    words = ["run", "--suite", "diffusability", "tier=0", "size=32", "clips=3", "device=cpu", "vaes=[dct/4]"]
    assert cli.main(words) == 0
    found = record("tier0-bundle-32px-first3", "dct-4")
    assert next(iter(found.scores)) == "gaussian_loss"
    assert found.scores["effective_rank"].n == 3
    assert len(found.extra["latents"]["channel_std"]) == 4


def means(name: str, device: torch.device) -> Any:
    """Stands in for a network: the mean colour and a little more of each clip; probabilities for the classifier."""
    if name == "c3d_ucf101":
        raise Unavailable("conv3d_deepnetA_ucf.npz is not here")
    return lambda video: video.double().mean((0, 2, 3, 4)).numpy()


@pytest.mark.usefixtures("small")
def test_ucf_is_learned_with_classes_and_scored_against_reals_and_rebuilt_reals(
    ucf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_generation, "extractor", means)
    monkeypatch.setattr(diffusability.weights, "path", lambda file: ucf / "Archery/v_Archery_g01_c01.avi")
    words = ["vaes=[dct/16]", "data=ucf101", f"root={ucf}"]
    assert run(*words) == 0
    found = record("smoke-test-ucf101*-32px", "dct-16")
    assert found.scores["fvd16"].n == 3
    assert {"fvd16_floor", "fvd16_vs_rebuilt", "rfvd16", "kvd16", "kvd16_vs_rebuilt"} <= set(found.scores)
    assert found.scores["rfvd16"].value < found.scores["fvd16"].value
    assert found.absent["is_debiased"] == "not available: conv3d_deepnetA_ucf.npz is not here"
    checkpoint = torch.load(next(Path("runs").glob("latte-*/0000004.pt")), weights_only=True)
    assert checkpoint["ema"]["y_embedder.embedding_table.weight"].shape[0] == 3  # two classes and the null label
    assert run(*words, "covariance=biased", "real_selection=first2048", "frame_codec=jpeg75", "real_stride=1") == 0
    setting = "smoke-test-ucf101*-32px-real-selection-first2048-covariance-biased-frame-codec-jpeg75-real-stride-1"
    legacy = record(setting, "dct-16")
    assert legacy.scores["denoising_loss"] == found.scores["denoising_loss"]  # the same training
    assert legacy.scores["fvd16"].value != found.scores["fvd16"].value
    assert len(list(Path("runs").glob("latte-*"))) == 1
    assert run(*words, "real_resize=styleganv-tool") == 0
    other = record("smoke-test-ucf101*-32px-real-resize-styleganv-tool", "dct-16")
    assert other.scores["fvd16"].value != found.scores["fvd16"].value
    assert len(list(Path("runs").glob("latte-*"))) == 1
    assert run(*words, "frame_resize=latte") == 0  # learns other latents
    assert len(list(Path("runs").glob("latte-*"))) == 2


@pytest.mark.usefixtures("small")
def test_sky_is_learned_without_classes_and_short_scenes_are_left_out_and_said(
    sky: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_generation, "extractor", means)
    monkeypatch.setattr(diffusability.weights, "path", lambda file: sky / "07/07_1/sky_0.png")
    assert run("vaes=[pool/4x8x8]", "data=skytimelapse", f"root={sky}", "samples=2", "clip_frames=16") == 0
    found = record("smoke-test-skytimelapse_sky_train*-32px-samples-2-clip-frames-16")
    assert [line.split(":")[0] for line in found.extra["latents"]["left_out"]] == ["07/07_2 0"]
    assert "learned, none was held out" in found.scores["denoising_loss"].note
    assert found.scores["fvd16"].value is None  # one real clip is left
    assert found.scores["fvd16"].note == "a Fréchet distance needs 2 videos a side"
    assert "UCF-101 alone" in found.absent["is_debiased"]


def test_samples_of_a_diverged_model_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    model = _generation.Latte(_trained.LatteConfig(3, 1, 2, 2, 1, 2, 16, 2))
    torch.nn.init.constant_(model.final_layer.linear.bias, math.nan)
    scaling = _latents.published(adapters.find("pool/4x8x8"))
    with pytest.raises(ValueError, match=r"2 of 2 samples .* diverged"):
        _generation.generate(model, adapters.load("pool/4x8x8"), scaling, range(2), Sampling("2", "ddim", 1.0), seed=0)


@pytest.mark.usefixtures("small")
def test_clips_of_one_recording_are_held_out_together(ucf: Path) -> None:
    suite = plugins.find("suites", "diffusability").build(
        parse_run(
            ["tier=smoke", "data=ucf101", f"root={ucf}", "device=cpu", "vaes=[pool/4x8x8]"], suite="diffusability"
        )
    )
    subject = suite.open("pool/4x8x8")
    learned = {window.scene for window in subject.learned.windows}
    measured = {window.scene for window in subject.grid.windows}
    assert measured
    assert not learned & measured
    assert not any(window.flipped for window in subject.grid.windows)
    assert subject.latte.classes == 2


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("tier=3", "tier='3' is not one of 0, 1, 2, smoke"),
        ("features=[i3]", "no features i3"),
        ("num_frames=17", "takes no num_frames: set clip_frames"),
        ("posterior=sample", "takes no posterior"),
        ("interval=0", "the interval is at least 1"),
        ("frame_resize=latte", "frame_resize=latte is how ucf101 and skytimelapse are resized, not data=bundle"),
        ("covariance=both", "covariance='both' is not one of unbiased, biased"),
    ],
)
def test_mistakes_are_one_line(word: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["run", "--suite", "diffusability", "vaes=[pool/4x8x8]", word]) == 2
    assert message in capsys.readouterr().err


def test_frames_that_a_vae_cannot_take_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("vaes=[pool/4x8x8]", "clip_frames=17") == 1
    assert "pool/4x8x8 takes 4k frames" in capsys.readouterr().err


@pytest.mark.parametrize(("tier", "depth", "steps"), [("1", 12, 20_000), ("2", 24, 100_000)])
def test_the_tiers_are_latte_b_and_latte_l(tier: str, depth: int, steps: int) -> None:
    chosen = diffusability.TIERS[tier]
    assert (chosen.shape[0], chosen.train.steps, chosen.samples) == (depth, steps, 2048)


def test_seventeen_frames_for_causal_vaes_and_sixteen_for_the_others() -> None:
    suite = plugins.find("suites", "diffusability").build(RunConfig(suite="diffusability"))
    frames = {name: suite._plan(adapters.find(name)).frames for name in ("pool/4x8x8", "wfvae/s-8", "sd/original")}
    assert frames == {"pool/4x8x8": 16, "wfvae/s-8": 17, "sd/original": 16}

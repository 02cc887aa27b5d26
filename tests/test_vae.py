from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import adapters
from vaebench.vae import FrameRule, Posterior, VAESpec, pad, reconstruct
from vaebench.video import to_model, to_score, to_stored

SPEC = VAESpec("toy", "a", 4, 8, 16, causal=True, frames=FrameRule(4, 1), size_multiple=8)


def test_bytes_survive_the_trip_through_both_float_ranges():
    stored = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 1, 16, 16)
    assert torch.equal(to_stored(to_model(stored)), stored)
    assert torch.equal(to_score(to_model(stored)), stored.float() / 255)


def test_scores_are_clamped_and_on_the_8_bit_grid():
    score = to_score(torch.tensor([-3.0, -1.0, 0.0013, 1.0, 9.0]))
    assert score[0] == score[1] == 0
    assert score[3] == score[4] == 1
    assert torch.equal((score * 255).round(), score * 255)


@given(st.integers(1, 9), st.integers(0, 9), st.integers(1, 30), st.integers(1, 200))
def test_fit_is_the_shortest_legal_length_that_holds_the_clip(stride: int, offset: int, minimum: int, frames: int):
    rule = FrameRule(stride, offset % stride, minimum)
    fitted = rule.fit(frames)
    assert fitted >= frames
    assert rule.allows(fitted)
    assert not any(rule.allows(length) for length in range(frames, fitted))


@pytest.mark.parametrize(
    ("rule", "said"), [((8, 1), "8k+1"), ((1, 0), "any"), ((4, 0), "4k"), ((17, 5, 22), "17k+5 >= 22")]
)
def test_a_rule_reads_as_the_field_writes_it(rule: tuple[int, ...], said: str):
    assert str(FrameRule(*rule)) == said


def test_the_latent_shape_of_a_causal_4x8x8():
    assert SPEC.latent_shape((2, 3, 33, 256, 320)) == (2, 16, 9, 32, 40)
    assert SPEC.tcpr == 256


def test_the_latent_of_pieces_that_start_afresh_is_the_sum_of_theirs():
    chunks = replace(SPEC, frames_per_chunk=17)
    assert [chunks.latent_frames(n) for n in (1, 17, 18, 33, 34, 51)] == [1, 5, 6, 9, 10, 15]


def test_padding_repeats_the_last_frame_row_and_column():
    video = torch.rand(1, 3, 6, 10, 12)
    padded = pad(video, SPEC)
    assert padded.shape == (1, 3, 9, 16, 16)
    assert torch.equal(padded[:, :, :6, :10, :12], video)
    assert torch.equal(padded[:, :, 8, :10, :12], video[:, :, 5])
    assert torch.equal(padded[:, :, 0, 15, :12], video[:, :, 0, 9])


def test_a_posterior_without_variance_is_its_mean_and_a_sample_follows_its_generator():
    mean = torch.zeros(1, 2, 1, 4, 4)
    assert Posterior(mean).sample() is mean
    q = Posterior(mean + 3, torch.full_like(mean, 2 * torch.log(torch.tensor(0.5)).item()))
    draws = [q.sample(torch.Generator().manual_seed(seed)) for seed in (0, 0, 1)]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])
    many = torch.cat([q.sample() for _ in range(300)])
    assert many.mean().item() == pytest.approx(3, abs=0.05)
    assert many.std().item() == pytest.approx(0.5, abs=0.05)


class Toy:
    """Encodes and decodes through `pool`, then does one thing wrong."""

    def __init__(self, wrong: str) -> None:
        self.inner = adapters.load("pool/4x8x8")
        self.spec, self.wrong = self.inner.spec, wrong

    def encode(self, video):
        latent = self.inner.encode(video).mean
        if self.wrong in ("plain", "pair"):
            return latent if self.wrong == "plain" else (latent, latent)
        return Posterior(latent[:, :2] if self.wrong == "latent" else latent)

    def decode(self, latent):
        video = self.inner.decode(latent)
        return {"frames": video[:, :, 1:], "nan": video * float("nan")}.get(self.wrong, video)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("latent", "the latent of a video"),
        ("frames", "the reconstruction of a video"),
        ("nan", r"NaN or infinite pixels; try dtype=float32.*, or check encode and decode of the adapter"),
        ("plain", r"encode should return a vaebench.Posterior, got Tensor: return Posterior\(latent\)"),
        (
            "pair",
            r"vaebench.Posterior, got tuple without a tensor `mean`: return Posterior\(mean\) or Posterior",
        ),
    ],
)
def test_the_doorway_names_the_vae_and_both_shapes(wrong: str, said: str):
    with pytest.raises(ValueError, match=said) as caught:
        reconstruct(Toy(wrong), torch.zeros(1, 3, 4, 16, 16))
    assert "pool/4x8x8" in str(caught.value)


class Duck:
    """A distribution of another library, with the members of a posterior."""

    def __init__(self, mean: torch.Tensor) -> None:
        self.mean, self.logvar, self.mode = mean, None, lambda: mean


def test_a_posterior_of_another_library_is_taken():
    toy = Toy("")
    toy.encode = lambda video: Duck(toy.inner.encode(video).mean)
    video = torch.rand(1, 3, 4, 16, 16)
    assert torch.equal(reconstruct(toy, video)[0], reconstruct(toy.inner, video)[0])


def test_every_clip_is_scored_on_its_own_frames_and_pixels():
    video = torch.rand(1, 3, 5, 17, 23) * 2 - 1
    reconstruction, latent = reconstruct(adapters.load("pool/4x8x8"), video)
    assert reconstruction.shape == video.shape
    assert latent.shape == (1, 3, 2, 3, 3)


class Network:
    """A VAE around a network whose pixels are not finite, with or without its weights at fault."""

    spec = SPEC

    def __init__(self, dtype: torch.dtype, weight: float):
        self.dtype = dtype
        self.model = torch.nn.Conv2d(1, 1, 1)
        self.model.weight.data.fill_(weight)

    def encode(self, video):
        return Posterior(torch.zeros(SPEC.latent_shape(video.shape)))

    def decode(self, latent):
        return torch.full((1, 3, 5, 16, 16), float("nan"))


@pytest.mark.parametrize(
    ("dtype", "weight", "advice"),
    [
        (torch.float16, 1.0, "try dtype=float32"),
        (torch.float32, 1.0, r"dtype and weights are valid \(float32, finite\)"),
        (
            torch.float32,
            float("nan"),
            r"1 tensors of the weights have NaN or infinite values \(weight\): replace the weight file",
        ),
    ],
)
def test_the_advice_on_pixels_that_are_not_finite_fits_the_cause(dtype, weight, advice):
    with pytest.raises(ValueError, match=f"NaN or infinite pixels; {advice}") as error:
        reconstruct(Network(dtype, weight), torch.zeros(1, 3, 5, 16, 16))
    assert ("try dtype" in str(error.value)) == (dtype == torch.float16)

"""The hops of a relay have the drift that their closed forms say: blur, bias, projection, truncation, and no loss at all."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from skimage.color import rgb2lab
from torch import Tensor

import adapters
from tests.codecs import SPEC, Codec, biased
from vaebench import plugins
from vaebench.config import RunConfig
from vaebench.metrics.psnr import PSNR
from vaebench.metrics.ssim import SSIM
from vaebench.relay import colour, hops
from vaebench.relay.content import Timeline
from vaebench.relay.hops import Encoder, Hop
from vaebench.relay.measure import high_frequency_ratio, hops_of, measure
from vaebench.relay.protocols import Content, Handover, Relay, relay
from vaebench.relay.summaries import hops_to_drop, slope
from vaebench.vae import FrameRule, Posterior, VideoVAE
from vaebench.video import to_model

LOSSLESS = Relay("loop", 3, 3, 3, False, Handover())  # nothing but the codec
METRICS = {"psnr": PSNR(), "ssim": SSIM()}


def video(frames: int = 9, size: int = 16, seed: int = 0) -> Tensor:
    """(1, 3, T, H, W) in -1..1: 8-bit noise around mid-grey, far enough from black and white for ten hops."""
    generator = torch.Generator().manual_seed(seed)
    return to_model(torch.randint(88, 168, (1, 3, frames, size, size), generator=generator, dtype=torch.uint8))


def run(vae: VideoVAE, source: Tensor, made: Relay, count: int, content: Content = "copy") -> list[Hop]:
    return list(hops_of(Encoder(vae), Timeline(source, made, content), count))


def measured(vae: VideoVAE, source: Tensor, made: Relay, count: int, content: Content = "copy") -> dict:
    return measure(vae, Timeline(source, made, content), count, METRICS)


def test_a_blur_codec_loses_what_its_transfer_function_says() -> None:
    source = video(3).double()
    frequency = torch.fft.fftfreq(16, dtype=torch.float64)
    transfer = 0.5 + 0.25 * (torch.cos(2 * torch.pi * frequency)[:, None] + torch.cos(2 * torch.pi * frequency))
    codec = Codec(lambda x: torch.fft.ifft2(torch.fft.fft2(x) * transfer).real)
    found = run(codec, source, LOSSLESS, 10)
    spectrum = torch.fft.fft2(source).abs().square()  # unnormalised
    for n in (1, 5, 10):
        expected = (spectrum * (1 - transfer**n).square()).sum((-1, -2)) / (16 * 16) ** 2
        mse = (found[n].carried - source).square().mean((-1, -2))
        torch.testing.assert_close(mse, expected, rtol=1e-11, atol=1e-15)


@pytest.mark.parametrize("name", ["skyreels-v2", "svi-film", "loop", "static"])
def test_a_bias_codec_shifts_the_mean_by_its_bias_per_hop(name: str) -> None:
    made = relay(name, 33)
    made = replace(made, handover=replace(made.handover, operations=()))
    values = measured(biased(1.5), video(5), made, 4)
    np.testing.assert_allclose(values["shift"], [[1.5 * n] * 3 for n in (1, 2, 3, 4)], atol=1e-3)


def test_a_projection_codec_loses_at_hop_1_and_then_nothing() -> None:
    psnr = measured(adapters.load("pool/1x8x8"), video(), relay("skyreels-v2", 33), 5)["psnr"]
    assert psnr[0] < 30
    np.testing.assert_allclose(psnr, psnr[0], atol=1e-4)


class Noisy(Codec):
    """Adds other noise of 2 levels at every decode, with a mean of zero."""

    def __init__(self) -> None:
        self.generator = torch.Generator().manual_seed(0)
        super().__init__(decode=lambda z: z + 2 / 127.5 * (2 * torch.rand(z.shape, generator=self.generator) - 1))


@pytest.mark.parametrize(("name", "levels"), [("truncate8", -0.5), ("round8", 0.0)])
def test_truncation_costs_half_a_level_per_hop_if_the_codec_has_an_error_and_rounding_costs_nothing(
    name: str, levels: float
) -> None:
    made = replace(LOSSLESS, handover=Handover((name,)))
    shift = measured(Noisy(), video(3, 64), made, 10)["shift"].mean(axis=1)
    assert slope(shift) == pytest.approx(levels, abs=0.02)
    assert shift[-1] == pytest.approx(10 * levels, abs=0.1)


@pytest.mark.parametrize("name", ["loop", "static", "skyreels-v2", "skyreels-v2-latent"])
@pytest.mark.parametrize("content", ["copy", "teacher"])
def test_an_identity_vae_is_exact_where_nothing_is_truncated_or_compressed(name: str, content: Content) -> None:
    made = relay(name, 33)
    if name == "static":
        made = replace(made, handover=replace(made.handover, operations=("round8",)))
    values = measured(Codec(), video(40), made, 3, content)
    assert (values["psnr"] > 58.92).all()
    np.testing.assert_allclose(values["shift"], 0, atol=1e-5)
    np.testing.assert_allclose(values["high_frequency"], 1, atol=1e-5)
    np.testing.assert_allclose(values["latent_drift"], 0, atol=1e-6)
    if not made.latents:
        np.testing.assert_allclose(values["cycle"], 0, atol=1e-6)
        np.testing.assert_allclose(values["overlap_error"], 0, atol=1e-6)
        assert np.isnan(values["seam"][0])
        assert (values["seam"][1:] > 58.92).all()


@pytest.mark.parametrize("name", ["loop", "svi-shot", "ltx-first-frame", "ltx-latent", "skyreels-v2-latent"])
def test_no_hop_returns_the_source(name: str) -> None:
    source, made = video(33), relay(name, 33)
    (only,) = run(biased(9), source, made, 0)
    assert only.number == 0
    first = 33 - made.overlap if made.step else 0
    assert torch.equal(only.carried, source[:, :, first : first + made.overlap])


def test_copy_repeats_the_last_carried_frame_and_teacher_shows_the_true_video() -> None:
    source, made = video(20), replace(relay("svi-film", 13), handover=Handover())
    seen = {content: Codec() for content in ("copy", "teacher")}
    for content, codec in seen.items():
        run(codec, source, made, 3, content)  # type: ignore[arg-type]
    copied, taught = seen["copy"].encoded, seen["teacher"].encoded
    assert torch.equal(copied[0], source[:, :, :13])
    assert torch.equal(taught[0], source[:, :, :13])
    still = source[:, :, 12:13]
    assert torch.equal(copied[1], torch.cat([source[:, :, 8:13], still.expand(-1, -1, 8, -1, -1)], dim=2))
    assert torch.equal(copied[2], still.expand(-1, -1, 13, -1, -1))
    # frames 8 to 20: the clip has 20, so the one after the last is the one before it
    torch.testing.assert_close(taught[1], source[:, :, [*range(8, 20), 18]])
    torch.testing.assert_close(taught[2], source[:, :, [*range(16, 20), *range(18, 9, -1)]])


def test_teacher_lets_colour_drift_and_detail_not() -> None:
    board = ((torch.arange(64)[:, None] + torch.arange(64)) % 2 * 2 - 1) * 4 / 127.5
    made = replace(relay("svi-shot", 17), handover=Handover())
    detail = Codec(decode=lambda z: z + board)
    for content, hop_3 in (("copy", 12.0), ("teacher", 4.0)):
        error = [
            (hop.carried - hop.reference).abs().mean() * 127.5 for hop in run(detail, video(17, 64), made, 3, content)
        ]  # type: ignore[arg-type]
        assert float(error[1]) == pytest.approx(4, abs=1e-3)
        assert float(error[3]) == pytest.approx(hop_3, abs=0.01)
    shift = measured(biased(2), video(17, 64), made, 3, "teacher")["shift"]
    np.testing.assert_allclose(shift[:, 0], [2, 4, 6], atol=1e-3)


def test_carried_frames_are_encoded_with_what_the_protocol_puts_behind_them() -> None:
    mixing = Codec(lambda x: x - x.mean(dim=2, keepdim=True))  # not causal: every latent depends on all frames
    source = video(13)
    expected = {
        "skyreels-v2": lambda c: c,
        "svi-film": lambda c: torch.cat([c, torch.zeros_like(c[:, :, :1]).expand(-1, -1, 8, -1, -1)], dim=2),
        "svi-shot": lambda c: torch.cat([c, source[:, :, :1].expand(-1, -1, 12, -1, -1)], dim=2),
    }
    for name, behind in expected.items():
        made = relay(name, 13 if name != "skyreels-v2" else 21)
        first, second = run(mixing, source, made, 2)[1:]
        own = behind(first.carried)
        head = (own - own.mean(dim=2, keepdim=True))[:, :, : made.overlap]
        torch.testing.assert_close(second.latent[:, :, : made.overlap], head)


def test_a_loop_encodes_every_window_once_for_hop_and_drift() -> None:
    codec = Codec()
    measured(codec, video(3), LOSSLESS, 4)
    # source, reference, and per hop the decoded window (cycle) and the carried one (drift, and the next hop)
    assert len(codec.encoded) == 2 + 2 * 4


def test_a_sample_is_drawn_where_the_protocol_samples() -> None:
    class Wide(Codec):
        def encode(self, x: Tensor) -> Posterior:
            return Posterior(x, torch.full_like(x, -2.0))

    made = replace(relay("ltx-first-frame", 9), handover=Handover((), "alone", "sample"))
    timeline = Timeline(video(9), made, "copy")
    drawn = [
        list(hops_of(Encoder(Wide()), timeline, 1, generator=torch.Generator().manual_seed(3)))[1].latent for _ in "ab"
    ]
    assert torch.equal(*drawn)
    noise = drawn[0] - timeline.window(0)
    assert float(noise.std()) == pytest.approx(np.exp(-1), rel=0.05)
    plain = list(hops_of(Encoder(Wide()), timeline, 1, posterior="mode"))[1].latent
    assert torch.equal(plain, timeline.window(0))


def test_the_first_overlap_latent_of_a_causal_vae_differs_most() -> None:
    # in its old window the first carried frame was not an image
    clips = plugins.find("data", "bundle").build(RunConfig(num_frames=33, size=64))
    clip = next(clip for clip in clips if clip.id == "bundle/cars_overhead")
    source = to_model(clip.load())[None]
    errors = measured(adapters.load("wfvae/tiny"), source, relay("skyreels-v2", 33), 1)["overlap_error"]
    assert errors.shape == (1, 5)
    assert errors[0, 0] > 2 * errors[0, 1:].max()


def test_only_whole_latents_of_the_carried_frames_are_replaced() -> None:
    four = replace(SPEC, temporal_compression=4)
    assert [hops.whole_latents(SPEC, n) for n in (1, 5)] == [1, 5]
    causal, blocks = replace(four, frames=FrameRule(4, 1)), replace(four, frames=FrameRule(4))
    assert [hops.whole_latents(causal, n) for n in (1, 4, 5, 17)] == [1, 1, 2, 5]
    assert [hops.whole_latents(blocks, n) for n in (1, 4, 5, 17)] == [0, 1, 1, 4]


def test_latents_are_handed_over_without_a_round_trip() -> None:
    made = relay("skyreels-v2-latent", 33)
    assert (made.window, made.overlap, made.step) == (33, 17, 16)
    codec, source = biased(2), video(70)
    found = run(codec, source, made, 3, "teacher")
    assert len(codec.encoded) == 3  # a window each
    for n, hop in enumerate(found[1:]):
        torch.testing.assert_close(hop.carried, source[:, :, 16 * (n + 1) : 16 * (n + 1) + 17] + 2 / 127.5)


def test_latents_of_a_causal_vae_are_joined_into_one_video() -> None:
    vae = adapters.load("wfvae/tiny-random")
    source, made = video(49, 32), relay("skyreels-v2-latent", 33)
    one, two = run(vae, source, made, 2, "teacher")[1:]
    joined = torch.cat([one.latent, two.latent[:, :, 5:]], dim=2)
    whole = vae.decode(joined)
    torch.testing.assert_close(one.carried, whole[:, :, 16:33])
    torch.testing.assert_close(two.carried, whole[:, :, 32:49])
    assert torch.equal(two.latent[:, :, :5], one.latent[:, :, 4:])
    own = vae.encode(source[:, :, 16:49]).mode()
    torch.testing.assert_close(two.latent[:, :, 5:], own[:, :, 5:])


def test_ltx_latents_get_a_quarter_of_the_first_windows_statistics() -> None:
    made = relay("ltx-latent", 33)
    source = video(60)
    source[:, :, 33:] *= 0.5  # less contrast behind the first window
    only = replace(made, handover=Handover(adain=0.25))
    (_, one, two) = run(Codec(), source, only, 2, "teacher")
    own = source[:, :, made.step : made.step + made.window]
    mean, std = own.mean((2, 3, 4), keepdim=True), own.std((2, 3, 4), keepdim=True)
    first = one.latent
    as_first = (own - mean) / std * first.std((2, 3, 4), keepdim=True) + first.mean((2, 3, 4), keepdim=True)
    torch.testing.assert_close(two.latent[:, :, made.overlap :], (0.75 * own + 0.25 * as_first)[:, :, made.overlap :])
    assert torch.equal(two.latent[:, :, : made.overlap], one.latent[:, :, made.step :])


def test_ltx_latents_are_blended_over_the_overlap() -> None:
    made = replace(relay("ltx-latent", 33), handover=Handover(strength=0.5, crossfade=16))
    one, two = torch.zeros(1, 3, 33, 16, 16), torch.ones(1, 3, 33, 16, 16)
    numbers = iter([one, two])
    # the own latents of the second window are 1, those carried are 0: half of it is 0.5, faded in over 16 of 17 frames
    head = run(Codec(lambda x: next(numbers)), video(60), made, 2)[2].latent[0, 0, :17, 0, 0]
    torch.testing.assert_close(head, torch.tensor([0.0, *(0.5 * k / 17 for k in range(1, 17))]))


def test_a_vae_that_restarts_within_a_window_cannot_hand_over_latents() -> None:
    codec = Codec()
    codec.spec = replace(SPEC, frames_per_chunk=8)
    with pytest.raises(ValueError, match="codec/a cannot run skyreels-v2-latent: its encoder restarts every 8 frames"):
        run(codec, video(33), relay("skyreels-v2-latent", 33), 1)
    codec.spec = replace(SPEC, temporal_compression=3)
    with pytest.raises(ValueError, match="adds 16 frames, which is not a multiple of its temporal compression 3"):
        run(codec, video(33), relay("skyreels-v2-latent", 33), 1)


@pytest.mark.parametrize(
    ("name", "window", "expected"),
    [
        ("loop", 0, (17, 17, 17)), ("loop", 33, (17, 17, 17)), ("loop", 9, (9, 9, 17)), ("static", 0, (17, 1, 17)),
        ("ltx-first-frame", 0, (121, 1, 121)), ("ltx-first-frame", 33, (33, 1, 121)), ("ltx-latent", 0, (73, 17, 73)),
        ("skyreels-v2", 0, (97, 17, 97)), ("skyreels-v2", 33, (33, 17, 97)), ("skyreels-v2-latent", 0, (97, 17, 97)),
        ("skyreels-v2-latent", 33, (33, 17, 97)), ("svi-film", 33, (33, 5, 81)), ("svi-shot", 100, (81, 1, 81)),
    ],
)  # fmt: skip
def test_a_shortened_window_has_the_same_overlap_and_says_so(
    name: str, window: int, expected: tuple[int, int, int]
) -> None:
    made = relay(name, window)
    assert (made.window, made.overlap, made.own_window) == expected
    short = f"shortened window: {made.window} frames instead of {made.own_window}, with the same overlap"
    assert made.note == ("" if made.window == made.own_window else short)


def test_a_window_that_is_not_longer_than_the_overlap_is_refused() -> None:
    with pytest.raises(ValueError, match="overlap=17 should be less than window=17"):
        relay("skyreels-v2", 17)
    with pytest.raises(ValueError, match=r"no protocol 'skyreels-v3'; did you mean 'skyreels-v2'\?"):
        relay("skyreels-v3")


def test_high_frequencies_are_compared_by_the_laplacian() -> None:
    x = video(2)
    assert high_frequency_ratio(0.5 * x + 0.1, x) == pytest.approx(0.25, rel=1e-5)
    assert np.isnan(high_frequency_ratio(x, torch.zeros_like(x)))
    ramp = torch.arange(16.0).expand(1, 3, 2, 16, 16) / 100
    assert high_frequency_ratio(x + ramp, x) == pytest.approx(1, rel=1e-5)  # a ramp has none


def test_a_colour_difference_is_that_of_scikit_image_and_of_grey_a_lightness() -> None:
    for rgb in np.random.default_rng(0).uniform(size=(20, 3)):
        np.testing.assert_allclose(colour.lab(rgb), rgb2lab(rgb), atol=0.02)  # its white has 5 digits
    flat = lambda *rgb: 2 * torch.tensor(rgb).view(1, 3, 1, 1, 1).expand(-1, -1, 2, 4, 4) - 1  # noqa: E731
    assert colour.delta_e(flat(0.0, 0.0, 0.0), flat(1.0, 1.0, 1.0)) == pytest.approx(100)
    # a linear grey of 18.42 % has half the lightness of white
    assert colour.delta_e(flat(0.0, 0.0, 0.0), flat(*[0.46633] * 3)) == pytest.approx(50, abs=0.01)
    red, blue = np.array([53.24, 80.09, 67.20]), np.array([32.30, 79.19, -107.86])
    expected = float(np.linalg.norm(red - blue))
    assert colour.delta_e(flat(1.0, 0.0, 0.0), flat(0.0, 0.0, 1.0)) == pytest.approx(expected, abs=0.02)
    values = measured(biased(2), video(3), LOSSLESS, 3)["delta_e"]
    mean = (video(3).double().mean((0, 2, 3, 4)).numpy() + 1) / 2
    moved = [np.linalg.norm(colour.lab(mean + 2 * n / 255) - colour.lab(mean)) for n in (1, 2, 3)]
    np.testing.assert_allclose(values, moved, atol=1e-4)


def test_summaries_are_a_line_from_hop_2_and_a_crossing() -> None:
    assert slope(np.array([40.0, 30.0, 28.0, 26.0])) == pytest.approx(-2)
    assert np.isnan(slope(np.array([40.0, 30.0])))
    assert hops_to_drop(np.array([30.0, 29.0, 26.0])) == pytest.approx(2 + 2 / 3)
    assert hops_to_drop(np.array([30.0, 25.0])) == pytest.approx(1.6)
    assert np.isnan(hops_to_drop(np.array([30.0, 27.1, 27.1])))

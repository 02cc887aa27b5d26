"""Statistics of latents against closed forms, the official code of SSVAE, and transformations with a known effect."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from tests.fields import ar1, white
from tests.goldens_io import Golden, goldens
from vaebench.generation.latte.diffusion import linear
from vaebench.latents import channels, correlation, gaussian, posterior, spectrum
from vaebench.latents.jackknife import jackknife, mean, without_each
from vaebench.latents.passes import Basis, first, second
from vaebench.latents.scores import LATENTS, scores
from vaebench.records import Score, interval
from wfvae.objective import LCRConfig

OFFICIAL = goldens(lambda m: "lcr_config" in m and "dlcr" not in m.get("what", ""))
HALVES = 2.0 ** -np.arange(1, 9)  # eigenvalues of eight channels


def described(*latents: NDArray) -> list[dict[str, NDArray]]:
    """Both passes over a set of latents (C, t, h, w)."""
    basis = Basis.of(mean([first(latent) for latent in latents]))
    return [first(latent) | second(latent, basis) for latent in latents]


def scores_of(clips: list[dict[str, NDArray]]) -> dict[str, Score]:
    return scores(LATENTS, clips, ())


def values(*latents: NDArray) -> dict[str, float | None]:
    return {name: score.value for name, score in scores_of(described(*latents)).items()}


def test_local_correlation_of_an_ar1_field_is_the_mean_product_of_its_coefficients() -> None:
    z = ar1((256, 9, 32, 32), (0.9, 0.8, 0.7))
    found = correlation.local_correlation(z / z.std(axis=(1, 2, 3), keepdims=True))
    assert found[0] == pytest.approx((0.8 + 0.7 + 0.56) / 3, abs=0.01)  # .6867
    assert found[1] == pytest.approx((0.9 + 0.8 + 0.7 + 0.72 + 0.63 + 0.56 + 0.504) / 7, abs=0.01)  # .6877


@pytest.mark.parametrize("golden", OFFICIAL, ids=str)
def test_local_correlation_of_a_set_is_the_official_one_of_a_batch(golden: Golden) -> None:
    t, given = golden.tensors(), golden.json("lcr_config")
    config = LCRConfig(window=tuple(given["window_size"]), pearson=given.get("ac_renorm", True))
    means = t["moments"].chunk(2, dim=1)[0].numpy()  # (B, C, t, h, w)
    basis = Basis.of(mean([first(latent) for latent in means]))
    local = np.mean([correlation.local_correlation(basis.standardize(latent), config) for latent in means], axis=0)
    off = 2e-6
    if not config.pearson:
        # a dot product, unlike a correlation, shows that the official variance is unbiased and that 1e-6 is added to its root
        n = means[:, 0].size
        local, off = local * (n - 1) / n, 5e-6
    assert local[0] == pytest.approx(t["image_localcorr"].item(), abs=off)
    if "video_localcorr" in t:
        assert local[1] == pytest.approx(t["video_localcorr"].item(), abs=off)
    if given.get("weight_type", "average") == "average":
        assert correlation.average(local) == pytest.approx(t["avg_localcorr"].item(), abs=off)


@pytest.mark.parametrize(("axis", "a"), [(1, 0.9), (2, 0.8), (3, 0.7)])
def test_autocorrelation_of_an_ar1_field_is_a_power_and_its_e_fold_length_a_logarithm(axis: int, a: float) -> None:
    z = ar1((64, 24, 32, 32), (0.9, 0.8, 0.7))
    rho = correlation.autocorrelation(correlation.products(z / z.std(), axis))
    np.testing.assert_allclose(rho[:4], a ** np.arange(1, 5), atol=0.03)
    assert correlation.efold(a ** np.arange(1.0, 30)) == pytest.approx(-1 / math.log(a))
    assert correlation.efold(rho) == pytest.approx(-1 / math.log(a), rel=0.1)


def test_frames_rows_and_columns_that_fill_no_window_are_left_out_of_local_correlation() -> None:
    z = ar1((16, 6, 9, 11), (0.5, 0.8, 0.7))
    np.testing.assert_array_equal(correlation.local_correlation(z), correlation.local_correlation(z[:, :5, :8, :10]))
    assert math.isnan(correlation.local_correlation(z[:, :2])[1])
    with pytest.raises(ValueError, match="at least 2 x 2 positions, got 9 x 1"):
        correlation.local_correlation(z[..., :1])


def test_an_e_fold_length_beyond_the_latent_is_undefined_and_a_negative_correlation_is_crossed_in_a_line() -> None:
    with pytest.raises(ValueError, match="stays above 1/e up to the largest lag, 4"):
        correlation.efold(np.full(4, 0.9))
    assert correlation.efold(np.array([-1.0])) == pytest.approx((1 - math.exp(-1)) / 2)


def test_white_noise_has_flat_spectra_and_no_correlation() -> None:
    found = values(*white(8, 8, 9, 32, 32))
    share = (spectrum.block_frequency() > 0.5).mean()
    expected = {"localcorr": 0, "autocorr_t": 0, "autocorr_x": 0, "dct_lf": 8 / 64, "dct_hf": share, "slope_space": 0,
                "slope_time": 0, "gaussian_mmse": 1, "subband_low_share": 1 / 8, "skewness": 0,
                "excess_kurtosis": 0, "participation_ratio_share": 1, "std": 1, "dead_channels": 0, "code_length": 0}  # fmt: skip
    assert {name: found[name] for name in expected} == pytest.approx(expected, abs=0.03)
    assert found["subband_entropy"] == pytest.approx(0.5 * math.log2(2 * math.pi * math.e) + 3, abs=0.02)


def test_a_smooth_field_has_low_frequencies_and_a_shorter_code() -> None:
    found = values(*(ar1((8, 9, 32, 32), (0.5, 0.8, 0.8), seed=seed) for seed in range(4)))
    assert found["slope_space"] < -1
    assert found["slope_time"] < -0.3
    assert found["dct_lf"] > 0.4
    assert found["gaussian_mmse"] < 0.8
    # the innovations of a separable AR(1) field decide its code length; the first value of an axis has none
    expected = sum(0.5 * (n - 1) / n * math.log2(1 - a**2) for n, a in ((9, 0.5), (32, 0.8), (32, 0.8)))
    assert found["code_length"] == pytest.approx(expected, abs=0.1)


def test_a_shuffle_of_positions_removes_all_correlation_and_keeps_the_channels() -> None:
    field = ar1((8, 9, 32, 32), (0.9, 0.8, 0.7)) * np.sqrt(HALVES).reshape(-1, 1, 1, 1)
    shuffled = field.reshape(8, -1)[:, np.random.default_rng(0).permutation(9 * 1024)].reshape(field.shape)
    before, after = values(field), values(shuffled)
    assert before["localcorr"] > 0.3
    assert after["localcorr"] == pytest.approx(0, abs=0.02)
    assert after["slope_space"] == pytest.approx(0, abs=0.05)
    assert after["participation_ratio"] == pytest.approx(before["participation_ratio"])
    assert after["skewness"] == pytest.approx(before["skewness"])


@pytest.mark.parametrize("change", ["scale", "scale of each channel", "permutation"])
def test_scaling_and_permuting_channels_changes_no_standardized_statistic(change: str) -> None:
    field = ar1((6, 5, 16, 16), (0.5, 0.8, 0.7)) + 2
    field[1] += 0.5 * field[0]
    factors = {"scale": np.full(6, 7.5), "scale of each channel": np.arange(1.0, 7), "permutation": np.ones(6)}[change]
    changed = field * factors.reshape(-1, 1, 1, 1)
    if change == "permutation":
        changed = changed[[3, 1, 5, 0, 2, 4]]
    before, after = values(field), values(changed)
    raw = {"std", "std_spread", "kl_bits_per_element", "kl_bits_per_pixel", "noise_share", "collapsed_channels"}
    raw |= set() if change != "scale of each channel" else {
        f"{name}{end}" for name in ("participation_ratio", "effective_rank", "k90", "top1") for end in ("", "_share")}  # fmt: skip
    same = [name for name, value in before.items() if name not in raw and value is not None]
    assert len(same) > 20
    assert {name: after[name] for name in same} == pytest.approx(
        {name: before[name] for name in same}, rel=1e-6, abs=1e-9
    )


def test_orthogonal_mixing_of_channels_keeps_the_raw_eigenvalues() -> None:
    field = white(8, 5, 16, 16) * np.sqrt(HALVES).reshape(-1, 1, 1, 1)
    mixing = np.linalg.qr(white(8, 8, seed=1))[0]
    before, after = values(field), values(np.tensordot(mixing, field, 1))
    for name in ("participation_ratio", "effective_rank", "k90", "top1"):
        assert after[name] == pytest.approx(before[name])
    # standardized statistics do change: the mixed channels are correlated
    assert abs(after["participation_ratio_standardized"] - before["participation_ratio_standardized"]) > 0.5


def test_eigenvalues_of_halves_have_the_closed_forms() -> None:
    share = HALVES / HALVES.sum()
    assert channels.participation_ratio(HALVES) == pytest.approx(2.977, abs=1e-3)
    assert channels.top1(HALVES) == pytest.approx(0.502, abs=1e-3)
    assert channels.effective_rank(HALVES) == pytest.approx(math.exp(-(share * np.log(share)).sum()))
    assert channels.k90(HALVES) == 4  # 1/2 + 1/4 + 1/8 = .875 of .996, with 1/16 .941
    for rank in (channels.participation_ratio, channels.effective_rank):
        assert rank(np.ones(5)) == pytest.approx(5)
        assert rank(np.array([3.0, 0, 0])) == pytest.approx(1)
    assert channels.k90(np.ones(10)) == 9
    with pytest.raises(ValueError, match="no variance"):
        channels.top1(np.zeros(3))


def test_eigenvalues_of_latents_are_those_of_their_covariance() -> None:
    mixing = white(4, 4)
    latents = np.einsum("dc,bcthw->bdthw", mixing, white(2, 4, 5, 8, 8, seed=1)) + 3
    rows = np.moveaxis(latents, 1, 0).reshape(4, -1)
    m = mean([first(latent) for latent in latents])
    covariance = channels.covariance(m["mean"], m["products"])
    np.testing.assert_allclose(covariance, np.cov(rows, ddof=0))
    np.testing.assert_allclose(channels.correlation(covariance), np.corrcoef(rows))


def test_the_gaussian_denoiser_of_a_flat_spectrum_is_1_and_that_of_halves_is_known() -> None:
    assert gaussian.mmse(np.full((3, 4), 2.0), np.array([0.1, 1, 10])) == pytest.approx(1)
    power = 8 * HALVES / HALVES.sum()  # unit mean power
    direct = (power / (power + 1)).mean() / 0.5
    assert gaussian.mmse(power, np.ones(1))[0] == pytest.approx(direct)
    assert gaussian.mmse(power, np.ones(1))[0] == pytest.approx(0.676, abs=1e-3)
    weighted = gaussian.mmse(np.array([1.0, 3.0]), np.ones(1), np.array([2, 1]))
    assert weighted == pytest.approx(gaussian.mmse(np.array([1.0, 1, 3]), np.ones(1)))


def test_code_length_and_rate_are_half_mean_logarithms() -> None:
    assert gaussian.code_length(np.array([4.0, 0.25])) == pytest.approx(0)
    assert gaussian.code_length(np.array([4.0, 1.0]), np.array([3, 1])) == pytest.approx(0.75)
    assert gaussian.rate(np.array([3.0, 15.0]), 1.0) == pytest.approx(0.5 * (2 + 4) / 2)
    assert gaussian.rate(np.array([3.0]), 0.5) == pytest.approx(0.5 * math.log2(13))
    with pytest.raises(ValueError, match="no variance"):
        gaussian.code_length(np.array([1.0, 0.0]))


@pytest.mark.parametrize(("exponent", "known"), [(0, 0.275), (-1, 0.269), (-2, 0.235), (-3, 0.15)])
def test_the_mean_gaussian_loss_over_the_linear_schedule_is_the_known_one(exponent: int, known: float) -> None:
    kept = linear().alphas_cumprod.numpy()
    frequencies = np.meshgrid(*(np.fft.fftfreq(size) for size in (5, 32, 32)))
    k = np.sqrt(sum(np.square(axis) for axis in frequencies))
    power = k[k > 0] ** exponent
    loss = gaussian.linear_loss(power / power.mean(), kept / (1 - kept)).mean()
    assert loss == pytest.approx(known, abs=0.005)


def test_kl_is_the_closed_form_in_bits_and_a_posterior_equal_to_the_prior_is_collapsed() -> None:
    average, variance = np.zeros((3, 2, 4, 4)), np.ones((3, 2, 4, 4))
    average[1], variance[1] = 0.6, 0.64
    variance[2] = 0.5
    kl = posterior.kl_bits(average, variance)
    nats = [0, 0.5 * (0.36 + 0.64 - 1 - math.log(0.64)), 0.5 * (0.5 - 1 - math.log(0.5))]
    np.testing.assert_allclose(kl, np.array(nats) / math.log(2))
    assert posterior.collapsed(kl) == pytest.approx(1 / 3)
    assert posterior.noise_share(np.array([1.0, 3.0]), np.diag([1.0, 1.0])) == pytest.approx((0.5 + 0.75) / 2)


@pytest.mark.parametrize("golden", OFFICIAL, ids=str)
def test_kl_is_that_of_the_official_regularizer(golden: Golden) -> None:
    t = golden.tensors()
    means, logvar = t["moments"].double().chunk(2, dim=1)
    kl = np.mean([posterior.kl_bits(m.numpy(), v.exp().numpy()) for m, v in zip(means, logvar, strict=True)], axis=0)
    assert kl.mean() * math.log(2) == pytest.approx(t["element_mean_kl_loss"].item(), rel=1e-5)
    per_clip = kl.mean() * math.log(2) * means[0].numel()
    assert per_clip == pytest.approx(t["kl_loss"].item(), rel=1e-5)


def test_zigzag_starts_at_dc_and_follows_the_sum_of_indices() -> None:
    z = np.zeros((1, 9, 8, 8))
    t = np.arange(8).reshape(8, 1, 1)
    z[0, 1:] = np.cos(np.pi * (t + 0.5) * 1 / 8)  # one frequency: u = 1, v = w = 0
    power = spectrum.zigzag(z)
    assert len(power) == 512
    assert power.argmax() == 3  # after (0,0,0), (0,0,1), (0,1,0)
    assert power[3] == pytest.approx(power.sum())


def test_high_frequency_excess_is_0_for_equal_spectra_and_the_log_of_an_amplification() -> None:
    field = ar1((3, 4, 32, 32), (0.0, 0.8, 0.8))
    blocks = spectrum.block_power(field)
    assert spectrum.excess(blocks, blocks) == 0
    amplified = blocks.copy().ravel()
    amplified[spectrum.jpeg_order()[17:]] *= 4
    assert spectrum.excess(amplified.reshape(8, 8), blocks) == pytest.approx(math.log(2))
    assert list(spectrum.jpeg_order()[:6]) == [0, 1, 8, 16, 9, 2]


def test_the_power_of_a_latent_is_its_energy_and_bands_keep_it() -> None:
    z = white(2, 3, 6, 10)
    power = spectrum.power(z)
    assert power.sum() == pytest.approx(np.square(z).sum())
    assert list(spectrum.band_starts(20)) == [0, 1, 2, 3, 4, 6, 8, 12, 16]
    assert list(spectrum.band_starts(1)) == [0]
    weights = spectrum.band_weights(3, 6, 10)
    assert weights.sum() == 180
    assert (spectrum.bands(power) * weights).sum() == pytest.approx(power.sum())
    assert spectrum.bands(power)[1, 2, 4, 0] == pytest.approx(power[1, 2, 4:6, 0].mean())


def test_the_jackknife_of_a_mean_is_students_interval_and_of_a_ratio_covers_it() -> None:
    clips = [{"a": np.array(x), "b": np.array(y)} for x, y in np.random.default_rng(0).uniform(1, 2, (12, 2))]
    a = np.array([clip["a"] for clip in clips])
    found = jackknife(lambda m: float(m["a"]), float(a.mean()), without_each(clips))
    assert found == pytest.approx(interval(a))
    ratio = float(mean(clips)["a"] / mean(clips)["b"])
    stderr, low, high = jackknife(lambda m: float(m["a"] / m["b"]), ratio, without_each(clips))
    assert low < ratio < high
    residual = (a - ratio * np.array([clip["b"] for clip in clips])) / mean(clips)["b"]  # the linearized statistic
    assert stderr == pytest.approx(float(residual.std(ddof=1) / math.sqrt(12)), rel=0.05)
    assert jackknife(lambda m: 1.0, 1.0, without_each(clips[:2])) == (None, None, None)


def test_a_constant_channel_is_reported_and_does_not_disturb_the_others() -> None:
    field = ar1((5, 5, 16, 16), (0.5, 0.8, 0.7))
    field[4] = 3.0
    found = scores_of(described(field))
    assert found["dead_channels"].value == 1
    assert found["std_spread"].status == "undefined"
    assert (
        found["code_length"].note
        == "a frequency or an eigenmode has no variance over the set, so the code length is minus infinity"
    )
    assert found["dct_lf"].value == pytest.approx(values(field[:4])["dct_lf"])
    assert all(math.isfinite(score.value) for score in found.values() if score.value is not None)


def test_latents_too_small_for_a_statistic_keep_its_row_with_the_reason() -> None:
    found = scores_of(described(white(4, 4, 6, 6)))
    assert found["dct_lf"].status == "undefined"
    assert "at least 8 x 8 positions, got a latent of 4 x 6 x 6" in found["dct_lf"].note
    assert found["dct_lf"].note.endswith("raise size")
    assert scores_of(described(white(4, 4, 1, 6)))["localcorr"].note.startswith("needs at least 2 x 2 positions")
    assert found["kl_bits_per_element"].status == "not applicable"
    assert found["autocorr_t"].value is not None
    one = scores_of(described(white(4, 1, 8, 8)))
    assert one["localcorr"].value == one["localcorr_image"].value
    assert one["localcorr_video"].note == "needs at least 2 latent frames"
    assert one["autocorr_t"].status == "undefined"


def test_the_interval_of_a_correlation_is_that_of_fishers_z() -> None:
    clips = [{"r": np.array(r)} for r in (0.999, 0.998, 0.999, 0.997, 0.999, 0.85, 0.9, 0.99)]
    value = float(mean(clips)["r"])
    statistic = lambda m: float(m["r"])  # noqa: E731
    symmetric = jackknife(statistic, value, without_each(clips))
    stderr, low, high = jackknife(statistic, value, without_each(clips), correlation=True)
    assert symmetric[2] > 1  # Student's interval passes the largest correlation
    assert low < value < high < 1
    assert stderr == symmetric[0]
    left = np.arctanh([m["r"] for m in without_each(clips)])
    z_error = math.sqrt(7 / 8 * np.square(left - left.mean()).sum())
    half = stats.t.ppf(0.975, 7) * z_error
    assert (low, high) == pytest.approx((math.tanh(math.atanh(value) - half), math.tanh(math.atanh(value) + half)))
    # z is infinite for a still clip: the ends are those of Student's interval, at most 1
    still = [{"r": np.array(r)} for r in (1.0, 1.0, 1.0, 0.6)]
    _, low, high = jackknife(statistic, 0.9, without_each(still), correlation=True)
    assert (low, high) == (pytest.approx(jackknife(statistic, 0.9, without_each(still))[1]), 1.0)

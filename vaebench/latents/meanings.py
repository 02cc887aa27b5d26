"""What each score of latents means, for `vaebench run --help`.  This module imports nothing, so that the help is fast.

No score has a direction except the PSNR: published evidence on which latents a diffusion model learns best is contradictory
(SSVAE, arXiv 2512.05394, against arXiv 2603.14645).
"""

GENERAL = (
    "Describes the latents (posterior means) of a set of clips; use 64 clips or more, and at least 5 latent frames.\n"
    "'Standardized' latents have mean 0 and variance 1 in each channel over the set; z is standardized below.\n"
    "No score says which VAE is better: read several of them against psnr, the quality of the reconstruction.\n"
)
MEANINGS = {
    "psnr": "PSNR of the reconstruction, as in the reconstruction suite [dB]",
    "std": "root mean square over channels of the standard deviation, in units of the latent",
    "std_spread": "largest over smallest standard deviation of a channel",
    "skewness": "mean over channels of the absolute skewness; 0 for a Gaussian",
    "excess_kurtosis": "mean over channels of the excess kurtosis; 0 for a Gaussian",
    "dead_channels": "number of channels with less than 1 % of the largest standard deviation",
    "kl_bits_per_element": "KL divergence of the posterior from N(0, 1), per latent value [bits]",
    "kl_bits_per_pixel": "the same per pixel of the video, a bound on the bits that the latent carries",
    "collapsed_channels": "share of channels with a mean KL divergence below 0.01 bits per value",
    "noise_share": "share of the variance of posterior samples that is posterior noise, mean over channels",
    "localcorr": "local correlation of SSVAE: Pearson correlation over channels of neighbouring positions in windows of 2x2x2, "
    "mean of localcorr_image and localcorr_video (its regularizer aims at 0.75)",
    "localcorr_image": "local correlation in the first latent frame, windows of 2x2",
    "localcorr_video": "local correlation in the other latent frames, windows of 2x2x2",
    "autocorr_t": "correlation of neighbouring latent values in time (lag 1), over all standardized channels",
    "autocorr_y": "the same along columns",
    "autocorr_x": "the same along rows",
    "efold_t": "lag at which the autocorrelation in time falls to 1/e [latent frames]",
    "efold_y": "the same along columns [latent positions]",
    "efold_x": "the same along rows [latent positions]",
    "dct_lf": "share of the energy of 8x8 DCT blocks at frequencies up to a quarter of the largest; 0.125 for white noise",
    "dct_hf": "share above half of the largest frequency; 0.66 for white noise",
    "dct_excess": "high-frequency excess: log amplitude of the upper three quarters of the 8x8 DCT relative to DC, minus that of "
    "the RGB frames resized to the latent grid [nats]",
    "slope_space": "exponent of power against spatial frequency; 0 for white noise, negative for smooth latents",
    "slope_time": "exponent of power against temporal frequency",
    "participation_ratio": "effective number of channels: (sum l)^2 / sum l^2 of the eigenvalues l of the covariance",
    "participation_ratio_share": "the same divided by the number of channels",
    "effective_rank": "effective number of channels: exp of the entropy of the eigenvalues' shares",
    "effective_rank_share": "the same divided by the number of channels",
    "k90": "smallest number of principal components with 90 % of the variance",
    "top1": "share of the variance in the first principal component",
    "participation_ratio_standardized": "participation_ratio of the correlation matrix, of standardized channels",
    "effective_rank_standardized": "effective_rank of the correlation matrix",
    "k90_standardized": "k90 of the correlation matrix",
    "top1_standardized": "top1 of the correlation matrix",
    "gaussian_mmse": "error of the best linear denoiser at noise of standard deviation 1, relative to white latents of the same "
    "power; 1 for white noise, lower if frequencies and channels are unequal",
    "code_length": "half the mean log2 power over frequencies and eigenmodes, the code length of a Gaussian relative to white "
    "noise [bits per latent value]; 0 for white noise",
    "noise_gain": "mean squared change of pixels in -1..1 per squared noise added to z, at the smallest noise level",
    "sigma_3db": "noise added to z that costs 3 dB of PSNR",
    "sigma_35db": "noise added to z at which the decoded video still has 35 dB against the video decoded without noise",
    "mask_loss_N": "change of PSNR if N % of the positions are replaced by the channel means [dB]",
    "rate_35db": "bits per pixel of a Gaussian model of the latents at the noise sigma_35db: an upper bound on what a diffusion "
    "model must get right (our proposal, not validated)",
    "subband_low_share": "share of the energy of z in the low-pass band of a Haar wavelet transform; 0.125 for white noise",
    "subband_entropy": "entropy of the Haar coefficients of z in bins of 1/8, mean over the 8 bands [bits]; 5.05 for white noise",
}


def described() -> str:
    """The help text of all scores."""
    return GENERAL + "".join(f"{name}: {meaning}\n" for name, meaning in MEANINGS.items())

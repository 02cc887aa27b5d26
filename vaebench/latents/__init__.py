"""Statistics of latents, one idea per file: what a diffusion model has to learn, and what the decoder tolerates.

Two passes over the clips give additive statistics (`passes`); the scores are functions of their means (`scores`).  The suite
`latent` and tier 0 of the suite `diffusability` use the same functions.  Sources: SSVAE (arXiv 2512.05394, local correlation, few
modes), Skorokhodov et al. (arXiv 2502.14831, DCT spectra), Roy and Vetterli 2007 (effective rank), WF-VAE (arXiv 2411.17459,
sub-bands).  `vaebench.latents.meanings` says what each score means.
"""

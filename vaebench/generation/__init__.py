"""The generation side of the diffusability suite: windows, latent cache, Latte, sampling and scores."""

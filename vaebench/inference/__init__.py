"""The ways to run one VAE on one clip, and how far their results are from each other."""

"""Latte, the latent video diffusion transformer that measures how easy a latent space is to generate in.

Stands alone: the model, its diffusion and its sampler need torch only, its training loop `accelerate` as well.
"""

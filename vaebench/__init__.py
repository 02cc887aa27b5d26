"""The benchmark of video VAEs. Empty on purpose: importing `vaebench.vae` must stay cheap for an adapter."""

__version__ = "0.1.0"

"""The denoiser that works on the latents of each VAE: the size of its patches, and the protocols of its long videos.

A denoiser with patch (p_t, p_h, p_w) makes one token of p_t x p_h x p_w latent positions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vaebench.vae import VAESpec

Patch = tuple[int, int, int]  # latent frames, rows, columns


@dataclass(frozen=True)
class Denoiser:
    """`system` is "" if no denoiser for these latents was released; the patch is then an assumption."""

    system: str
    patch: Patch
    protocols: tuple[str, ...] = ()  # of vaebench.long_video


USUAL: Patch = (1, 2, 2)
SINGLE: Patch = (1, 1, 1)
UNKNOWN = Denoiser("", USUAL)
# family/variant, latent space or family of a VAE -> its denoiser.  Patches are the released configurations: the defaults of the
# transformer classes in diffusers 0.42, and the authors' code for Open-Sora (STDiT3), Open-Sora Plan (models named /122),
# EasyAnimate, Latte (Latte-XL/2) and PixArt-Sigma (XL/2)
DENOISERS = {
    "allegro": Denoiser("Allegro", USUAL),
    "cogvideox": Denoiser("CogVideoX", USUAL),
    "cogvideox/1.5-5b": Denoiser("CogVideoX 1.5", (2, 2, 2)),
    "cosmos": Denoiser("Cosmos-Predict1", USUAL),
    "dc-ae-f32c32-sana-1.0": Denoiser("Sana", SINGLE),
    "cvvae/sd3": Denoiser("Stable Diffusion 3", USUAL),  # it shares the latent space
    "easyanimate": Denoiser("EasyAnimate 5.1", USUAL),
    "flux.1": Denoiser("FLUX.1", USUAL),  # the pipeline packs 2x2 latent positions
    "flux.2": Denoiser("FLUX.2", USUAL),
    "flux2/dev": Denoiser("FLUX.2", SINGLE),  # this VAE's latents are packed already
    "hunyuanvideo": Denoiser("HunyuanVideo", USUAL),
    "hunyuanvideo-1.5": Denoiser("HunyuanVideo 1.5", SINGLE),
    "kandinsky6sr": Denoiser("Kandinsky 6 super-resolution", SINGLE),
    "ltx": Denoiser("LTX-Video", SINGLE, ("ltx-first-frame", "ltx-latent")),
    "ltx-2": Denoiser("LTX-2", SINGLE),
    "ltx-2.3": Denoiser("LTX-2.3", SINGLE),
    "minimax-h3": Denoiser("MiniMax-H3", USUAL),
    "mochi": Denoiser("Mochi 1", USUAL),
    "odvae": Denoiser("Open-Sora Plan 1.2", USUAL),
    "opensora": Denoiser("Open-Sora 1.2", USUAL),
    "open-sora-1.3": Denoiser("Open-Sora 1.3", USUAL),
    "qwenimage": Denoiser("Qwen-Image", USUAL),
    "sd": Denoiser("Latte", USUAL),  # Stable Diffusion's own U-Net has no patches
    "sdxl": Denoiser("PixArt-Sigma", USUAL),
    "sd3": Denoiser("Stable Diffusion 3", USUAL),
    "wan-2.1": Denoiser("Wan 2.1", USUAL),
    "wan/skyreels-v2": Denoiser("SkyReels-V2", USUAL, ("skyreels-v2", "skyreels-v2-latent")),
    "wan/svi": Denoiser("Stable Video Infinity", USUAL, ("svi-film", "svi-shot")),
    "wan-2.2": Denoiser("Wan 2.2", USUAL),
    "wfvae/l-16": Denoiser("Latte", USUAL),  # in the WF-VAE paper
    "wfvae/s-8": Denoiser("Open-Sora Plan 1.3", USUAL),
    "wfvae/m-32-8x8x8": Denoiser("Open-Sora Plan 1.5", USUAL),
}


def of(spec: VAESpec) -> Denoiser:
    """The denoiser for the latents of a VAE; UNKNOWN if none was released."""
    names = (spec.name, spec.latent_space, spec.family)
    return next((DENOISERS[name] for name in names if name in DENOISERS), UNKNOWN)

"""Every autoencoder of the installed diffusers that takes images or videos has an adapter, or a reason why not; image VAEs."""

from __future__ import annotations

import inspect

import pytest
import torch
from torch.nn.functional import pixel_unshuffle

from adapters import flux2, qwenimage
from vaebench import plugins

ADAPTED = {
    plugins.find("adapters", name).FAMILY.cls
    for name in plugins.names("adapters")
    if hasattr(plugins.find("adapters", name), "FAMILY")
}
WITHOUT = {  # class -> why it has no adapter of its own
    "AsymmetricAutoencoderKL": "an inpainting decoder, which is given the masked image besides the latent",
    "AutoencoderKLHunyuanImage": "an image VAE of 32x32 whose released configuration is not confirmed",
    "AutoencoderKLHunyuanImageRefiner": "the second stage of an image model: it encodes latents of one image repeated in time",
    "AutoencoderKLKVAE": "an image VAE whose released configuration is not confirmed; its video twin is kvae",
    "AutoencoderKLQwenImage21": "the network of Qwen-Image with 2-D convolutions; its release is not confirmed",
    "AutoencoderRAE": "decodes features of a frozen image classifier, which is a download of its own",
    "AutoencoderTiny": "the network of taesd, which has an implementation here and reads these files",
    "ConsistencyDecoderVAE": "decodes by a diffusion model in several steps",
    "LTX2VideoDiffusionDecoderModel": "a decoder alone, by a diffusion step over the latents of ltx2",
    "VQModel": "discrete codes: it has neither a posterior nor the latent that the contract asks for",
}
NOT_PICTURES = {  # audio, and molecules
    "AutoencoderKLKVAEAudio", "AutoencoderKLLTX2Audio", "AutoencoderKLMiniMaxH3Audio", "AutoencoderOobleck", "AutoencoderSAME",
    "Cosmos3AVAEAudioTokenizer", "LongCatAudioDiTVae", "MMAudioVAE", "MMAudioVocoder", "MiniMaxMusic3Vocoder",
    "RFD4ProteinaAutoencoder",
}  # fmt: skip


def autoencoders() -> set[str]:
    """Every model class of `diffusers.models.autoencoders`."""
    from diffusers.models import autoencoders
    from diffusers.models.modeling_utils import ModelMixin

    found = (getattr(autoencoders, name) for name in dir(autoencoders))
    return {cls.__name__ for cls in found if inspect.isclass(cls) and issubclass(cls, ModelMixin)}


def test_every_autoencoder_of_pictures_has_an_adapter_or_a_reason():
    """A new version of diffusers with a new class fails here: write its adapter, or say above why it has none."""
    assert autoencoders() - ADAPTED - WITHOUT.keys() - NOT_PICTURES == set()


def test_no_reason_is_given_for_a_class_that_has_an_adapter_or_does_not_exist():
    assert ADAPTED & (WITHOUT.keys() | NOT_PICTURES) == set()
    assert (WITHOUT.keys() | NOT_PICTURES) - autoencoders() == set()


@pytest.mark.parametrize("family", ["dcae", "flux", "flux2", "qwenimage", "sd"])
def test_an_image_vae_sees_every_frame_alone(family):
    vae = plugins.find("adapters", family).tiny()
    video = torch.rand(1, 3, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    latent = vae.encode(video).mode()
    assert latent.shape == vae.spec.latent_shape(video.shape)
    decoded = vae.decode(latent)
    for at in range(3):
        alone = vae.encode(video[:, :, at : at + 1]).mode()
        torch.testing.assert_close(latent[:, :, at : at + 1], alone, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(decoded[:, :, at : at + 1], vae.decode(alone), atol=1e-4, rtol=1e-4)


def test_the_latent_of_flux2_is_what_its_diffusion_model_sees():
    vae = flux2.tiny()
    vae.model.bn.running_mean.copy_(torch.arange(128.0) / 64)
    vae.model.bn.running_var.copy_(torch.arange(1.0, 129.0) / 64)
    spec = vae.family.describe(vae.model, vae.spec)
    video = torch.rand(1, 3, 1, 32, 48, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.no_grad():
        patches = pixel_unshuffle(vae.model.encode(video[:, :, 0]).latent_dist.mode(), 2)
    latent = vae.encode(video).mode()
    assert torch.equal(latent[:, :, 0], patches)
    assert torch.equal(flux2.patches_as_channels(flux2.channels_as_patches(latent)), latent)
    shift, scale = (torch.tensor(values).view(1, -1, 1, 1) for values in (spec.shift, spec.scale))
    torch.testing.assert_close((patches - shift) * scale, vae.model.bn(patches))


def test_qwen_image_is_its_release_on_one_image():
    vae = qwenimage.tiny()
    video = torch.rand(1, 3, 2, 16, 24, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.no_grad():
        expected = vae.model.encode(video[:, :, 1:]).latent_dist.mode()
        frame = vae.model.decode(expected).sample
    q = vae.encode(video)
    torch.testing.assert_close(q.mode()[:, :, 1:], expected, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(vae.decode(q.mode())[:, :, 1:], frame, atol=1e-4, rtol=1e-4)

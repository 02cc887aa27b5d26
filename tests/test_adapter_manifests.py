"""The released configurations, counted without weights: as many parameters as were measured on the released networks."""

from __future__ import annotations

import inspect

import pytest

import adapters
from adapters import _diffusers
from vaebench import plugins
from vaebench.weights import HubFile

# millions, encoder + decoder + quantising convolutions, of diffusers 0.42.1 on the meta device
MILLIONS = {
    "sd/ft-mse": 83.65, "sd/original": 83.65, "svd/xt": 97.74, "svd/img2vid": 97.74,
    "cogvideox/2b": 215.58, "cogvideox/5b": 215.58, "cogvideox/1.5-5b": 215.58, "allegro/1.0": 174.96,
    "ltx/0.9.0": 419.19, "ltx/0.9.1": 934.98, "ltx/0.9.5": 1246.91, "ltx/0.9.7": 1246.91, "ltx2/2.0": 1222.48,
    "wan/2.1": 126.89, "wan/2.2": 704.69, "wan/skyreels-v2": 126.89, "wan/svi": 126.89,
    "hunyuanvideo/1.0": 246.48, "hunyuanvideo15/1.5": 1260.63, "mochi/1": 459.75, "cosmos/cv8x8x8": 105.65,
    "easyanimate/5.1": 244.38, "vidtok/kl-16": 157.95, "kvae/3d-1.0": 617.98, "kandinsky6sr/6.0": 1738.88,
    "minimaxh3/h3": 2603.87, "sd/xl": 83.65, "sd/3": 83.82, "flux/1": 83.82, "flux2/dev": 84.05,
    "dcae/f32c32-sana": 312.25, "qwenimage/1.0": 126.89,
}  # fmt: skip
FAMILIES = [name for name in plugins.names("adapters") if hasattr(plugins.find("adapters", name), "FAMILY")]


def test_every_family_of_diffusers_is_in_the_table():
    assert {name.partition("/")[0] for name in MILLIONS} == set(FAMILIES)


@pytest.mark.parametrize("name", MILLIONS)
def test_the_released_configuration_has_the_measured_number_of_parameters(name):
    family, _, variant = name.partition("/")
    module = plugins.find("adapters", family)
    counted = _diffusers.count(module.FAMILY._on_meta(variant))
    assert round(counted / 1e6, 2) == MILLIONS[name]
    assert counted == module.VARIANTS[variant].parameters


# of a latent, where it is neither the class default nor read from the weights: zai-org/CogVideoX-5b, vae/config.json
SCALES = {"cogvideox/5b": 0.7, "cogvideox/1.5-5b": 0.7}
DESCRIBED = {"ltx", "ltx2", "cosmos", "minimaxh3", "flux2"}  # by statistics in the released file


@pytest.mark.parametrize("name", [name for name in MILLIONS if name.partition("/")[0] not in DESCRIBED])
def test_the_latent_is_normalised_as_published(name):
    family, _, variant = name.partition("/")
    module = plugins.find("adapters", family)
    spec, default = module.VARIANTS[variant], inspect.signature(module.FAMILY._class().__init__).parameters
    config = {key: value.default for key, value in default.items()} | dict(module.FAMILY.configs.get(variant, {}))
    if config.get("latents_mean"):
        assert spec.shift == tuple(config["latents_mean"])
        assert spec.scale == tuple(1 / std for std in config["latents_std"])
    else:
        assert spec.shift == (config.get("shift_factor") or 0)
        assert spec.scale == SCALES.get(name, config.get("scaling_factor", 1.0))


@pytest.mark.parametrize("family", FAMILIES)
def test_the_source_of_every_variant_names_repository_revision_and_file(family):
    for spec in plugins.find("adapters", family).VARIANTS.values():
        hub = HubFile.parse(spec.source)
        assert hub.repo.count("/") == 1
        assert hub.revision == "main" or len(hub.revision) == 40
        assert hub.path.endswith((".safetensors", ".ckpt"))


# of repositories whose file lists are public: the commit that holds the file (model pages on huggingface.co, 2024 and 2025)
COMMITS = {
    "allegro/1.0": "8b25708398d034f4306a4cf5667972dbf3e7e3cb",
    "cvvae/sd2.1": "ff9c7a46a2d0a41eebf00cf919a30237988dd1d5",
    "cvvae/sd2.1-v1.1": "241d4b86fd3b7c42c2ac84fc46ddebf8b913a866",
    "easyanimate/5.1": "f6586135d24a98253fc82f95146bda261e093ca3",
    "opensora/1.2": "33d153e9b5a9f771a8a84f98bd3f46458a8ed0bf",
    "wfvae/l-16": "39cab59eb41c279a6fa7083962e6bdcfeab2bc21",
    "wfvae/s-8": "1176b850fff7c33f3b28b2cae1bf8326f11f4b17",
}
LICENCES = {"cvvae/sd2.1": "Apache-2.0", "cvvae/sd3": "Apache-2.0", "wfvae/s-8": "MIT", "wfvae/l-16": "Apache-2.0"}


def test_sources_are_pinned_and_licences_are_those_of_the_model_pages():
    assert {name: HubFile.parse(adapters.find(name).source).revision for name in COMMITS} == COMMITS
    assert {name: adapters.find(name).license.split()[0] for name in LICENCES} == LICENCES

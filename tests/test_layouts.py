"""Files in the layout of every official release load through `weights=PATH` and give what the authors' code gives.

The goldens were made by the authors' code on narrow networks; their weights are rebuilt here under the keys of the release. The
committed ones are cut to a few frames; `../shared/goldens` has them whole. The key manifests are those of the released widths.
"""

from __future__ import annotations

import gzip
import json
import re
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

import adapters
from adapters import sd, wan
from adapters._diffusers import Family
from adapters._layouts import convert, reading
from adapters._layouts.recognise import looks_like
from tests.goldens_io import HERE, Golden, draw, goldens, in_precisions
from tests.originals import tolerance
from vaebench import plugins, weights

MANIFESTS = {
    path.name.removesuffix(".json.gz"): json.loads(gzip.decompress(path.read_bytes()))
    for path in sorted((HERE / "goldens" / "layouts").glob("*.json.gz"))
}
# networks of our own, whose manifests the tests of each network have too
OWN = {
    "cv_vae": "cvvae/sd2.1", "cv_vae_sd3": "cvvae/sd3", "od_vae": "odvae/1.2", "open_sora_vae_v1_2": "opensora/1.2",
    "manifest_ssvae_ch48": "ssvae/ch48", "wfvae_L_16ch": "wfvae/l-16", "wfvae_S_8ch": "wfvae/s-8",
    "wfvae_M_32ch_temporal8x": "wfvae/m-32-8x8x8",
}  # fmt: skip
for path in sorted((HERE / "goldens").rglob("*.json")):
    if path.stem in OWN:
        content = json.loads(path.read_text())
        MANIFESTS[path.stem] = {"vae": OWN[path.stem], "keys": content.get("tensors") or content["keys"]}
VARIANT = {"wan2.1": "2.1", "wan2.2": "2.2", "ltx-0.9.0": "0.9.0", "ltx-0.9.1": "0.9.1-t0", "ltx-0.9.5": "0.9.5-t0"}
ORIGINALS = goldens(lambda metadata: {"layout", "diffusers_config", "state"} <= metadata.keys())


def family_of(golden: Golden) -> tuple[Family, str]:
    """The family as if its release were the narrow network of the golden."""
    module = plugins.find("adapters", golden.metadata["family"])
    variant = VARIANT.get(golden.metadata["layout"], next(iter(module.VARIANTS)))
    return replace(module.FAMILY, configs={**module.FAMILY.configs, variant: golden.json("diffusers_config")}), variant


def weights_of(golden: Golden, state: dict) -> dict[str, Tensor]:
    built = {key: draw(key, shape, golden.salt) for key, shape in state.items()}
    stored = {key.removeprefix("state/"): v for key, v in golden.tensors().items() if key.startswith("state/")}
    scalars = golden.json("override").get("scalars", {}) if "override" in golden.metadata else {}
    built |= stored | {key: torch.tensor(float(value)) for key, value in scalars.items()}
    return {key: torch.zeros_like(v) if ".per_channel_scale" in key else v for key, v in built.items()}  # without noise


def users_file(golden: Golden, folder: Path) -> Path:
    """The file of the release: its container, its nesting and what else it holds; another name than the release's."""
    state, family = golden.json("state"), golden.metadata["family"]
    if family == "mochi":
        for name, half in state.items():
            save_file(weights_of(golden, half), folder / name)
        return folder / "decoder.safetensors"
    built = weights_of(golden, state)
    (folder / "config.json").write_text(json.dumps({"_class_name": "SomebodysModel", "dim": 1536}))
    if family in ("sd", "svd", "ltx"):  # a checkpoint of the whole pipeline
        prefix = "" if family == "ltx" else "first_stage_model."
        others = {"model.diffusion_model.proj.weight": torch.ones(1), "conditioner.embed": torch.ones(1)}
        save_file({prefix + key: value for key, value in built.items()} | others, folder / "mine.safetensors")
        return folder / "mine.safetensors"
    content = built if family in ("wan", "allegro") else {"state_dict": built | {"loss.logvar": torch.ones(1)}}
    torch.save(content, folder / "mine.pth")
    return folder / "mine.pth"


@pytest.mark.parametrize(("golden", "dtype"), in_precisions(ORIGINALS), ids=str)
@pytest.mark.filterwarnings("ignore:.* in torch.float64")
def test_an_original_file_gives_what_the_original_code_gives(tmp_path, golden, dtype):
    family, variant = family_of(golden)
    file = str(users_file(golden, tmp_path))
    vae = family.load(family.variants[variant], weights=file, mode="whole", dtype=dtype)
    want, step = golden.tensors(), int(golden.metadata.get("rec_step", "1"))
    q = vae.encode(want["x"])
    video = want["rec"] if "rec" in want else want["rec_t0"]
    pairs = {"rec": (vae.decode(want["z"])[..., ::step, ::step], video.clamp(-1, 1) if vae.spec.clamps else video)}
    if "moments" in want:
        mean, logvar = want["moments"].chunk(2, dim=1)
        pairs |= {"mean": (q.mean, mean), "logvar": (q.logvar, logvar.clamp(-30, 20))}
    else:
        pairs["mean"] = (q.mean, want["mean" if "mean" in want else "latent"])
    for part, (ours, theirs) in pairs.items():
        scale = theirs.abs().max() if dtype is torch.float32 else 1  # rounding grows with the values
        assert (ours - theirs).abs().max() < tolerance(golden, part, dtype) * scale, part


def on_meta(name: str) -> dict[str, Tensor]:
    """The tensors of a released file under its own keys, without storage."""
    return {key: torch.empty(shape, device="meta") for key, shape in MANIFESTS[name]["keys"].items()}


def read_on_meta(name: str) -> dict[str, Tensor]:
    state = on_meta(name)
    return {plain: state[key] for key, plain in reading.plain_names(state).items()}


@pytest.mark.parametrize("name", MANIFESTS)
def test_the_keys_of_a_released_file_become_exactly_those_of_the_released_configuration(name):
    family, _, variant = MANIFESTS[name]["vae"].partition("/")
    module = plugins.find("adapters", family)
    network = getattr(module, "FAMILY", module)
    assert network.shapes_in(read_on_meta(name)) == network.expected_shapes(variant)


def converters():
    """What diffusers' own converters make of a released file, where they are right: another author's map."""
    from diffusers.loaders import single_file_utils as files

    ldm = {key: list(value) if isinstance(value, tuple) else value for key, value in sd.CONFIG.items()}
    return {
        "sd-ldm": lambda state: files.convert_ldm_vae_checkpoint(state, ldm),
        "flux-ldm": lambda state: files.convert_ldm_vae_checkpoint(state, ldm),
        "wan-2.1": files.convert_wan_vae_to_diffusers,
        "ltx-0.9.0": files.convert_ltx_vae_checkpoint_to_diffusers,
        "ltx-0.9.1": files.convert_ltx_vae_checkpoint_to_diffusers,
        "ltx-0.9.5": files.convert_ltx_vae_checkpoint_to_diffusers,
        "ltx2-2.0": files.convert_ltx2_vae_to_diffusers,
    }


@pytest.mark.parametrize("name", ["sd-ldm", "flux-ldm", "wan-2.1", "ltx-0.9.0", "ltx-0.9.1", "ltx-0.9.5", "ltx2-2.0"])
def test_the_map_is_that_of_the_converter_of_diffusers(name):
    numbered = {
        key: torch.full((1,) * len(shape), float(i)) for i, (key, shape) in enumerate(MANIFESTS[name]["keys"].items())
    }
    if name == "ltx-0.9.5":  # diffusers tells this version by a width
        numbered["vae.encoder.conv_out.conv.weight"] = numbered["vae.encoder.conv_out.conv.weight"].expand(
            1, 2048, 1, 1, 1
        )
    plain = {new: numbered[key] for key, new in reading.plain_names(numbered).items()}
    network = plugins.find("adapters", MANIFESTS[name]["vae"].partition("/")[0]).FAMILY
    ours, _ = convert(plain, network.layouts)
    theirs = converters()[name](dict(numbered))
    assert {key: value.max().item() for key, value in ours.items()} == {
        key: value.max().item() for key, value in theirs.items()
    }


def test_the_old_attention_names_are_those_that_diffusers_renames():
    from diffusers import AutoencoderKL

    network = sd.FAMILY.tiny().model
    new = dict(network.state_dict())
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    legacy = {}
    for key, value in new.items():
        for today, before in old.items():
            key = key.replace(f"attentions.0.{today}.", f"attentions.0.{before}.")
        legacy[key] = value
    assert len(legacy.keys() - new.keys()) == 16
    theirs = dict(legacy)
    AutoencoderKL._fix_state_dict_keys_on_load(network, theirs)
    ours, _ = convert(legacy, sd.FAMILY.layouts)
    assert ours.keys() == theirs.keys() == new.keys()
    assert all(ours[key] is theirs[key] for key in new)


@pytest.mark.parametrize("names", ["old", "new"])
@pytest.mark.parametrize("shape", ["linear", "convolution"])
@pytest.mark.parametrize("name", ["sd", "svd"])
def test_attention_loads_under_both_names_and_in_both_shapes(tmp_path, name, shape, names):
    module = plugins.find("adapters", name)
    family = replace(module.FAMILY, configs={v: {**c, **module.FAMILY.small} for v, c in module.FAMILY.configs.items()})
    spec = next(iter(family.variants.values()))
    new = {key: value + 0.01 for key, value in family.tiny().model.state_dict().items()}
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    state = {}
    for key, value in new.items():
        stem, _, kind = key.rpartition(".")
        parent, _, part = stem.partition("attentions.0.")
        if part in old and kind == "weight" and shape == "convolution":
            value = value[:, :, None, None]
        if part in old and names == "old":
            key = f"{parent}attentions.0.{old[part]}.{kind}"
        state[key] = value
    save_file(state, tmp_path / "vae.safetensors")
    loaded = family.load(spec, weights=str(tmp_path)).model.state_dict()
    assert loaded.keys() == new.keys()
    assert all(torch.equal(loaded[key], new[key]) for key in new)


def tiny_wan() -> tuple[Family, dict[str, Tensor]]:
    """Wan 2.1 with one block a level as if released, and a state dict of it under Wan's own keys."""
    golden = next(golden for golden in ORIGINALS if str(golden) == "layouts/wan21")
    return family_of(golden)[0], weights_of(golden, golden.json("state"))


WRAPPED = {
    "flat pickle": lambda state, folder: torch.save(state, folder / "x.pth"),
    "state_dict": lambda state, folder: torch.save({"state_dict": state, "epoch": 3}, folder / "x.ckpt"),
    "module": lambda state, folder: torch.save({"module": state}, folder / "x.pt"),
    "old zip-less pickle": lambda state, folder: torch.save(
        state, folder / "x.bin", _use_new_zipfile_serialization=False
    ),
    "data parallel": lambda state, folder: torch.save(
        {f"module.{key}": value for key, value in state.items()}, folder / "x.pt"
    ),
    "vae. among others": lambda state, folder: save_file(
        {f"vae.{key}": value for key, value in state.items()}
        | {"audio_vae.encoder.conv1.bias": torch.ones(1), "vocoder.x": torch.ones(1)},
        folder / "x.safetensors",
    ),
    "halves": lambda state, folder: [
        save_file({k: v for k, v in state.items() if keep(k)}, folder / f"wan_{half}.safetensors")
        for half, keep in (
            ("encoder", lambda key: key.startswith(("encoder.", "conv1."))),
            ("decoder", lambda key: key.startswith(("decoder.", "conv2."))),
        )
    ],
}


@pytest.mark.parametrize("container", WRAPPED)
def test_containers_prefixes_and_halves_are_read_and_what_is_not_the_vae_is_left(tmp_path, container):
    family, state = tiny_wan()
    WRAPPED[container](state, tmp_path)
    loaded = family.load(wan.V21, weights=str(tmp_path))
    assert torch.equal(loaded.model.encoder.conv_in.weight, state["encoder.conv1.weight"])
    assert torch.equal(loaded.model.decoder.conv_out.bias, state["decoder.head.2.bias"])


def test_both_halves_count_in_the_digest_of_the_weights(tmp_path):
    for half in ("encoder", "decoder"):
        save_file({"layers.0.weight": torch.ones(1)}, tmp_path / f"{half}.safetensors")
    assert weights.find(plugins.find("adapters", "mochi").VARIANTS["1"].source, str(tmp_path)).stem == "encoder"
    before = adapters.resolve("mochi/1", str(tmp_path)).weights
    assert before == adapters.resolve("mochi/1", str(tmp_path / "decoder.safetensors")).weights
    save_file({"layers.0.weight": torch.zeros(1)}, tmp_path / "decoder.safetensors")
    assert adapters.resolve("mochi/1", str(tmp_path)).weights != before


def test_half_of_mochi_is_refused_with_the_name_of_the_other_file(tmp_path):
    save_file({"blocks.0.0.weight": torch.ones(1)}, tmp_path / "decoder.safetensors")
    with pytest.raises(ValueError, match="does not fit mochi: the encoder is missing"):
        adapters.resolve("mochi/1", str(tmp_path / "decoder.safetensors")).load()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda s: s.update({"encoder.middle.0.residual.7.weight": torch.ones(1)}),
            "1 unexpected: .*residual.7.weight",
        ),
        (lambda s: s.pop("decoder.head.2.bias"), r"1 missing: decoder.conv_out.bias.*renamed from those of Wan2.1_VAE"),
        (lambda s: s.update({"decoder.conv_out.bias": torch.ones(3)}), "are the same tensor .*mixes two layouts"),
    ],
    ids=["unknown", "missing", "mixed"],
)
def test_an_original_file_that_differs_in_one_tensor_is_refused(tmp_path, change, message):
    family, state = tiny_wan()
    change(state)
    torch.save(state, tmp_path / "x.pth")
    with pytest.raises(ValueError, match=message):
        family.load(wan.V21, weights=str(tmp_path / "x.pth"))


def test_torchscript_is_refused_with_the_way_to_export_its_tensors(tmp_path):
    with zipfile.ZipFile(tmp_path / "autoencoder.jit", "w") as archive:
        archive.writestr("autoencoder/constants.pkl", b"")
    with pytest.raises(ValueError, match=r"is a TorchScript archive, which holds code.*and give autoencoder\.pt"):
        adapters.resolve("cosmos/cv8x8x8", str(tmp_path / "autoencoder.jit")).load()


@pytest.mark.parametrize("cls", ["WanModel", "AutoencoderKLCausal3D"])
def test_a_config_of_another_class_beside_the_weights_is_not_read(tmp_path, cls):
    family, state = tiny_wan()
    torch.save(state, tmp_path / "x.pth")
    (tmp_path / "config.json").write_text(json.dumps({"_class_name": cls, "scaling_factor": 7, "base_dim": 3}))
    assert family.load(wan.V21, weights=str(tmp_path)).spec.scale == wan.V21.scale
    assert adapters.resolve("wan/2.1", str(tmp_path)).config_sha256 == ""
    (tmp_path / "config.json").write_text(json.dumps({"_class_name": family.cls}))
    assert len(adapters.resolve("wan/2.1", str(tmp_path)).config_sha256) == 64


@pytest.mark.parametrize("name", MANIFESTS)
def test_a_file_given_to_another_family_is_called_by_its_own_name(name):
    own = MANIFESTS[name]["vae"]
    given = "wan/2.1" if not own.startswith("wan") else "sd/ft-mse"
    said = re.fullmatch(
        r"; these are weights of (.+): use vaes=\[(.+)\] weights=PATH", looks_like(read_on_meta(name), given)
    )
    assert said
    named = re.split(", | or ", said[1])
    assert own in named
    assert said[2] == (own if named == [own] else "NAME")
    assert looks_like(read_on_meta(name), own) == ""


@pytest.mark.parametrize(
    ("name", "given", "named"),
    [
        ("sd-ldm", "wan/2.1", "sd/ft-mse, sd/xl or sd/original"),
        ("flux-ldm", "wan/2.1", "flux/1 or sd/3"),
        ("wan-2.1", "sd/ft-mse", "qwenimage/1.0, wan/2.1 or wan/skyreels-v2"),
        ("cogvideox-sat", "sd/ft-mse", "cogvideox/2b, cogvideox/5b or cogvideox/1.5-5b"),
    ],
)
def test_networks_whose_tensors_are_alike_are_all_named(name, given, named):
    """Their weights differ, or their normalisation does: which of them a file is, only its owner knows."""
    assert looks_like(read_on_meta(name), given) == f"; these are weights of {named}: use vaes=[NAME] weights=PATH"


def test_a_file_of_wan_21_has_the_names_and_shapes_of_qwen_image():
    network = plugins.find("adapters", "qwenimage").FAMILY
    assert network.shapes_in(read_on_meta("wan-2.1")) == network.expected_shapes("1.0")


def test_a_file_of_another_variant_is_called_by_its_own_name():
    advice = "; these are weights of wan/2.2: use vaes=[wan/2.2] weights=PATH"
    assert looks_like(read_on_meta("wan-2.2"), "wan/2.1") == advice
    ema = read_on_meta("wan-2.2") | {"step": torch.zeros((), device="meta")}
    assert looks_like(ema, "wan/2.1") == (
        "; it looks like wan/2.2, of which it has 100% of the tensors: try vaes=[wan/2.2] weights=PATH"
    )
    assert looks_like({"x": torch.zeros(1)}, "wan/2.1") == ""


def test_a_network_of_our_own_refuses_a_file_of_another_family_by_name(tmp_path):
    state = {key: torch.zeros(shape, dtype=torch.uint8) for key, shape in MANIFESTS["sd-ldm"]["keys"].items()}
    save_file(state, tmp_path / "x.safetensors")
    for name in ("opensora/1.2", "wfvae/l-16", "svd/xt"):
        with pytest.raises(
            ValueError,
            match=r"does not (fit|hold) .*; these are weights of sd/ft-mse, sd/xl or sd/original: use vaes=\[NAME\]",
        ):
            adapters.resolve(name, str(tmp_path / "x.safetensors")).load()


def test_a_folder_with_one_file_of_any_name_is_the_weights(tmp_path):
    (tmp_path / "Wan2.1_VAE.pth").touch()
    assert weights.find(wan.V21.source, str(tmp_path)) == tmp_path / "Wan2.1_VAE.pth"
    (tmp_path / "models_t5.pth").touch()
    with pytest.raises(weights.Unavailable, match=r"has no diffusion_pytorch_model\.safetensors"):
        weights.find(wan.V21.source, str(tmp_path))

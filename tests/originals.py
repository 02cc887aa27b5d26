"""Goldens of the authors' own code (`goldens/originals`): their weights under the names of diffusers, in the adapter of the family.

The renaming here is written from the goldens' key lists, for the narrow networks of the goldens.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from itertools import accumulate

import torch
from torch import Tensor

from adapters._diffusers import DiffusersVAE, Family
from adapters._nets.checkpoint import load_strict
from tests.goldens_io import Golden, draw, goldens
from vaebench import plugins

Rules = list[tuple[str, str | Callable[[re.Match[str]], str]]]
# those with `rec_step` are cut, for tests/test_layouts.py
GOLDENS = goldens(lambda metadata: metadata.get("format") == "vaebench-originals-1" and "rec_step" not in metadata)
VARIANTS = {
    "wan2.2": "2.2",
    "ltx-0.9.1": "0.9.1-t0",
    "ltx-0.9.5": "0.9.5-t0",
}  # by layout; else the first of the family


def backwards(levels: int) -> Callable[[re.Match[str]], str]:
    """Decoder levels, which some count from the image side."""
    return lambda match: f"decoder.up_blocks.{levels - 1 - int(match[1])}."


COGVIDEOX: Rules = [
    (r"encoder\.down\.", "encoder.down_blocks."),
    (r"decoder\.up\.(\d+)\.", backwards(4)),
    (r"\.block\.", ".resnets."),
    (r"\.(down|up)sample\.", r".\1samplers.0."),
    (r"\.mid\.block_(\d)\.", lambda match: f".mid_block.resnets.{int(match[1]) - 1}."),
    (r"\.nin_shortcut\.", ".conv_shortcut."),
]
LDM: Rules = [  # sd, and svd apart from its decoder's halves of a block
    *COGVIDEOX,
    (r"\.mid\.attn_1\.norm\.", ".mid_block.attentions.0.group_norm."),
    (r"\.mid\.attn_1\.([qkv])\.", r".mid_block.attentions.0.to_\1."),
    (r"\.mid\.attn_1\.proj_out\.", ".mid_block.attentions.0.to_out.0."),
    (r"\.norm_out\.", ".conv_norm_out."),
]
SPATIAL = r"(decoder\.(?:up_blocks\.\d+|mid_block)\.resnets\.\d+\.)(?!time_stack|mix_factor)"
SVD: Rules = [
    *LDM,
    (SPATIAL, r"\1spatial_res_block."),
    (r"\.time_stack\.in_layers\.0\.", ".temporal_res_block.norm1."),
    (r"\.time_stack\.in_layers\.2\.", ".temporal_res_block.conv1."),
    (r"\.time_stack\.out_layers\.0\.", ".temporal_res_block.norm2."),
    (r"\.time_stack\.out_layers\.3\.", ".temporal_res_block.conv2."),
    (r"\.mix_factor$", ".time_mixer.mix_factor"),
    (r"\.conv_out\.time_mix_conv\.", ".time_conv_out."),
]
COSMOS: Rules = [
    (r"encoder\.down\.", "encoder.down_blocks."),
    (r"decoder\.up\.(\d+)\.", backwards(3)),
    *COGVIDEOX[2:],
    (r"\.mid\.attn_1\.0\.", ".mid_block.attentions.0."),
    (r"\.mid\.attn_1\.1\.", ".mid_block.temp_attentions.0."),
    (r"\.([qkv])\.conv3d\.", r".to_\1."),
    (r"\.proj_out\.conv3d\.", ".to_out.0."),
    (r"\.0\.conv3d\.", ".conv_s."),
    (r"\.1\.conv3d\.", ".conv_t."),
    (r"\.conv3d\.", "."),
]
WAN_BLOCK: Rules = [
    (r"^conv1\.", "quant_conv."),
    (r"^conv2\.", "post_quant_conv."),
    (r"coder\.conv1\.", "coder.conv_in."),
    (r"\.head\.0\.", ".norm_out."),
    (r"\.head\.2\.", ".conv_out."),
    (r"\.middle\.1\.", ".mid_block.attentions.0."),
    (r"\.middle\.([02])\.", lambda match: f".mid_block.resnets.{int(match[1]) // 2}."),
    (r"\.residual\.0\.", ".norm1."),
    (r"\.residual\.2\.", ".conv1."),
    (r"\.residual\.3\.", ".norm2."),
    (r"\.residual\.6\.", ".conv2."),
    (r"\.shortcut\.", ".conv_shortcut."),
]


def wan(golden: Golden) -> Rules:
    resnets = golden.json("diffusers_config")["num_res_blocks"] + 1  # of a decoder level

    def level(match: re.Match[str]) -> str:
        at, inner = divmod(int(match[1]), resnets + 1)
        return f"up_blocks.{at}." + ("upsamplers.0." if inner == resnets else f"resnets.{inner}.")

    return [*WAN_BLOCK, (r"encoder\.downsamples\.", "encoder.down_blocks."), (r"upsamples\.(\d+)\.", level)]


WAN22: Rules = [
    *WAN_BLOCK,
    (
        r"encoder\.downsamples\.(\d+)\.downsamples\.\d+\.(resample|time_conv)\.",
        r"encoder.down_blocks.\1.downsampler.\2.",
    ),
    (r"encoder\.downsamples\.(\d+)\.downsamples\.", r"encoder.down_blocks.\1.resnets."),
    (r"decoder\.upsamples\.(\d+)\.upsamples\.\d+\.(resample|time_conv)\.", r"decoder.up_blocks.\1.upsampler.\2."),
    (r"decoder\.upsamples\.(\d+)\.upsamples\.", r"decoder.up_blocks.\1.resnets."),
]


def mochi(golden: Golden) -> Rules:
    """Prefixed by "encoder." or "decoder."; the last and first entries of `layers` and `blocks` depend on the depths."""
    depths = golden.json("diffusers_config")["layers_per_block"]
    _, first_down, first_out = accumulate((1, depths[0], 3))

    def layer(match: re.Match[str]) -> str:
        at = int(match[1])
        if at == 0:
            return "encoder.proj_in."
        if at < first_down:
            return f"encoder.block_in.resnets.{at - 1}."
        if at < first_out:
            return f"encoder.down_blocks.{at - first_down}."
        return f"encoder.block_out.resnets.{at - first_out}."

    def inner(match: re.Match[str]) -> str:
        at = int(match[2])
        return match[1] + (f"resnets.{at - 1}." if at else "conv_in.conv.")

    stack = {"0": "norm1.norm_layer", "2": "conv1.conv", "3": "norm2.norm_layer", "5": "conv2.conv"}
    return [
        (r"^encoder\.layers\.(\d+)\.", layer),
        (r"(down_blocks\.\d+\.)layers\.(\d+)\.", inner),
        (r"output_norm\.", "norm_out.norm_layer."),
        (r"output_proj\.", "proj_out."),
        (r"^decoder\.blocks\.0\.0\.", "decoder.conv_in."),
        (r"^decoder\.blocks\.0\.(\d+)\.", lambda match: f"decoder.block_in.resnets.{int(match[1]) - 1}."),
        (r"^decoder\.blocks\.4\.", "decoder.block_out.resnets."),
        (r"^decoder\.blocks\.(\d)\.", lambda match: f"decoder.up_blocks.{int(match[1]) - 1}."),
        (r"\.blocks\.", ".resnets."),
        (r"\.stack\.(\d)\.", lambda match: f".{stack[match[1]]}."),
        (r"resnets\.(\d+)\.attn_block\.norm\.", r"norms.\1.norm_layer."),
        (r"resnets\.(\d+)\.attn_block\.attn\.out\.", r"attentions.\1.to_out.0."),
        (r"resnets\.(\d+)\.attn_block\.attn\.qkv\.", r"attentions.\1.to_qkv."),
    ]


def ltx(encoder: tuple[str, ...], decoder: tuple[str, ...]) -> Rules:
    """The blocks of both halves, in the order of the file; `res_blocks` of each go by their place."""
    return [
        (r"^vae\.", ""),
        (r"^encoder\.down_blocks\.(\d+)\.", lambda match: f"encoder.{encoder[int(match[1])]}."),
        (r"^decoder\.up_blocks\.(\d+)\.", lambda match: f"decoder.{decoder[int(match[1])]}."),
        (r"\.res_blocks\.", ".resnets."),
        (r"\.norm3\.norm\.", ".norm3."),
        (r"\.conv_shortcut\.", ".conv_shortcut.conv."),
        (r"\.last_(time_embedder|scale_shift_table)", r".\1"),
        (r"^per_channel_statistics\.mean-of-means$", "latents_mean"),
        (r"^per_channel_statistics\.std-of-means$", "latents_std"),
    ]


LTX_LEVELS = ("down_blocks.0", "down_blocks.0.downsamplers.0", "down_blocks.0.conv_out",
              "down_blocks.1", "down_blocks.1.downsamplers.0", "down_blocks.1.conv_out",
              "down_blocks.2", "down_blocks.2.downsamplers.0", "down_blocks.3", "mid_block")  # fmt: skip
LTX_UP = ("mid_block", "up_blocks.0", "up_blocks.1.upsamplers.0", "up_blocks.1", "up_blocks.2.conv_in",
          "up_blocks.2.upsamplers.0", "up_blocks.2", "up_blocks.3.conv_in", "up_blocks.3.upsamplers.0",
          "up_blocks.3")  # fmt: skip
LTX_DOWN_95 = (*(f"down_blocks.{at // 2}" + (".downsamplers.0" if at % 2 else "") for at in range(8)), "mid_block")
LTX_UP_91 = ("mid_block", *(f"up_blocks.{at // 2}" + ("" if at % 2 else ".upsamplers.0") for at in range(6)))
LEGACY: Rules = [
    (r"\.query\.", ".to_q."),
    (r"\.key\.", ".to_k."),
    (r"\.value\.", ".to_v."),
    (r"\.proj_attn\.", ".to_out.0."),
]


RULES: dict[str, Callable[[Golden], Rules]] = {  # by layout
    "allegro": lambda _: [],
    "cogvideox-sat": lambda _: COGVIDEOX,
    "cosmos-tokenizer": lambda _: COSMOS,
    "diffusers-legacy-2d": lambda _: LEGACY,
    "diffusers-legacy-4d": lambda _: LEGACY,
    "hunyuanvideo": lambda _: [],
    "ldm": lambda _: LDM,
    "ltx-0.9.0": lambda _: ltx(LTX_LEVELS, LTX_UP),
    "ltx-0.9.1": lambda _: ltx(LTX_LEVELS, LTX_UP_91),
    "ltx-0.9.5": lambda _: ltx(LTX_DOWN_95, LTX_UP_91),
    "mochi": mochi,
    "svd-sgm": lambda _: SVD,
    "wan2.1": wan,
    "wan2.2": lambda _: WAN22,
}
# samplers of cosmos that the authors' class builds and never calls, and statistics of ltx that it does not use
UNUSED = ("encoder.down_blocks.1.downsamplers.", "decoder.up_blocks.0.upsamplers.", "per_channel_statistics.")


def drawn(golden: Golden) -> Iterator[tuple[str, Tensor]]:
    """Every weight of the released file(s); those of two files by the name of the file."""
    stored = golden.tensors()
    scalars = json.loads(golden.metadata.get("override", "{}")).get("scalars", {})
    for key, value in golden.json("state").items():
        if isinstance(value, Mapping):
            for inner, shape in value.items():
                yield f"{key.partition('.')[0]}.{inner}", draw(inner, shape, golden.salt)
        elif key in scalars:
            yield key, torch.tensor(float(scalars[key]))
        elif ".per_channel_scale" in key:  # of ltx 0.9.1, which draws no noise where they are 0
            yield key, torch.zeros(value)
        else:
            yield key, stored.get(f"state/{key}", draw(key, value, golden.salt))


def state_of(golden: Golden, expected: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The golden's weights under the names of diffusers, in the shapes of `expected`."""
    rules, state = RULES[golden.metadata["layout"]](golden), {}
    for key, value in drawn(golden):
        for pattern, new in rules:
            key = re.sub(pattern, new, key)
        if key.startswith(UNUSED) and key not in expected:
            continue
        if ".to_qkv." in key and key not in expected:
            state |= {
                key.replace("to_qkv", f"to_{name}"): part for name, part in zip("qkv", value.chunk(3), strict=True)
            }
        elif (
            key in expected and value.ndim > expected[key].ndim
        ):  # a 1x1 convolution that diffusers has as a linear layer
            state[key] = value.flatten(expected[key].ndim - 1)
        else:
            state[key] = value
    if golden.metadata["family"] == "svd":  # which the authors' class does not have
        size = expected["quant_conv.bias"].numel()
        state |= {"quant_conv.weight": torch.eye(size)[:, :, None, None], "quant_conv.bias": torch.zeros(size)}
    return state


def adapter(golden: Golden, dtype: torch.dtype, mode: str) -> DiffusersVAE:
    """The adapter of the golden's family around the golden's network, in `mode`."""
    family: Family = plugins.find("adapters", golden.metadata["family"]).FAMILY
    base = family.variants[VARIANTS.get(golden.metadata["layout"], next(iter(family.variants)))]
    model = family._build({**family.configs.get(base.variant, {}), **golden.json("diffusers_config")})
    load_strict(model, state_of(golden, model.state_dict()), str(golden.path))
    spec = replace(base, latent_channels=golden.tensors()["z"].shape[1], scale=1.0, shift=0.0)
    return DiffusersVAE(family, spec, base.variant, model, "cpu", dtype, mode)


def tolerance(golden: Golden, part: str, dtype: torch.dtype) -> float:
    """Absolute, for values of about 1.  Some classes of diffusers compute a part in float32 whatever the dtype."""
    if golden.metadata["family"] == "mochi" and part != "rec":  # its Fourier features; the golden's are in float64
        return 1e-4 if dtype is torch.float64 else 2e-4
    if dtype is torch.float64:
        return 5e-6 if golden.metadata["family"] in ("ltx", "cosmos") else 1e-6
    return 1e-4

"""The architecture of a WF-VAE as a dataclass, and its conversion from and to the official config.json."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

NormName = Literal["layernorm", "groupnorm"]
AttentionName = Literal["per-frame", "legacy", "none"]
Interpolation = Literal["trilinear", "nearest"]

# official names of the blocks of level 1, by temporal compression; "dowmsample" is the official spelling
_LEVEL_1 = {
    4: ("Downsample", "HaarWaveletTransform2D", "Upsample", "InverseHaarWaveletTransform2D"),
    8: (
        "Spatial2xTime2x3DDownsample",
        "HaarWaveletTransform3D",
        "Spatial2xTime2x3DUpsample",
        "InverseHaarWaveletTransform3D",
    ),
}
_LEVEL_KEYS = ("dowmsample_block", "downsample_wavelet", "upsample_block", "upsample_wavelet")
_ATTENTION = {"AttnBlock3DFix": "per-frame", "AttnBlock3D": "legacy"}
# defaults of the official constructor for keys missing in a config.json; they are not the values of the paper
_OFFICIAL_DEFAULTS: dict[str, Any] = {
    "latent_dim": 8,
    "base_channels": 128,
    "encoder_num_resblocks": 2,
    "encoder_energy_flow_hidden_size": 64,
    "decoder_num_resblocks": 2,
    "decoder_energy_flow_hidden_size": 128,
    "attention_type": "AttnBlock3DFix",
    "use_attention": True,
    "dropout": 0.0,
    "norm_type": "groupnorm",
    "t_interpolation": "nearest",
    "connect_res_layer_num": 1,
    "scale": [0.18215] * 4,
    "shift": [0] * 4,
    **{f"l1_{key}": name for key, name in zip(_LEVEL_KEYS, _LEVEL_1[4], strict=True)},
    **{f"l2_{key}": name for key, name in zip(_LEVEL_KEYS, _LEVEL_1[8], strict=True)},
}


@dataclass(frozen=True)
class WFVAEConfig:
    """The architecture of a WF-VAE; the defaults are the released WF-VAE-L with 16 latent channels."""

    base_channels: int = field(
        default=192,
        metadata={"help": "width C of the first stage (S 128, M 160, L 192); the stages have C, 2C and 4C channels"},
    )
    latent_channels: int = field(default=16, metadata={"help": "channels of the latent"})
    temporal_compression: Literal[4, 8] = field(
        default=4, metadata={"help": "frames per latent frame; the spatial compression is always 8"}
    )
    encoder_res_blocks: int = field(default=2, metadata={"help": "residual blocks per stage of the encoder"})
    decoder_res_blocks: int = field(default=2, metadata={"help": "residual blocks per stage of the decoder"})
    connect_res_blocks: int = field(
        default=1, metadata={"help": "residual blocks between the decoder's backbone and its wavelet coefficients"}
    )
    encoder_flow_channels: int = field(
        default=128, metadata={"help": "width of the energy flow beside the encoder's backbone"}
    )
    decoder_flow_channels: int = field(
        default=128, metadata={"help": "width of the energy flow beside the decoder's backbone"}
    )
    norm: NormName = field(
        default="layernorm",
        metadata={"help": "normalization; groupnorm averages over time, so such a model cannot be streamed"},
    )
    interpolation: Interpolation = field(default="trilinear", metadata={"help": "temporal upsampling in the decoder"})
    attention: AttentionName = field(
        default="per-frame",
        metadata={"help": "attention in the middle blocks; legacy spans time and cannot be streamed"},
    )
    scale: tuple[float, ...] = field(
        default=(0.18215,) * 4,
        metadata={"help": "copied to config.json for (latent - shift) * scale; unused in training"},
    )
    shift: tuple[float, ...] = field(
        default=(0.0,) * 4, metadata={"help": "copied to config.json, see scale; unused in training"}
    )

    def __post_init__(self) -> None:
        choices = {
            "temporal_compression": (4, 8),
            "norm": ("layernorm", "groupnorm"),
            "interpolation": ("trilinear", "nearest"),
            "attention": ("per-frame", "legacy", "none"),
        }
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                raise ValueError(f"WFVAEConfig.{name} is one of {allowed}, got {getattr(self, name)!r}")
        sizes = [name for name, value in vars(self).items() if isinstance(value, int) and value < 1]
        sizes = [name for name in sizes if name != "connect_res_blocks" or self.connect_res_blocks < 0]
        if sizes:
            raise ValueError(
                f"WFVAEConfig needs positive sizes, got {', '.join(f'{n}={getattr(self, n)}' for n in sizes)}"
            )

    @property
    def streams(self) -> bool:
        """Whether the model can process a video in chunks: no layer needs all frames at once."""
        return self.norm == "layernorm" and self.attention != "legacy"

    @classmethod
    def from_official(cls, official: Mapping[str, Any]) -> WFVAEConfig:
        """The configuration in a released config.json; missing keys have the defaults of the official constructor.

        Raises:
            ValueError: another model class, an unknown key, an invalid value, or an architecture that was never published
        """
        name = official.get("_class_name", "WFVAEModel")
        if name not in ("WFVAEModel", "WFVAE"):
            raise ValueError(f"this config.json describes a {name}; only WFVAEModel (version 1) was ever released")
        given = {key: value for key, value in official.items() if not key.startswith("_")}
        unknown = sorted(set(given) - set(_OFFICIAL_DEFAULTS))
        if unknown:
            raise ValueError(f"config.json has keys that WFVAEModel does not know: {', '.join(unknown)}")
        values = {**_OFFICIAL_DEFAULTS, **given}
        kinds = {list: (list, tuple), float: (float, int)}
        wrong = [
            f"{key}={values[key]!r}"
            for key, default in _OFFICIAL_DEFAULTS.items()
            if not isinstance(values[key], kinds.get(type(default), type(default)))
        ]
        if wrong:
            raise ValueError(f"config.json has values of another type than WFVAEModel takes: {', '.join(wrong)}")
        level_1 = tuple(values[f"l1_{key}"] for key in _LEVEL_KEYS)
        level_2 = tuple(values[f"l2_{key}"] for key in _LEVEL_KEYS)
        compression = {layout: r for r, layout in _LEVEL_1.items()}.get(level_1)
        if compression is None or level_2 != _LEVEL_1[8]:
            raise ValueError(f"no published WF-VAE has these blocks: level 1 {level_1}, level 2 {level_2}")
        if values["dropout"]:
            raise ValueError(f"dropout is 0 in every published WF-VAE, got {values['dropout']}")
        if values["attention_type"] not in _ATTENTION:
            raise ValueError(f"attention_type is one of {tuple(_ATTENTION)}, got {values['attention_type']!r}")
        return cls(
            base_channels=values["base_channels"],
            latent_channels=values["latent_dim"],
            temporal_compression=compression,  # type: ignore[arg-type]  # 4 or 8
            encoder_res_blocks=values["encoder_num_resblocks"],
            decoder_res_blocks=values["decoder_num_resblocks"],
            connect_res_blocks=values["connect_res_layer_num"],
            encoder_flow_channels=values["encoder_energy_flow_hidden_size"],
            decoder_flow_channels=values["decoder_energy_flow_hidden_size"],
            norm=values["norm_type"],
            interpolation=values["t_interpolation"],
            attention=_ATTENTION[values["attention_type"]] if values["use_attention"] else "none",  # type: ignore[arg-type]
            scale=tuple(values["scale"]),
            shift=tuple(values["shift"]),
        )

    def to_official(self) -> dict[str, Any]:
        """The content of a config.json for the official code; the inverse of `from_official`."""
        return {
            "_class_name": "WFVAEModel",
            "latent_dim": self.latent_channels,
            "base_channels": self.base_channels,
            "encoder_num_resblocks": self.encoder_res_blocks,
            "encoder_energy_flow_hidden_size": self.encoder_flow_channels,
            "decoder_num_resblocks": self.decoder_res_blocks,
            "decoder_energy_flow_hidden_size": self.decoder_flow_channels,
            "attention_type": "AttnBlock3D" if self.attention == "legacy" else "AttnBlock3DFix",
            "use_attention": self.attention != "none",
            "dropout": 0.0,
            "norm_type": self.norm,
            "t_interpolation": self.interpolation,
            "connect_res_layer_num": self.connect_res_blocks,
            "scale": list(self.scale),
            "shift": list(self.shift),
            **{f"l1_{key}": name for key, name in zip(_LEVEL_KEYS, _LEVEL_1[self.temporal_compression], strict=True)},
            **{f"l2_{key}": name for key, name in zip(_LEVEL_KEYS, _LEVEL_1[8], strict=True)},
        }

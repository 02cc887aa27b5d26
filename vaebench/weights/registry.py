"""The weight files of metrics, with URLs, checksums and licences; and the notation for sources of VAE weights."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from vaebench.plugins import did_you_mean

PACKAGE = "package:"  # package:module:path is a file of an installed package
UNRELEASED = "unreleased:"  # unreleased:RECIPE: no weights were published; `vaebench train RECIPE` trains them
RANDOM = "random"  # instead of a path: the released configuration with random weights, to measure cost


@dataclass(frozen=True)
class WeightFile:
    """A weight file of a metric."""

    file: str  # file name on this machine
    url: str  # original URL
    sha256: str  # "" if none is published, see `checksum`
    used_by: str
    license: str
    git_blob: str = ""  # object id in git (sha1 of "blob <length>\\0" and the bytes), if that is published instead
    mirrors: tuple[str, ...] = ()  # other URLs of the same file, tried if the original fails

    @property
    def checksum(self) -> str:
        """The expected digest, "sha256 ..." or "git ...".

        "" if none is published; strict loading of keys and shapes is then the only check.
        """
        return f"sha256 {self.sha256}" if self.sha256 else f"git {self.git_blob}" if self.git_blob else ""


FILES: dict[str, WeightFile] = {
    "alexnet": WeightFile(
        file="alexnet-owt-7be5be79.pth",
        url="https://download.pytorch.org/models/alexnet-owt-7be5be79.pth",
        sha256="7be5be791159472b1fbf3c69796f7cb30dca7ad8466c2df70058c37116cdee02",
        used_by="lpips",
        license="BSD-3-Clause (torchvision)",
    ),
    "vgg16": WeightFile(
        file="vgg16-397923af.pth",
        url="https://download.pytorch.org/models/vgg16-397923af.pth",
        sha256="397923af8e79cdbb6a7127f12361acd7a2f83e06b05044ddf496e83de57a5bf0",
        used_by="lpips_vgg, dists",
        license="BSD-3-Clause (torchvision)",
    ),
    "i3d": WeightFile(
        file="i3d_torchscript.pt",
        url="https://www.dropbox.com/s/ge9e5ujwgetktms/i3d_torchscript.pt?dl=1",
        sha256="bec6519f66ea534e953026b4ae2c65553c17bf105611c746d904657e5860a5e2",
        used_by="fvd, i3d_l2",
        license="Apache-2.0 (deepmind/kinetics-i3d)",
        mirrors=(
            "https://huggingface.co/flateon/FVD-I3D-torchscript/resolve/1c2d61711c52571ad617a1063e6fa691b212e184/i3d_torchscript.pt",
        ),
    ),
    "i3d_videogpt": WeightFile(
        file="i3d_pretrained_400.pt",
        url="https://huggingface.co/spaces/LanguageBind/Open-Sora-Plan-v1.0.0/resolve/810fa8c4bdb3a4c8eec9bd57375c29bde6fb46de/opensora/eval/fvd/videogpt/i3d_pretrained_400.pt",
        sha256="",
        git_blob="a867b87ac3a9097d200598b1d48a1b890d8ec744",
        used_by="diffusability",
        license="Apache-2.0 (deepmind/kinetics-i3d)",
    ),
    "videomae_ssv2": WeightFile(
        file="vit_g_hybrid_pt_1200e_ssv2_ft.pth",
        url="https://pjlab-gvm-data.oss-cn-shanghai.aliyuncs.com/internvideo/videomaev2/vit_g_hybrid_pt_1200e_ssv2_ft.pth",
        sha256="",
        used_by="diffusability, fvd_videomae",
        license="as OpenGVLab/VideoMAEv2 states",
    ),
    "c3d_ucf101": WeightFile(
        file="conv3d_deepnetA_ucf.npz",
        url="https://github.com/rezoo/tgan2/releases/download/v1.0/conv3d_deepnetA_ucf.npz",
        sha256="",
        used_by="diffusability",
        license="MIT (pfnet-research/tgan2), weights fine-tuned from C3D of Tran et al. 2015",
    ),
    "c3d_mean": WeightFile(
        file="mean2.npz",
        url="https://github.com/rezoo/tgan2/releases/download/v1.0/mean2.npz",
        sha256="",
        used_by="diffusability",
        license="MIT (pfnet-research/tgan2)",
    ),
}


@dataclass(frozen=True)
class HubFile:
    """The parts of `hf:org/repo@revision:path`."""

    repo: str
    revision: str
    path: str

    @classmethod
    def parse(cls, source: str) -> HubFile:
        kind, _, rest = source.partition(":")
        place, _, path = rest.partition(":")
        repo, _, revision = place.partition("@")
        if kind != "hf" or not (repo and revision and path):
            raise ValueError(f"invalid source of weights {source!r}: expected hf:org/repo@revision:path")
        return cls(repo, revision, path)


def used_by(metrics: Iterable[str]) -> list[str]:
    """Names of the weight files that these metrics use."""
    chosen = set(metrics)
    return [name for name, entry in FILES.items() if chosen & set(entry.used_by.split(", "))]


def entry_of(name: str) -> WeightFile:
    """The weight file of a metric by name.

    Raises:
        ValueError: the name is unknown; the message suggests the closest one
    """
    if name not in FILES:
        raise ValueError(f"no weights called {name!r}{did_you_mean(name, list(FILES))} (available: {', '.join(FILES)})")
    return FILES[name]

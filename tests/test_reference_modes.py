"""Every VAE runs by default in the mode it was released to be used in, and tables and records name it."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest
import torch

import adapters
from vaebench import cli, listing, plugins, records, tables
from vaebench.config import parse_run
from vaebench.vae import Posterior, VAESpec

ROOT = Path(__file__).parent.parent
# whose released code always works in tiles or chunks; all others run a video in one pass
NATIVE = {"allegro", "cogvideox", "cvvae", "easyanimate", "kandinsky6sr", "kvae", "minimaxh3", "opensora", "svd", "wan"}
SPEC = VAESpec(
    "tiler", "a", 1, 1, 3, causal=True, modes=("whole", "native", "half"), reference_mode="native", license="-"
)
SHIFTS = {"whole": 0.5, "native": 0.0, "half": 0.25}  # added to the video: each mode has a score of its own
SMALL = ["vaes=tiler/a", "data=synthetic", "num_frames=4", "size=16", "clips=2"]


class Tiler:
    def __init__(self, mode: str) -> None:
        self.spec, self.mode = SPEC, mode

    def encode(self, video: torch.Tensor) -> Posterior:
        return Posterior(video.clone())

    def decode(self, latent: torch.Tensor) -> torch.Tensor:
        return latent + SHIFTS[self.mode]


@pytest.fixture
def tiler(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """`tiler/a`, whose reference mode is native, by name."""
    monkeypatch.chdir(tmp_path)
    module = ModuleType("tiler")
    module.__file__ = __file__
    module.VARIANTS = {"a": SPEC}
    module.load = lambda spec, mode, **_: Tiler(mode)
    real, names = plugins.find, plugins.names
    monkeypatch.setattr(plugins, "find", lambda kind, name: module if name == "tiler" else real(kind, name))
    monkeypatch.setattr(plugins, "names", lambda kind: ["tiler"] if kind == "adapters" else names(kind))


def test_the_reference_mode_of_every_family():
    found = {spec.family: spec.reference_mode for spec in map(adapters.find, adapters.names())}
    assert found == {family: "native" if family in NATIVE else "whole" for family in found}
    assert set(found) >= NATIVE


def test_a_reference_mode_is_one_of_the_modes_and_by_default_the_first():
    assert VAESpec("toy", "a", 1, 1, 3, causal=True, modes=("native", "tiled")).reference_mode == "native"
    with pytest.raises(ValueError, match=r"toy/a: reference_mode='tiled' is not one of its modes \(whole\)"):
        VAESpec("toy", "a", 1, 1, 3, causal=True, reference_mode="tiled")


def test_minimax_h3_is_decoded_in_tiles_unless_whole_is_asked_for():
    assert adapters.load("minimaxh3/tiny").model.use_tiling is True
    assert adapters.load("minimaxh3/tiny", mode="whole").model.use_tiling is False


@pytest.mark.usefixtures("tiler")
def test_a_run_uses_the_reference_mode_and_the_table_and_the_record_name_it(capsys: pytest.CaptureFixture[str]):
    assert cli.main(["run", *SMALL, "metrics=psnr"]) == 0
    assert "tiler/a · native" in capsys.readouterr().out
    (record,) = records.read_all(Path("runs/results"))
    assert record.setting == "synthetic-4x16-first2-psnr"
    assert (record.mode, record.vae["mode"]) == ("native", "native")
    assert record.scores["psnr"].value > 58  # without the shift of the other modes
    assert list(tables.frame([record])["mode"]) == ["native"]


@pytest.mark.usefixtures("tiler")
def test_another_mode_is_there_by_name_and_has_a_record_of_its_own(capsys: pytest.CaptureFixture[str]):
    for mode in ("", "whole", "half"):
        assert cli.main(["run", *SMALL, "metrics=psnr", f"mode={mode}" if mode else "seed=0"]) == 0
    found = {record.setting: record for record in records.read_all(Path("runs/results"))}
    settings = {
        f"synthetic-4x16-first2{end}-psnr": mode
        for end, mode in (("", "native"), ("-whole", "whole"), ("-half", "half"))
    }
    assert {setting: record.mode for setting, record in found.items()} == settings
    assert len({record.scores["psnr"].value for record in found.values()}) == 3
    assert cli.main(["run", *SMALL, "mode=sideways"]) == 2
    assert "no mode 'sideways' (available: half, native, whole)" in capsys.readouterr().err


@pytest.mark.usefixtures("tiler")
def test_blockwise_compares_with_whole_whatever_the_reference_mode_is():
    for words in ([], ["mode=whole"]):
        assert cli.main(["run", "--suite", "blockwise", *SMALL, "metrics=psnr", "independent=[]", *words]) == 0
    (record,) = records.read_all(Path("runs/results"))
    assert record.mode == "whole"
    assert record.scores["pixels_rms@native"].value == pytest.approx(0.5)
    assert record.scores["pixels_rms@half"].value == pytest.approx(0.25)


@pytest.mark.usefixtures("tiler")
def test_cost_and_diffusability_are_measured_in_the_reference_mode():
    for words, mode in ([], "native"), (["mode=half"], "half"):
        efficiency = plugins.find("suites", "efficiency").build(parse_run(words, suite="efficiency"))
        assert efficiency._job(adapters.resolve("tiler/a"), "float32", 4, 16).mode == mode
        config = parse_run(["tier=0", "size=16", "data=synthetic", "device=cpu", *words], suite="diffusability")
        subject = plugins.find("suites", "diffusability").build(config).open(adapters.resolve("tiler/a"))
        assert (subject.plan.mode, subject.vae.mode) == (mode, mode)


@pytest.mark.usefixtures("tiler")
def test_the_list_of_adapters_shows_the_reference_mode():
    header, row = listing.adapters_table().splitlines()
    assert row[header.index("reference mode") :].split()[0] == "native"


def test_committed_costs_are_those_of_the_reference_mode_and_tables_name_it():
    committed = list(records.read_all(ROOT / "results", "efficiency"))
    assert committed
    for record in committed:
        assert record.mode == adapters.resolve(record.name).spec.reference_mode, (record.setting, record.name)
        named = f"{record.name} · {record.mode}" in tables.render([record])
        assert named == (record.mode != "whole"), (record.setting, record.name)

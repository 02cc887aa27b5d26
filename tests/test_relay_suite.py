"""The relay suite from clip to record, table and figure: every VAE beside the floor of its protocol."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from PIL import Image

import vaebench
from tests.codecs import Codec, biased
from vaebench import cli, plot_style, plots, records, tables
from vaebench.long_video import PROTOCOLS
from vaebench.metric import Metric
from vaebench.metrics import lpips
from vaebench.relay.protocols import HANDOVERS
from vaebench.suites.relay import COLUMNS, SUMMARIES

SMALL = ["num_frames=17", "size=32", "clips=1", "hops=3"]
SETTING = "bundle-17x32-first1"
pytestmark = pytest.mark.usefixtures("no_weights")


def run(*words: str) -> int:
    return cli.main(["run", "--suite", "relay", *SMALL, *words])


def record(setting: str, name: str) -> records.Record:
    return records.read(records.record_path(Path("runs/results"), "relay", setting, name))


def test_every_protocol_of_long_video_can_be_relayed() -> None:
    assert set(HANDOVERS) == set(PROTOCOLS)
    assert all((made.condition == "window") or PROTOCOLS[name].extends for name, made in HANDOVERS.items())
    padded = {name: made.condition for name, made in HANDOVERS.items() if made.condition in ("grey", "reference")}
    assert padded == {name: made.padding for name, made in PROTOCOLS.items() if made.padding}


def test_all_protocols_run_from_the_command_line_and_the_identity_vae_is_its_own_floor(
    capsys: pytest.CaptureFixture[str],
) -> None:
    names = ",".join(PROTOCOLS)
    assert run(f"protocols={names}", "window=25", "vaes=identity/pixels,pool/4x8x8") == 0
    captured = capsys.readouterr()
    assert "absent: lpips: alexnet" in captured.err
    assert "vaebench weights fetch alexnet" in captured.err
    setting = f"{SETTING}-{'+'.join(PROTOCOLS)}-hops3-window25"
    own = record(setting, "identity-pixels")
    excess = [score for score in own.scores.values() if score.metric.endswith("_excess") and score.value is not None]
    assert len(excess) > 8 * len(PROTOCOLS)
    assert {score.value for score in excess} == {0.0}
    for name in ("identity-pixels", "pool-4x8x8"):
        made = record(setting, name)
        assert made.scores["psnr_last_floor@svi-shot"].value == own.scores["psnr_last@svi-shot"].value
        assert set(made.extra["curves"]) == set(PROTOCOLS)
        for protocol, curves in made.extra["curves"].items():
            assert len(curves["psnr"]) == len(curves["floor"]["psnr"]) == 3
            assert len(curves["shift"][0]) == 3
            last = made.scores[f"psnr_last@{protocol}"].value
            assert last == pytest.approx(curves["psnr"][-1])
            for summary in ("db_per_hop", "levels_per_hop"):
                value, floor, over = (
                    made.scores[f"{summary}{part}@{protocol}"].value for part in ("", "_floor", "_excess")
                )
                assert over == pytest.approx(value - floor)
    # the window is shorter than the protocol's, and the record says so in its name, its notes and its protocols
    assert "shortened window: 25 frames instead of 97" in made.scores["psnr_first@skyreels-v2"].note
    assert made.extra["protocols"]["skyreels-v2"] | {"handover": 0} == {
        "name": "skyreels-v2", "window": 25, "overlap": 17, "own_window": 97, "latents": False, "handover": 0,
        "note": "shortened window: 25 frames instead of 97, with the same overlap", "timeline_frames": 41, "source_frames": 17,
    }  # fmt: skip
    assert made.extra["protocols"]["loop"]["note"] == ""
    assert made.scores["seam_last@ltx-latent"].status == "undefined"
    assert made.scores["seam_last@ltx-latent"].note == "nothing is encoded again"
    for name in ("loop", "skyreels-v2"):  # the worst that 8-bit rounding does to block means is a rounding error
        assert record(setting, "pool-4x8x8").scores[f"db_per_hop@{name}"].value == pytest.approx(0, abs=0.01)


def test_a_table_has_a_row_per_protocol_with_the_floors_beside_the_scores(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("vaes=[pool/1x8x8]") == 0
    out = capsys.readouterr().out
    assert f"relay · {SETTING}-hops3" in out
    table = tables.tabulate([record(f"{SETTING}-hops3", "pool-1x8x8")])
    assert table["VAE"].tolist() == ["pool/1x8x8 · loop", "pool/1x8x8 · static"]
    titles = " ".join(table.columns)
    assert [name in titles for name in COLUMNS] == [name != "lpips_last" for name in COLUMNS]


def test_scores_of_a_bias_codec_are_its_bias_per_hop() -> None:
    made = vaebench.evaluate(
        biased(2), "relay", clips=3, num_frames=9, size=32, hops=4, protocols=["skyreels-v2"], window=33
    )
    assert made.setting == "bundle-9x32-first3-skyreels-v2-hops4-window33"
    slope = made.scores["levels_per_hop@skyreels-v2"]
    # bundled clips have black and white, where the clamp of the protocol takes part of the bias
    assert slope.value == pytest.approx(2, abs=0.2)
    assert slope.signed
    assert slope.low is not None
    assert made.scores["levels_per_hop_floor@skyreels-v2"].value == 0
    assert made.scores["colour_last@skyreels-v2"].value == pytest.approx(8, abs=0.8)


def test_hops_to_3_db_are_those_of_the_mean_curve_or_undefined() -> None:
    words = {"clips": 2, "num_frames": 9, "size": 32, "hops": 4, "protocols": ["loop"]}
    drifts = vaebench.evaluate(biased(4), "relay", **words)
    assert drifts.scores["hops_to_3db@loop"].value == pytest.approx(1.5, abs=0.1)  # the error doubles, 6 dB, at hop 2
    floor = drifts.scores["hops_to_3db_floor@loop"]
    assert (floor.value, floor.status) == (None, "undefined")
    assert floor.note == "PSNR stays within 3 dB of hop 1 for 4 hops"
    assert drifts.scores["hops_to_3db_excess@loop"].value is None


def test_too_few_hops_for_a_fit_are_undefined_not_zero() -> None:
    made = vaebench.evaluate(Codec(), "relay", clips=1, num_frames=5, size=32, hops=2)
    assert made.scores["db_per_hop@loop"].value is None
    assert made.scores["db_per_hop@loop"].note == "needs 3 hops, this run has 2"
    assert made.scores["psnr_last@loop"].value == pytest.approx(58.92, abs=0.01)


def test_lpips_is_scored_where_its_weights_are(monkeypatch: pytest.MonkeyPatch) -> None:
    class Distance(Metric):
        def measure(self, reference: torch.Tensor, reconstruction: torch.Tensor) -> torch.Tensor:
            return (reference - reconstruction).abs().mean(dim=(1, 2, 3, 4))

        def reduce(self, statistics: np.ndarray) -> float:
            return float(statistics.mean())

    monkeypatch.setattr(lpips, "build", lambda device: Distance())
    made = vaebench.evaluate(
        biased(51), "relay", clips=1, num_frames=5, size=32, hops=3, protocols=["skyreels-v2"], window=33
    )
    assert made.absent == {}
    assert 0.3 < made.scores["lpips_last@skyreels-v2"].value <= 0.6  # 3 hops of 51 of 255 levels, less what is clamped
    assert made.scores["lpips_last_floor@skyreels-v2"].value == 0


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["protocols=skyreels"], "no protocol 'skyreels'; did you mean 'skyreels-v2'?"),
        (["protocols=[]"], "protocols=[] is an empty list"),
        (["protocols=skyreels-v2", "window=17"], "the smallest valid window above the overlap is 21"),
        (
            ["protocols=skyreels-v2", "window=3"],
            "window=3 is invalid for skyreels-v2, which takes 4k+1 frames: use 21\n",  # its overlap is 17
        ),
        (
            ["protocols=skyreels-v2", "window=19"],
            "window=19 is invalid for skyreels-v2, which takes 4k+1 frames: use 21\n",
        ),
        (
            ["protocols=svi-film", "window=34"],
            "window=34 is invalid for svi-film, which takes 4k+1 frames: use 33 or 37",
        ),
        (["protocols=ltx-first-frame", "size=33"], "size=33: ltx-first-frame compresses frames with H.264"),
        (["hops=0"], "hops=0 should be at least 1"),
        (["content=own"], "content='own' is not one of copy, teacher"),
        (["protocol=wfvae-paper"], "protocol=wfvae-paper would change nothing"),
    ],
)
def test_settings_that_cannot_be_run_are_refused_in_one_line(
    words: list[str], reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("vaes=[pool/1x8x8]", *words) == 2
    captured = capsys.readouterr()
    assert reason in captured.err
    assert captured.err.count("\n") == 1
    assert not Path("runs/results/relay").exists()


def test_content_dtype_and_seed_are_part_of_the_setting() -> None:
    words = ["protocols=ltx-first-frame", "window=9", "hops=3", "content=teacher", "dtype=bfloat16", "seed=4"]
    assert run("vaes=[pool/1x8x8]", *words) == 0
    made = record(f"{SETTING}-bfloat16-ltx-first-frame-hops3-teacher-seed4-window9", "pool-1x8x8")
    assert made.config["options"]["content"] == "teacher"
    assert made.extra["protocols"]["ltx-first-frame"]["handover"]["posterior"] == "sample"


def test_dtype_and_mode_are_those_in_which_the_vae_runs() -> None:
    assert run("vaes=[wfvae/tiny-random]", "protocols=static") == 0
    assert run("vaes=[wfvae/tiny-random]", "protocols=static", "dtype=bfloat16") == 0
    drift = [
        record(f"{SETTING}{dtype}-static-hops3", "wfvae-tiny-random").scores["latent_drift_last@static"].value
        for dtype in ("", "-bfloat16")
    ]
    assert drift[0] != drift[1]

    def make(mode: str) -> Codec:
        """A codec whose tiles are two levels too bright in the left half of the frame."""
        codec = Codec(decode=lambda z: z + tiles) if mode == "tiled" else Codec()
        codec.spec = replace(codec.spec, modes=("whole", "tiled"))
        return codec

    tiles = torch.tensor([2.0, 0.0]).repeat_interleave(16) / 127.5
    words = {"clips": 1, "num_frames": 9, "size": 32, "hops": 3, "protocols": ["loop"]}
    for mode, levels in (("whole", 0.0), ("tiled", 3.0)):
        made = vaebench.evaluate(make, "relay", mode=mode, **words)
        assert made.setting == f"bundle-9x32-first1-{mode}-loop-hops3"
        assert made.scores["colour_last@loop"].value == pytest.approx(levels, abs=0.3)
        assert made.scores["psnr_last_floor@loop"].value == pytest.approx(58.92, abs=0.01)


def test_a_finished_run_is_not_measured_again_and_pictures_are_added(monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["vaes=[pool/1x8x8]", "protocols=static"]
    assert run(*words) == 0
    before = record(f"{SETTING}-static-hops3", "pool-1x8x8")
    folder = Path(f"runs/results/relay/{SETTING}-static-hops3/pool-1x8x8.frames")
    assert not folder.exists()
    assert run(*words, "keep=1") == 0
    (file,) = folder.glob("*.png")
    with Image.open(file) as picture:
        sheet = np.asarray(picture)
    assert sheet.shape == (64, 3 * 32, 3)  # floor and VAE at hops 0, 1 and 2
    assert np.array_equal(sheet[:32, :32], sheet[32:, :32])  # hop 0 is the source
    assert not np.array_equal(sheet[:32, 32:64], sheet[32:, 32:64])
    monkeypatch.setattr("vaebench.suites.relay.measure", None)  # a new measurement would fail
    assert run(*words) == 0
    assert record(f"{SETTING}-static-hops3", "pool-1x8x8").scores == before.scores


def drawn(name: str) -> dict[str, Any]:
    with plot_style.applied("screen"):
        return dict(plots.figures()[name](Path("runs/results"), "screen"))


def test_figures_show_the_drift_of_several_vaes_above_one_floor_and_strips_of_frames() -> None:
    assert run("vaes=pool/1x8x8,pool/4x8x8,wfvae/tiny-random", "keep=1", "protocols=static,svi-shot", "window=17") == 0
    setting = f"{SETTING}-static+svi-shot-hops3-window17"
    figures = drawn("drift")
    (figure,) = figures.values()
    assert list(figures) == [f"drift-{setting}"]
    assert len(figure.axes) == 2 * 4
    psnr = figure.axes[0]
    lines = {line.get_label(): line.get_ydata() for line in psnr.lines}
    assert list(lines) == ["pool/1x8x8", "pool/4x8x8", "wfvae/tiny-random (untrained)", "floor: identity VAE"]
    curves = record(setting, "pool-1x8x8").extra["curves"]["static"]
    assert lines["pool/1x8x8"].tolist() == curves["psnr"]
    assert lines["floor: identity VAE"].tolist() == curves["floor"]["psnr"]
    shift = {line.get_label(): line.get_ydata() for line in figure.axes[1].lines}
    np.testing.assert_allclose(shift["pool/1x8x8"], np.mean(curves["shift"], axis=1))
    assert all(axes.get_xlabel() == "hop" and axes.get_ylabel() for axes in figure.axes)
    assert "svi-shot (shortened window: 17 frames instead of 81" in figure.axes[4].get_title("left")
    strips = drawn("relay_strips")
    assert len(strips) == 2
    strip = strips[f"relay_strips-{setting}-bottles_two_hands-static"]
    assert [axes.get_ylabel() for axes in strip.axes[::3]] == [
        "floor: identity VAE", "pool/1x8x8", "pool/4x8x8", "wfvae/tiny-random (untrained)",
    ]  # fmt: skip
    assert [axes.get_title() for axes in strip.axes[:3]] == ["source", "hop 1", "hop 2"]
    plt.close("all")


def test_strips_of_another_run_are_not_drawn() -> None:
    assert run("vaes=[pool/1x8x8]", "keep=1", "protocols=static") == 0
    assert len(drawn("relay_strips")) == 1
    file = Path(f"runs/results/relay/{SETTING}-static-hops3/pool-1x8x8.json")
    fingerprint = record(f"{SETTING}-static-hops3", "pool-1x8x8").fingerprint
    file.write_text(file.read_text().replace(fingerprint, "0" * 16))
    assert drawn("relay_strips") == {}
    plt.close("all")


def test_a_record_with_broken_curves_is_named_by_file_and_field(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("vaes=[pool/1x8x8]", "protocols=static") == 0
    file = Path(f"runs/results/relay/{SETTING}-static-hops3/pool-1x8x8.json")
    whole = json.loads(file.read_text())
    capsys.readouterr()
    edits = {
        "extra.curves.static.psnr is missing": lambda data: data["extra"]["curves"]["static"].pop("psnr"),
        "extra.curves.static.floor.shift is missing": lambda data: data["extra"]["curves"]["static"]["floor"].pop(
            "shift"
        ),
        "extra.protocols.static.note is missing": lambda data: data["extra"]["protocols"].pop("static"),
        "curves of one length, not of [2, 3] hops": lambda data: data["extra"]["curves"]["static"]["psnr"].pop(),
    }
    for reason, edit in edits.items():
        data = json.loads(json.dumps(whole))
        edit(data)
        file.write_text(json.dumps(data))
        assert cli.main(["plot", "--only", "drift"]) == 2
        message = capsys.readouterr().err
        assert str(file) in message
        assert reason in message


def test_every_summary_has_a_floor_and_an_excess_in_the_record() -> None:
    made = vaebench.evaluate(biased(1), "relay", clips=1, num_frames=5, size=32, hops=3, protocols=["loop"])
    names = {*(name for name in SUMMARIES if name != "lpips_last"), "hops_to_3db"}
    assert {score.metric for score in made.scores.values()} == {
        f"{name}{part}" for name in names for part in ("", "_floor", "_excess")
    }


def test_floors_are_not_ranked() -> None:
    made = vaebench.evaluate(biased(1), "relay", clips=1, num_frames=5, size=32, hops=3, protocols=["loop"])
    committed = [records.read(file) for file in (Path(__file__).parents[1] / "results/relay").glob("*/*.json")]
    assert committed
    for one in (made, *committed):
        better = {score.metric: score.better for score in one.scores.values()}
        assert {better[name] for name in better if name.endswith("_floor")} == {"neither"}
        assert (better["psnr_last"], better["psnr_last_excess"], better["hops_to_3db"]) == ("higher",) * 3


@pytest.mark.parametrize(
    ("content", "rest"), [("teacher", "play it backwards and forwards"), ("copy", "repeat its last frame")]
)
def test_a_clip_shorter_than_the_window_is_noted(content: str, rest: str) -> None:
    names = ["loop", "skyreels-v2", "static"]
    options = {"protocols": names, "window": 25, "content": content}
    made = vaebench.evaluate(biased(1), "relay", clips=1, num_frames=5, size=32, hops=1, **options)
    notes = [made.scores[f"psnr_first@{name}"].note for name in names]
    assert f"the clip has 5 frames, fewer than the window of 17: the others {rest}" in notes[0]
    assert notes[1].startswith("shortened window: 25 frames instead of 97")
    assert notes[1].endswith(f"; the clip has 5 frames, fewer than the window of 25: the others {rest}")
    assert notes[2] == ""  # it shows one frame
    enough = vaebench.evaluate(biased(1), "relay", clips=1, num_frames=17, size=32, hops=1, protocols=["loop"])
    assert enough.scores["psnr_first@loop"].note == ""

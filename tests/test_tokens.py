"""Token counts are the integers of the systems' papers and released configurations; a run reads neither weights nor clips."""

from __future__ import annotations

import json
import re
from pathlib import Path

import matplotlib.pyplot as plt
import pytest

import adapters
import vaebench
from vaebench import cli, denoisers, long_video, plot_style, plots, records, tables
from vaebench.config import parse_run
from vaebench.frame_size import FrameSize
from vaebench.suites import tokens

# clip (frames, height, width, frames/s) -> tokens through 8x32x32 with single positions, and through 4x8x8 and 4x16x16 with 1x2x2
CLIPS = {
    (121, 512, 768, 24): (6144, 47616, 11904),
    (121, 704, 1216, 30): (13376, 103664, 25916),
    (97, 544, 960, 24): (6630, 51000, 12750),
    (81, 480, 832, 16): (4290, 32760, 8190),
}
RESULTS = Path(__file__).parents[1] / "results"
VAES = (["ltx/0.9.5"], ["wan/2.1", "cogvideox/2b", "hunyuanvideo/1.0", "wfvae/l-16"], ["wan/2.2", "ssvae/ch48"])
pytestmark = pytest.mark.usefixtures("elsewhere")


def numbers(name: str, frames: int, height: int, width: int, fps: float = 24) -> dict[str, float]:
    spec = adapters.find(name)
    return tokens.clip_numbers(spec, denoisers.of(spec).patch, frames, FrameSize(height, width), fps)


def run(*words: str) -> dict[str, records.Record]:
    assert cli.main(["run", "--suite", "tokens", *words]) == 0
    return {record.name: record for record in records.read_all(Path("runs/results"), "tokens")}


@pytest.mark.parametrize(
    ("name", "clip", "count"),
    [
        (name, clip, counts[group])
        for clip, counts in CLIPS.items()
        for group, names in enumerate(VAES)
        for name in names
    ],
)
def test_tokens_of_a_clip_are_those_of_the_table(name: str, clip: tuple[int, int, int, float], count: int):
    assert numbers(name, *clip)["tokens"] == count


@pytest.mark.parametrize(
    ("name", "clip", "rate"),
    [
        ("ltx/0.9.5", (121, 512, 768, 24), 1219),
        ("ltx/0.9.5", (121, 704, 1216, 30), 3316),
        ("ltx/0.9.5", (97, 544, 960, 24), 1640),
        ("ltx/0.9.5", (81, 480, 832, 16), 847),
        ("wan/2.1", (121, 512, 768, 24), 9444),
        ("wan/2.2", (121, 512, 768, 24), 2361),
    ],
)
def test_tokens_per_second(name: str, clip: tuple[int, int, int, float], rate: int):
    assert round(numbers(name, *clip)["token_rate"]) == rate


@pytest.mark.parametrize(
    ("name", "ratio", "limit"),
    [("ltx/0.9.5", 181.5, 192), ("wan/2.1", 46.8, 48), ("ssvae/ch48", 62.5, 64), ("wfvae/s-8", 93.7, 96)],
)
def test_the_element_ratio_of_a_clip_is_below_its_limit(name: str, ratio: float, limit: float):
    found = numbers(name, 121, 512, 768)
    assert round(found["element_ratio"], 1) == ratio
    assert found["element_ratio_limit"] == limit
    assert found["bits_per_pixel"] == pytest.approx(3 * 16 / found["element_ratio"])


def test_ltx_has_8192_pixels_per_token_in_the_limit_of_long_videos():
    assert numbers("ltx/0.9.5", 121, 512, 768)["pixels_per_token"] == 121 * 512 * 768 / 6144 == 7744
    assert numbers("ltx/0.9.5", 80001, 512, 768)["pixels_per_token"] == pytest.approx(8192, rel=1e-3)


def test_lengths_and_sizes_are_rounded_up_to_valid_ones():
    spec = adapters.find("ltx/0.9.5")
    made = tokens.grid(spec, (1, 1, 1), 120, FrameSize(720, 1280))
    assert (made.frames, made.height, made.width, made.latent) == (121, 736, 1280, (16, 23, 40))
    # half a patch in each direction is a token too: 31 latent frames in patches of 2
    assert tokens.grid(adapters.find("cogvideox/1.5-5b"), (2, 2, 2), 121, FrameSize(8, 24)).tokens == 16 * 1 * 2


def test_chunks_that_restart_the_encoder_count_as_the_vae_makes_them():
    # MiniMax-H3: 17n+5 frames become 5n+2 latent frames
    assert numbers("minimaxh3/h3", 39, 64, 64)["latent_frames"] == 12
    assert numbers("minimaxh3/h3", 33, 64, 64)["frames"] == 39


def test_attention_is_the_square_of_tokens_and_windows_add_up():
    spec = adapters.find("wan/skyreels-v2")
    size = FrameSize(544, 960)
    whole = tokens.clip_numbers(spec, (1, 2, 2), 257, size, 24)
    assert whole["attention"] == (65 * 34 * 60) ** 2
    windows = tokens.window_numbers(spec, (1, 2, 2), long_video.plan("skyreels-v2", frames=257), size)
    assert windows["tokens"] == 3 * 51000
    assert windows["attention"] == 3 * 51000**2
    latent = tokens.window_numbers(spec, (1, 2, 2), long_video.plan("skyreels-v2-latent", frames=257), size)
    assert latent == windows
    last = tokens.window_numbers(spec, (1, 2, 2), long_video.plan("skyreels-v2", frames=257, window=121), size)
    assert last["tokens"] == (31 + 31 + 13) * 34 * 60


def test_pair_counts_above_64_bits_are_recorded():
    scores = run("vaes=identity/pixels", "frame_size=4320x7680", "seconds=60")["identity/pixels"].scores
    count = scores["tokens@60 s"].value
    assert count**2 > 2**64
    assert scores["attention@60 s"].value == count**2


def test_every_protocol_of_a_system_exists_and_fits_its_vae():
    planned = set()
    for name in adapters.names():
        spec = adapters.find(name)
        for protocol in denoisers.of(spec).protocols:
            planned.add(protocol)
            assert long_video.find(protocol).rule == spec.frames
    assert planned == set(long_video.PROTOCOLS) - {"loop", "static"}


def test_the_denoisers_of_table_rows_are_vaes_families_or_latent_spaces():
    specs = [adapters.find(name) for name in adapters.names()]
    known = {name for spec in specs for name in (spec.name, spec.family, spec.latent_space)}
    assert set(denoisers.DENOISERS) <= known
    assert denoisers.of(adapters.find("sd/xl")).system == "PixArt-Sigma"  # its latents differ from those of its family
    assert denoisers.of(adapters.find("taehv/taew2_1")).system == "Wan 2.1"


def test_a_run_needs_no_weights_and_plans_sixty_seconds(capsys: pytest.CaptureFixture[str]):
    found = run("vaes=wan/skyreels-v2,wan/svi,ltx/0.9.5", "seconds=60")
    scores = found["wan/skyreels-v2"].scores
    assert scores["windows@60 s skyreels-v2"].value == 18
    assert scores["hops@60 s skyreels-v2"].value == 17
    assert scores["frames@60 s"].value == 1441
    assert found["wan/svi"].scores["windows@60 s svi-film"].value == 13
    assert found["ltx/0.9.5"].scores["frames@60 s ltx-first-frame"].value == 1801
    for record in found.values():
        assert record.vae["weights"] == "none"
        assert (record.failed, record.absent, record.setting) == ([], {}, "480x832-seconds60")
    out, err = capsys.readouterr()
    assert "wan/skyreels-v2 · 60 s skyreels-v2 " in out
    assert "untrained" not in out + err
    assert "svi-film: windows of 81 frames, 5 of them carried over as pixels; 16 frames/s" in err


def test_the_table_of_sixty_seconds_in_the_readme_is_what_its_command_counts():
    text = (RESULTS.parent / "README.md").read_text(encoding="utf-8")
    (words,) = re.findall(r"vaebench run --suite tokens (.*seconds=60 frame_size=\S+)", text)
    rows = re.findall(r"\| `(\S+)` \((.*) frames/s\) \| (\d+) \| (\d+) \| (\d+) \| (\d+) \|", text)
    assert {name for name, *_ in rows} == set(long_video.PROTOCOLS) - {"loop", "static", "skyreels-v2-latent"}
    found = run(*words.split())
    systems = {
        protocol: made for made in found.values() for protocol in denoisers.of(adapters.find(made.name)).protocols
    }
    for name, about, *numbers in rows:
        protocol = long_video.find(name)
        assert list(map(int, re.findall(r"\d+", about))) == [protocol.window, protocol.overlap, protocol.fps]
        scores = [
            systems[name].scores[f"{score}@60 s {name}"].value for score in ("windows", "hops", "frames", "tokens")
        ]
        assert list(map(int, numbers)) == scores
    # the other protocol of SkyReels-V2 has the same windows
    sky = systems["skyreels-v2-latent"].scores
    for score in ("windows", "hops", "frames", "tokens"):
        assert sky[f"{score}@60 s skyreels-v2-latent"].value == sky[f"{score}@60 s skyreels-v2"].value


def test_frames_size_rate_and_patch_are_options(capsys: pytest.CaptureFixture[str]):
    found = run("vaes=wan/2.1", "frames=[121,81]", "frame_size=512x768", "fps=30", "patch=1x1x1")["wan/2.1"]
    assert found.setting == "512x768-frames81+121-30fps-patch1x1x1"
    assert found.scores["tokens@121 frames"].value == 4 * 47616
    assert found.scores["token_rate@121 frames"].value == pytest.approx(4 * 47616 * 30 / 121)
    assert found.scores["tokens@81 frames"].value == 21 * 64 * 96
    assert tables.render([found]).count("wan/2.1 · ") == 2


def test_a_rate_that_is_set_applies_to_the_windows_too():
    found = run("vaes=wan/svi", "seconds=60", "fps=24")["wan/svi"]
    assert found.scores["windows@60 s svi-film"].value == len(long_video.plan("svi-film", seconds=60, fps=24).windows)
    assert found.scores["windows@60 s svi-film"].value == 19


def test_rows_of_one_video_state_their_frame_rates(capsys: pytest.CaptureFixture[str]):
    found = run("vaes=wan/svi", "seconds=[5,60]")["wan/svi"].scores
    assert [found[f"frame_rate@60 s{row}"].value for row in ("", " svi-film", " svi-shot")] == [24, 16, 16]
    assert "frame_rate frames/s" in capsys.readouterr().out  # a column of the table
    same = run("vaes=wan/svi", "fps=24")["wan/svi"].scores
    assert same["frame_rate@60 s svi-film"].value == 24


def test_a_run_with_other_lengths_never_replaces_the_default_record():
    run("vaes=wan/2.1")
    (file,) = Path("runs/results/tokens/480x832").glob("*.json")
    before = file.read_bytes()
    for words in (["seconds=2"], ["seconds=0.1,2"], ["frames=81"], ["frames=81,121"]):
        run("vaes=wan/2.1", *words)
    assert file.read_bytes() == before
    assert {folder.name for folder in Path("runs/results/tokens").iterdir()} == {
        "480x832",
        *(f"480x832-{lengths}" for lengths in ("seconds2", "frames81", "frames81+121")),
        "480x832-seconds0.1+2",
    }


def test_the_default_lengths_in_another_order_are_the_default_setting():
    assert run("vaes=wan/2.1", "seconds=60,5")["wan/2.1"].setting == "480x832"


def test_bits_per_pixel_are_not_ranked_and_have_the_unit_of_codecs():
    score = run("vaes=wan/2.1", "seconds=5")["wan/2.1"].scores["bits_per_pixel@5 s"]
    codec = records.read(next(RESULTS.glob("reconstruction/*/codec-x264-17.json"))).scores["bits_per_pixel"]
    assert (score.unit, score.better) == (codec.unit, codec.better) == ("", "neither")


def test_an_assumed_patch_is_stated(capsys: pytest.CaptureFixture[str]):
    run("vaes=vidtok/kl-4", "seconds=1")
    assert "no denoiser was released for these latents: patch 1x2x2" in capsys.readouterr().err


def test_all_vaes_run_by_default_once_per_network():
    suite = tokens.build(parse_run([], suite="tokens"))
    names = suite.default_vaes(adapters.names())
    assert {name.partition("/")[0] for name in names} == {name.partition("/")[0] for name in adapters.names()}
    assert {"wan/2.1", "wan/skyreels-v2", "wan/svi"} <= set(names)
    assert "cogvideox/5b" not in names


def test_the_curves_of_a_record_are_its_scores_at_other_durations():
    found = run("vaes=wan/svi", "seconds=[5,60]")["wan/svi"]
    curves = found.extra["curves"]
    assert found.extra["denoiser"] == {"system": "Stable Video Infinity", "patch": [1, 2, 2]}
    for seconds in (5, 60):
        at = curves["seconds"].index(seconds)
        assert curves["whole tokens"][at] == found.scores[f"tokens@{seconds} s"].value
        assert curves["svi-film windows"][at] == found.scores[f"windows@{seconds} s svi-film"].value


def test_the_figure_has_a_line_per_token_count_and_protocol(capsys: pytest.CaptureFixture[str]):
    run("vaes=wan/2.1,wan/skyreels-v2,wan/svi,ltx/0.9.5,vidtok/kl-4")
    with plot_style.applied("screen"):
        ((stem, figure),) = plots.figures()["tokens_over_duration"](Path("runs/results"), "screen")
        left, middle, right = figure.axes
        systems, protocols = ([text.get_text() for text in axes.get_legend().get_texts()] for axes in (left, middle))
        counts = [line.get_ydata()[-1] for line in right.get_lines()]
        plt.close(figure)
    assert stem == "tokens-480x832"
    assert systems == [
        "4x8x8 / 1x2x2: Wan 2.1, SkyReels-V2, Stable Video Infinity",  # not VidTok, which has no denoiser
        "8x32x32 / 1x1x1: LTX-Video",
    ]
    assert set(protocols) == {
        *("ltx-first-frame", "ltx-latent", "skyreels-v2, skyreels-v2-latent", "svi-film", "svi-shot"),
        *("whole video, 4x8x8", "whole video, 8x32x32"),
    }
    assert sorted(counts) == sorted(
        len(long_video.plan(name, seconds=120).windows)
        for name in ("ltx-first-frame", "ltx-latent", "skyreels-v2", "svi-film", "svi-shot")
    )


def test_the_title_of_the_figure_states_rates_but_not_the_lengths_of_the_table():
    run("vaes=wan/2.1", "seconds=2")
    with plot_style.applied("screen"):
        ((_, figure),) = plots.figures()["tokens_over_duration"](Path("runs/results"), "screen")
        title = figure.get_suptitle()
        plt.close(figure)
    assert title.startswith("480x832 pixels, 24 frames/s; windows at the rate of each system;")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda extra: extra.pop("denoiser"), "extra.denoiser"),
        (lambda extra: extra["curves"]["whole tokens"].pop(), "extra.curves.whole tokens should have 13 values"),
        (lambda extra: extra["curves"].pop("svi-film attention"), "extra.curves.svi-film attention"),
        (lambda extra: extra["curves"]["seconds"].__setitem__(0, 0), "extra.curves.seconds should be positive"),
    ],
)
def test_a_record_with_invalid_curves_is_named(change, message: str, capsys: pytest.CaptureFixture[str]):
    run("vaes=wan/svi", "seconds=5")
    (file,) = Path("runs/results/tokens").rglob("*.json")
    content = json.loads(file.read_text())
    change(content["extra"])
    file.write_text(json.dumps(content))
    assert cli.main(["plot", "--only", "tokens_over_duration"]) == 2
    assert f"{file} is not a valid record of suite tokens: {message}" in capsys.readouterr().err


def test_a_vae_object_is_counted_without_a_run():
    record = vaebench.evaluate(adapters.load("pool/4x8x8"), "tokens", frames=[16], frame_size="64", patch="1x1x1")
    assert record.scores["tokens@16 frames"].value == 4 * 8 * 8


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["num_frames=17"], "choose shapes with seconds=, frames= and frame_size="),
        (["mode=tiled"], "mode=tiled would change nothing"),
        (["frame_size=480p"], "frame_size='480p' should be"),
        (["patch=2x2"], "patch='2x2' should be latent frames x rows x columns"),
        (["patch=0x2x2"], "patch='0x2x2' should be"),
        (["seconds=0"], "should be more than 0 each"),
        (["frames=-5"], "should be more than 0 each"),
        (["seconds=inf"], "should be more than 0 each"),
        (["fps=-1"], "fps=-1 should be more than 0"),
        (["seconds=5", "frames=81"], "give seconds= or frames=, not both"),
    ],
)
def test_a_setting_that_is_invalid_or_unused_is_refused(words: list[str], message: str, capsys):
    assert cli.main(["run", "--suite", "tokens", "vaes=wan/2.1", *words]) == 2
    assert message in capsys.readouterr().err

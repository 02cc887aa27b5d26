"""`vaebench train`: recipes say what they mean, a run's folder is complete, and only one run lives in it."""

from __future__ import annotations

import csv
import json
import shlex
import shutil
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

import adapters
from vaebench import cli, plugins
from vaebench.config import RunConfig
from vaebench.training import perceptual, plot
from vaebench.training.log import RunLog
from vaebench.training.recipes import RECIPES, read_recipe, recipes
from vaebench.training.run import parse, train
from vaebench.training.validation import sheet
from vaebench.video import to_model, to_score
from vaebench.video_io import notes
from wfvae import WFVAE, WFVAEConfig, load, state
from wfvae.start import close_flow

WEIGHTS = RECIPES.parent / "weights"
SHORT = [
    "trainer.steps=4",
    "trainer.save_every=2",
    "trainer.validate_every=4",
    "trainer.discriminator_start=2",
    "data.size=16",
    "validation.num_frames=5",
    "validation.size=16",
    "validation.clips=1",
]


@pytest.mark.parametrize("name", recipes())
def test_every_recipe_is_a_valid_configuration(name: str) -> None:
    config = parse(name, [])
    assert config.run == f"runs/train/{name}"
    assert config.description
    with torch.device("meta"):
        WFVAE(config.model)


def test_stages_are_those_of_table_7() -> None:
    one, two, three = (parse(f"stage{i}", []) for i in (1, 2, 3))
    assert [c.data.num_frames for c in (one, two, three)] == [25, 49, 49]
    assert [c.data.stride for c in (one, two, three)] == [1, 2, 2]
    assert [c.trainer.steps for c in (one, two, three)] == [800_000, 200_000, 200_000]
    assert [c.loss.perceptual for c in (one, two, three)] == [1.0, 1.0, 0.1]
    assert [c.refresh_discriminator for c in (one, two, three)] == [False, True, True]
    assert {c.model for c in (one, two, three)} == {WFVAEConfig()}


def test_sizes_and_channels_are_those_of_the_paper() -> None:
    for size, width in (("s", 128), ("m", 160), ("l", 192)):
        for channels in (4, 8, 16, 32):
            config = parse(f"{size}-{channels}", [])
            assert (config.model.base_channels, config.model.latent_channels) == (width, channels)
            assert config.model.encoder_flow_channels == config.model.decoder_flow_channels == 128


ABLATIONS = {
    "no-wl": {"loss.wavelet": 0.0},
    "wl-001": {"loss.wavelet": 0.01},
    "wl-1": {"loss.wavelet": 1.0},
    "flow-64": {"model.encoder_flow_channels": 64, "model.decoder_flow_channels": 64},
    "flow-256": {"model.encoder_flow_channels": 256, "model.decoder_flow_channels": 256},
    "groupnorm": {"model.norm": "groupnorm"},
    "no-attention": {"model.attention": "none"},
    "no-flow-l1": {"without_flow": [1]},
    "no-flow-l2": {"without_flow": [2]},
    "no-flow": {"without_flow": [1, 2]},
}


def _settings(recipe: str) -> dict[str, object]:
    flat: dict[str, object] = {}
    for key, value in asdict(parse(recipe, [])).items():
        flat |= {f"{key}.{name}": inner for name, inner in value.items()} if isinstance(value, dict) else {key: value}
    return {key: value for key, value in flat.items() if key not in ("run", "description")}


def test_an_ablation_changes_what_it_is_called_after_and_nothing_else() -> None:
    plain = _settings("s-4")
    assert {f"ablation-{name}" for name in ABLATIONS} == {name for name in recipes() if name.startswith("ablation")}
    for name, changed in ABLATIONS.items():
        found = _settings(f"ablation-{name}")
        assert {key: value for key, value in found.items() if plain[key] != value} == changed, name


def test_words_win_over_the_recipe_and_the_recipe_over_its_base(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("base: stage1\nmodel: {base_channels: 64}\n")
    config = parse(str(file), ["trainer.learning_rate=2e-5", "model.latent_channels=8"])
    assert config.model == WFVAEConfig(base_channels=64, latent_channels=8)
    assert config.trainer.learning_rate == 2e-5
    assert config.trainer.precision == "bf16"


def test_unknown_recipes_and_settings_name_the_nearest_one() -> None:
    with pytest.raises(ValueError, match="did you mean 'stage1'"):
        read_recipe("stag1")
    with pytest.raises(ValueError, match="trainer"):
        parse("smoke", ["trainer.stepps=3"])
    with pytest.raises(ValueError, match="key=value"):
        parse("smoke", ["steps"])


def test_a_run_leaves_logs_scores_samples_and_checkpoints_and_goes_on(tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert train("smoke", [*SHORT, f"run={run}"]) == 0
    rows = list(csv.DictReader((run / "log.csv").read_text().splitlines()))
    assert [int(row["step"]) for row in rows] == [1, 2, 3, 4]
    assert rows[0]["adversarial"] == ""
    assert float(rows[3]["adversarial_weight"]) > 0
    scores = list(csv.DictReader((run / "scores.csv").read_text().splitlines()))
    assert [int(row["step"]) for row in scores] == [4]
    assert 5 < float(scores[0]["psnr"]) < 40
    assert (run / "samples" / "step-00000004.png").is_file()
    assert list((run / "tensorboard").iterdir())
    assert state.best(run) == state.checkpoint_folder(run, 4)
    assert adapters.load(f"wfvae:{state.best(run)}").spec.parameters == _count(parse("smoke", []).model)
    before, written = (run / "log.csv").read_text(), (run / "config.yaml").stat().st_mtime_ns
    assert train("smoke", [*SHORT, f"run={run}"]) == 0  # finished: nothing to do
    assert (run / "log.csv").read_text() == before
    assert (run / "config.yaml").stat().st_mtime_ns == written


def test_a_resumed_run_forgets_what_was_logged_after_its_checkpoint(tmp_path: Path) -> None:
    run = tmp_path / "run"
    words = [*SHORT, f"run={run}", "validation.data="]
    train("smoke", words)
    whole = _curve(run)
    (run / "checkpoints" / "step-00000004").rename(tmp_path / "lost")
    train("smoke", words)
    assert _curve(run) == whole


def _count(config: WFVAEConfig) -> int:
    return sum(parameter.numel() for parameter in WFVAE(config).parameters())


def test_tensorboard_has_every_step_once_also_of_a_run_that_went_on(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = tmp_path / "run"
    words = [*SHORT, f"run={run}", "validation.data="]
    train("smoke", words)
    (run / "checkpoints" / "step-00000004").rename(tmp_path / "lost")
    train("smoke", words)
    events = EventAccumulator(str(run / "tensorboard"))
    events.Reload()
    assert [event.step for event in events.Scalars("total")] == [1, 2, 3, 4]


def test_weights_and_biases_keeps_runs_apart_that_are_called_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[str] = []

    class Board:
        def log(self, values: dict[str, float], step: int) -> None: ...
        def finish(self) -> None: ...

    def init(**settings: object) -> Board:
        begun.append(str(settings["id"]))
        return Board()

    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(init=init))
    for place in ("a", "a", "b"):
        train("smoke", [*SHORT, f"run={tmp_path / place / 'run'}", "validation.data=", "wandb=project"])
    assert begun[0] == begun[1] != begun[2]


def test_a_missing_logger_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for package in ("wandb", "torch.utils.tensorboard", "tensorboardX"):
        monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.delattr(torch.utils, "tensorboard", raising=False)
    with pytest.raises(ValueError, match=r"wandb=project needs the package wandb: pip install wandb"):
        RunLog(tmp_path, 4, {}, "project").begin(0)
    notes.note.cache_clear()
    log = RunLog(tmp_path, 4, {})
    log.begin(0)
    log.step(1, {"total": 2.0})
    log.samples(1, torch.zeros(3, 8, 8))
    log.close()
    assert "tensorboard is not installed, values go to log.csv only" in capsys.readouterr().err
    assert (tmp_path / "log.csv").is_file()
    assert not (tmp_path / "tensorboard").exists()


def test_a_sample_is_the_bytes_of_the_sheet(tmp_path: Path) -> None:
    image = torch.arange(256, dtype=torch.uint8).reshape(1, 16, 16).repeat(3, 1, 1)
    log = RunLog(tmp_path, 4, {})
    log.samples(1, image.float() / 255)
    with Image.open(tmp_path / "samples" / "step-00000001.png") as written:
        assert torch.equal(torch.from_numpy(np.array(written)).permute(2, 0, 1), image)


def test_a_file_that_fails_is_named_once_however_often_and_differently_it_fails(tmp_path: Path) -> None:
    for step in (0, 1):
        log = RunLog(tmp_path, 4, {})
        log.begin(step)
        log.failed(("a.mp4: damaged at frame 3", "s.tar:1.mp4: is empty", "a.mp4: damaged at frame 9"))
        log.failed(("a.mp4: damaged at frame 5",))
        log.close()
        assert (tmp_path / "failed.txt").read_text() == "a.mp4: damaged at frame 3\ns.tar:1.mp4: is empty\n"


def test_a_log_that_was_opened_and_never_written_is_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / "log.csv").touch()
    log = RunLog(tmp_path, 4, {})
    log.begin(0)
    log.step(1, {"total": 2.0})
    log.close()
    assert (tmp_path / "log.csv").read_text() == "step,total\n1,2.0\n"


def _curve(run: Path) -> list[dict[str, str]]:
    rows = list(csv.DictReader((run / "log.csv").read_text().splitlines()))
    return [{name: value for name, value in row.items() if name != "clips_per_s"} for row in rows]


def test_another_configuration_is_refused_in_the_same_folder(tmp_path: Path) -> None:
    words = [*SHORT, f"run={tmp_path / 'run'}", "validation.data="]
    train("smoke", words)
    with pytest.raises(ValueError, match=r"\(trainer\.learning_rate=\S+ there, 0\.5 here\)"):
        train("smoke", [*words, "trainer.learning_rate=0.5", "trainer.steps=6"])


def test_a_run_that_began_with_the_old_names_of_settings_and_discriminator_goes_on(tmp_path: Path) -> None:
    words = [*SHORT, "validation.data=", "trainer.decay=constant"]
    train("smoke", [*words, f"run={tmp_path / 'new'}"])
    shutil.copytree(tmp_path / "new", tmp_path / "old")
    file = tmp_path / "old" / "config.yaml"
    settings = yaml.safe_load(file.read_text())
    old_names = {"batch": "batch_size", "accumulate": "gradient_accumulation_steps", "clip": "max_grad_norm"}
    for old, new in old_names.items():
        settings["trainer"][old] = settings["trainer"].pop(new)
    settings["description"] = "an earlier sentence"
    file.write_text(yaml.safe_dump(settings))
    for folder in state.checkpoints(tmp_path / "old"):
        content = torch.load(folder / state.TRAINING, weights_only=True)
        for key in ("discriminator", "discriminator_optimizer"):
            content[key.replace("discriminator", "critic")] = content.pop(key)
        torch.save(content, folder / state.TRAINING)
    with pytest.raises(ValueError, match=r"trainer\.max_grad_norm=1\.0 there, 0\.5 here"):
        train("smoke", [*words, f"run={tmp_path / 'old'}", "trainer.steps=6", "trainer.max_grad_norm=0.5"])
    for name in ("new", "old"):
        train("smoke", [*words, f"run={tmp_path / name}", "trainer.steps=6"])
    assert _curve(tmp_path / "old") == _curve(tmp_path / "new")
    assert len(_curve(tmp_path / "old")) == 6
    assert yaml.safe_load(file.read_text())["trainer"]["max_grad_norm"] == 1.0


def test_a_run_that_was_moved_is_extended_with_more_workers_to_the_bits_of_the_longer_run(tmp_path: Path) -> None:
    words = [*SHORT, "validation.data=", "trainer.decay=constant"]  # a decay depends on the number of steps
    train("smoke", [*words, "trainer.steps=6", f"run={tmp_path / 'long'}"])
    train("smoke", [*words, f"run={tmp_path / 'old'}"])
    (tmp_path / "old").rename(tmp_path / "new")
    more = [f"run={tmp_path / 'new'}", "trainer.steps=6", "trainer.workers=1", "trainer.save_every=1", "trainer.keep=9"]
    train("smoke", [*words, *more])
    assert _curve(tmp_path / "new") == _curve(tmp_path / "long")
    assert [folder.name[-1] for folder in state.checkpoints(tmp_path / "new")] == ["2", "4", "5", "6"]
    assert "steps: 6" in (tmp_path / "new" / "config.yaml").read_text()


def test_a_second_training_in_a_folder_is_refused_while_the_first_one_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["train", "smoke", *SHORT, f"run={tmp_path}", "validation.data="]
    holder = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sys, wfvae.processes as p\nwith p.locked(p.Path(sys.argv[1])): print(flush=True); input()",
            str(tmp_path),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert holder.stdout is not None
    holder.stdout.readline()
    assert cli.main(words) == 2
    said = capsys.readouterr().err
    assert f"{tmp_path} is in use by another training (process {holder.pid})" in said
    assert said.count("\n") == 1
    holder.kill()
    holder.communicate()
    assert (tmp_path / "lock").read_text() == f"{holder.pid}\n"  # it died, and its lock with it
    assert cli.main(words) == 0


def test_a_run_that_failed_before_its_first_checkpoint_leaves_the_folder_free(tmp_path: Path) -> None:
    words = [*SHORT, f"run={tmp_path / 'run'}", "validation.data="]
    with pytest.raises(OSError, match="no such folder"):
        train("smoke", [*words, "data.synthetic=0", "data.root=/nowhere"])
    assert train("smoke", words) == 0


@pytest.mark.parametrize("word", ["data.root=/nope", "data.manifest=clips.csv"])
def test_files_given_to_a_synthetic_recipe_are_refused(
    word: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["train", "smoke", word, f"run={tmp_path / 'run'}"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert word in line
    assert "set data.synthetic=0" in line
    assert not (tmp_path / "run").exists()


def test_missing_lpips_weights_name_both_ways_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VAEBENCH_WEIGHTS", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(ValueError, match=r"vaebench weights fetch vgg16.*loss\.perceptual=0"):
        train("smoke", [*SHORT, f"run={tmp_path / 'run'}", "loss.perceptual=1.0"])


def test_a_closed_flow_brings_nothing_in_and_nothing_out() -> None:
    torch.manual_seed(0)
    model = WFVAE(WFVAEConfig(4, 2, 4, 1, 1, 1, 4, 4))
    close_flow(model, [2])
    video = torch.rand(1, 3, 5, 16, 16) * 2 - 1
    found = model(video, sample_posterior=False)
    assert not found.decoder_w3.any()
    assert found.decoder_w2.any()
    found.video.sum().backward()
    closed = {name for name, p in model.named_parameters() if not p.requires_grad}
    assert {name for name in closed if "wavelet" not in name} == {
        name for name, _ in model.named_parameters() if "connect_l2" in name
    }
    with pytest.raises(ValueError, match="levels 1 and 2"):
        close_flow(model, [3])


def test_a_flow_that_was_open_in_the_stage_before_is_closed_in_the_next(tmp_path: Path) -> None:
    words = [*SHORT, "trainer.steps=1", "validation.data="]
    train("smoke", [*words, f"run={tmp_path / 'open'}"])
    first = state.checkpoints(tmp_path / "open")[-1]
    train("smoke", [*words, f"run={tmp_path / 'closed'}", f"start_from={first}", "without_flow=[2]"])
    before, after = (load(state.checkpoints(tmp_path / name)[-1]) for name in ("open", "closed"))
    assert before.encoder.connect_l2.weight.any()
    assert not after.encoder.connect_l2.weight.any()
    assert not after.decoder.connect_l2[-1].weight.any()
    assert after.encoder.connect_l1.weight.any()


TINY = [f"model.{name}={value}" for name, value in (
    ("base_channels", 16), ("encoder_flow_channels", 16), ("decoder_flow_channels", 16),
)]  # fmt: skip


def test_a_training_starts_from_the_built_in_model_by_name(tmp_path: Path) -> None:
    run = tmp_path / "run"
    words = [*SHORT, "trainer.steps=1", "trainer.learning_rate=1e-12", "loss.adversarial=0", "start_from=wfvae/tiny"]
    assert train("smoke", [*words, *TINY, f"run={run}"]) == 0
    described = json.loads((WEIGHTS / "tiny.json").read_text())
    built_in = load(WEIGHTS / "tiny.safetensors", WFVAEConfig.from_official(described)).state_dict()
    for name, value in load(state.checkpoints(run)[-1]).state_dict().items():
        torch.testing.assert_close(value, built_in[name], atol=1e-6, rtol=0)


def test_a_model_that_differs_from_the_weights_it_should_start_from_is_refused_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["train", "smoke", *SHORT, "start_from=wfvae/tiny", f"run={tmp_path / 'run'}"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"set {' '.join(TINY[:2])}, or start from weights with model.base_channels=8" in line


@pytest.mark.parametrize(
    ("given", "answer"), [("wfvae/tinny", "did you mean 'tiny'"), ("/nowhere", "/nowhere does not exist; give")]
)
def test_weights_to_start_from_that_do_not_exist_are_refused(
    given: str, answer: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["train", "smoke", *SHORT, f"start_from={given}", f"run={tmp_path / 'run'}"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert answer in line


def test_a_run_goes_on_without_the_weights_that_it_started_from(tmp_path: Path) -> None:
    words = [*SHORT, "trainer.steps=2", "validation.data=", "loss.adversarial=0"]
    train("smoke", [*words, f"run={tmp_path / 'first'}"])
    words += [f"run={tmp_path / 'second'}", f"start_from={tmp_path / 'first'}"]
    train("smoke", words)
    whole = _curve(tmp_path / "second")
    (tmp_path / "first").rename(tmp_path / "lost")
    assert train("smoke", words) == 0
    assert _curve(tmp_path / "second") == whole


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose best checkpoint is not its newest."""
    run = tmp_path_factory.mktemp("runs") / "a,b"
    assert train("smoke", [*SHORT, f"run={run}", "trainer.validate_every=2", "loss.adversarial=0"]) == 0
    state.mark_best(run, state.checkpoint_folder(run, 2).name)
    return run


@pytest.mark.parametrize("place", ["", "checkpoints", "checkpoints/best"])
def test_a_run_is_named_by_its_best_checkpoint(finished: Path, place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    best = f"wfvae:{state.checkpoint_folder(finished, 2)}"
    assert adapters.resolve(f"wfvae:{finished / place}").label == adapters.resolve(best).label
    assert adapters.find(f"wfvae:{finished / place}") == adapters.find(best)
    assert adapters.resolve(f"wfvae:{finished / place}").weights == adapters.resolve(best).weights
    monkeypatch.chdir(finished.parent)
    assert adapters.resolve(f"wfvae:{Path(finished.name, place)}").label == adapters.resolve(best).label
    assert "step-00000002" in adapters.resolve(best).label


def test_a_run_whose_best_checkpoint_is_unknown_or_lost_is_named_by_its_newest(finished: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    for step in (2, 4):
        shutil.copytree(state.checkpoint_folder(finished, step), state.checkpoint_folder(run, step))
    newest = adapters.resolve(f"wfvae:{state.checkpoint_folder(run, 4)}").label
    assert adapters.resolve(f"wfvae:{run}").label == newest
    (run / "checkpoints" / "best").write_text("step-00000001\n")
    assert adapters.resolve(f"wfvae:{run}").label == newest


def test_a_run_without_a_checkpoint_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "checkpoints").mkdir()
    assert cli.main(["check", f"wfvae:{tmp_path}"]) == 2
    assert "has no checkpoint yet" in capsys.readouterr().err


def test_a_training_ends_with_its_checkpoint_and_the_command_that_evaluates_it(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    again = [*SHORT, f"run={finished}", "trainer.validate_every=2", "loss.adversarial=0"]
    assert train("smoke", again) == 0  # finished: it prints the same lines
    samples, checkpoint, evaluate = capsys.readouterr().out.splitlines()
    assert samples.partition(": ")[2].strip() == str(finished / "samples" / "step-00000004.png")
    assert checkpoint.partition(": ")[2].strip() == str(state.best(finished))
    program, *words = shlex.split(evaluate.partition(": ")[2])
    assert program == "vaebench"
    monkeypatch.chdir(tmp_path)
    assert cli.main([*words, "num_frames=5", "size=32", "clips=1", "metrics=psnr", "device=cpu"]) == 0
    assert adapters.resolve(f"wfvae:{finished}").label in capsys.readouterr().out


def test_tensorboard_shows_the_samples_of_each_validation(finished: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(finished / "tensorboard"))
    events.Reload()
    shown = events.Images("validation/samples")
    assert [event.step for event in shown] == [2, 4]
    with Image.open(finished / "samples" / "step-00000004.png") as kept:
        assert (shown[-1].width, shown[-1].height) == kept.size


def test_a_later_stage_without_the_checkpoint_of_the_one_before_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"start_from=CHECKPOINT.*refresh_discriminator=false"):
        train("stage2", [f"run={tmp_path / 'run'}"])
    assert not (tmp_path / "run").exists()


def test_a_validation_that_cannot_run_is_refused_before_the_first_step(tmp_path: Path) -> None:
    for bad in ("num_frames=6", "size=20"):
        with pytest.raises(ValueError, match=r"1 \+ 4k frames and a size that is a multiple of 8"):
            train("smoke", [*SHORT, f"run={tmp_path}", f"validation.{bad}"])
    assert not (tmp_path / "log.csv").exists()


def test_lpips_is_computed_where_the_videos_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every process has a GPU of its own, which it knows only once training begins."""
    network = torch.nn.Conv2d(3, 1, 8)
    pair = torch.nn.Module()
    pair.add_module("network", network)
    monkeypatch.setattr(pair, "forward", lambda a, b: network(a - b), raising=False)
    monkeypatch.setattr(perceptual.lpips, "package", lambda net: pair)
    monkeypatch.setattr(perceptual.lpips, "fill", lambda network, file: None)
    monkeypatch.setattr(perceptual.weights, "verified", lambda name: Path(name))
    distance = perceptual.lpips_loss()
    frames = torch.zeros(2, 3, 8, 8, device="meta")
    assert distance(frames, frames).shape == (2,)
    assert network.weight.device == frames.device


def test_a_run_killed_while_it_writes_its_only_checkpoint_anew_keeps_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, remove = state.checkpoint_folder(tmp_path, 4), state.shutil.rmtree
    state.write(folder, {}, {"w": torch.zeros(1)}, {"step": 4})

    def killed_once_it_is_removed(path: Path, ignore_errors: bool = False) -> None:
        if path.exists():
            remove(path)
            raise KeyboardInterrupt

    monkeypatch.setattr(state.shutil, "rmtree", killed_once_it_is_removed)
    with pytest.raises(KeyboardInterrupt):
        state.write(folder, {}, {"w": torch.ones(1)}, {"step": 4})
    assert state.checkpoints(tmp_path) == [folder]
    assert state.read(folder) == {"step": 4}


def test_a_sheet_shows_references_above_reconstructions() -> None:
    clip = np.zeros((2, 3, 4, 6, 3), np.uint8)
    clip[1] = 255
    image = sheet([clip, clip])
    assert image.shape == (3, 16, 18)
    assert not image[:, :4].any()
    assert image[:, 4:8].all()


def test_recipes_are_found_beside_the_package() -> None:
    assert {"stage1", "stage2", "stage3", "tiny", "smoke"} <= set(recipes())
    assert Path(RECIPES, "stage1.yaml").is_file()


def test_scores_of_several_runs_are_drawn_against_the_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, level in (("a", 20.0), ("b", 25.0)):
        (tmp_path / "runs" / name).mkdir(parents=True)
        (tmp_path / "runs" / name / "scores.csv").write_text(f"step,psnr,ssim\n10,{level},0.5\n20,{level + 1},0.6\n")
    files = list(plot.draw([tmp_path / "runs"], tmp_path / "out", ("svg",)))
    assert [file.name for file in files] == ["training-psnr.svg", "training-ssim.svg"]
    text = files[0].read_text()
    assert all(word in text for word in ("PSNR [dB] (higher is better)", "training step", ">a<", ">b<"))
    assert "PSNR on the validation clips during training" in text
    assert "SSIM (higher is better)" in files[1].read_text()
    assert plot.read_scores(tmp_path / "runs" / "b") == ([10, 20], {"psnr": [25.0, 26.0], "ssim": [0.5, 0.6]})
    monkeypatch.chdir(tmp_path / "runs" / "b")
    (here, _) = plot.draw([Path()], tmp_path / "here", ("svg",))
    assert ">b<" in here.read_text()
    with pytest.raises(ValueError, match="no run with validation scores"):
        list(plot.draw([tmp_path / "out"], tmp_path / "out"))


def test_every_metric_is_drawn_with_the_unit_and_direction_of_its_module(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VAEBENCH_WEIGHTS", str(tmp_path))  # where there are no weights, of LPIPS and FVD for instance
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    assert plot.axis_label("flicker") == "FLICKER [levels] (lower is better)"
    assert plot.axis_label("lpips") == "LPIPS (lower is better)"
    assert plot.axis_label("psnr_pooled") == "PSNR_POOLED [dB] (higher is better)"
    assert all("is better)" in plot.axis_label(name) for name in plugins.names("metrics"))
    metric = SimpleNamespace(unit="", better="neither")
    plugin = SimpleNamespace(build=lambda device: metric)
    monkeypatch.setattr(plugins, "find", lambda kind, name: plugin)
    assert plot.axis_label("mine") == "MINE"


def test_a_metric_that_is_not_installed_is_drawn_by_its_name() -> None:
    assert plot.axis_label("someone_elses") == "someone_elses"


def test_the_built_in_model_is_small_and_better_than_half_as_many_dct_values() -> None:
    weights = RECIPES.parent / "weights" / "tiny.safetensors"
    assert weights.stat().st_size < 12 << 20
    model = load(weights, WFVAEConfig.from_official(json.loads(weights.with_suffix(".json").read_text())))
    assert model.config == parse("tiny", []).model
    dct, psnr = adapters.load("dct/4"), plugins.find("metrics", "psnr").build("cpu")
    scores = []
    for clip in plugins.find("data", "bundle").build(RunConfig(num_frames=9, size=64)):
        video = to_model(clip.load())[None]
        with torch.no_grad():
            found = model.decode(model.encode(video).mode())
        padded = torch.cat([video, video[:, :, -1:].expand(-1, -1, 3, -1, -1)], dim=2)
        floor = dct.decode(dct.encode(padded).mode())[:, :, :9]
        scores.append([psnr.measure(to_score(video), to_score(v)).item() for v in (found, floor)])
    ours, theirs = torch.tensor(scores).mean(0)
    assert ours > theirs + 1


def test_the_built_in_model_was_trained_on_no_scene_of_the_bundle_and_validated_on_none_of_its_own() -> None:
    trained, judged = (_scenes(RECIPES / name) for name in ("tiny.csv", "tiny-validation.csv"))
    assert len(trained) == 45
    assert not trained & judged
    # the scenes of the built-in and evaluation clips, as the sample collection names them
    assert not trained & {"intel-asl-room", "mdn-wooden-table", "tears-of-steel:hangar", "mdn:flower"}


def _scenes(manifest: Path) -> set[str]:
    return {row["label"] for row in csv.DictReader(manifest.read_text().splitlines())}

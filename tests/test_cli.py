"""The command line as a user meets it: real processes, real exit codes, what stands on which stream."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from tests.videos import pictures, write
from vaebench import cli, plugins
from vaebench.training.recipes import descriptions

ROOT = Path(__file__).parent.parent


def vaebench(*words: str, cwd: Path | None = None, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "vaebench", *words],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=cwd or ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **env},
    )


@pytest.mark.parametrize(
    "words",
    [
        ["--help"],
        ["run", "--help"],
        ["train", "--help"],
        ["list"],
        ["list", "adapters"],
        ["list", "metrics"],
        ["list", "recipes"],
        ["weights"],
    ],
)
def test_what_only_talks_does_not_import_torch(words: list[str]):
    script = (
        "import sys; from vaebench.cli import main\n"
        f"try: main({words!r})\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'numpy', 'diffusers', 'matplotlib', 'pandas'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert done.stdout


def test_the_help_of_run_explains_every_setting(capsys: pytest.CaptureFixture[str]):
    from dataclasses import fields

    from vaebench.config import RunConfig

    with pytest.raises(SystemExit):
        cli.main(["run", "--help"])
    text = capsys.readouterr().out
    lines = text.splitlines()
    titles = [line for line in lines if line.endswith(":") and not line.startswith(" ")]
    options = [f"options of --suite {name}:" for name in plugins.names("suites")]
    groups = ["selection:", "data:", "scoring:", "execution:", "output:"]
    assert titles[2:] == [*groups, *options, "scores of --suite latent:", "examples:"]
    for setting in fields(RunConfig):
        line = next(i for i, line in enumerate(lines) if line.startswith(f"  {setting.name}: "))
        assert len(lines[line + 1].strip()) > 8, setting.name
    for suite in plugins.names("suites"):
        assert f"options of --suite {suite}:" in text
        for option in fields(plugins.find("suites", suite).Options):
            line = next(i for i, line in enumerate(text.splitlines()) if line.startswith(f"  {option.name}: "))
            assert len(text.splitlines()[line + 1].strip()) > 10, option.name


def test_the_help_of_train_explains_every_setting_and_names_every_recipe(capsys: pytest.CaptureFixture[str]):
    from dataclasses import fields, is_dataclass
    from typing import get_type_hints

    from vaebench.training.run import TrainConfig

    def names(kind: type, prefix: str = "") -> Iterator[str]:
        hints = get_type_hints(kind)
        for setting in fields(kind):
            hint = hints[setting.name]
            yield from names(hint, f"{setting.name}.") if is_dataclass(hint) else [prefix + setting.name]

    with pytest.raises(SystemExit):
        cli.main(["train", "--help"])
    lines = capsys.readouterr().out.splitlines()
    explained = {
        line.strip().partition(":")[0]: lines[i + 1].strip() for i, line in enumerate(lines[:-1]) if " = " in line
    }
    expected = set(names(TrainConfig))
    assert expected <= explained.keys()
    assert [name for name in expected if len(explained[name]) < 8] == []
    assert "  trainer.warmup: int = 0" in lines
    assert "Lists: validation.metrics=psnr,ssim or 'validation.metrics=[psnr,ssim]'." in "\n".join(lines)
    assert "usage: vaebench train [-h] recipe [key=value ...]" in lines
    assert "  model.norm: {layernorm,groupnorm} = layernorm" in lines
    titles = [line for line in lines if line.endswith(":") and not line.startswith(" ")]
    assert titles[2:] == [
        f"{t}:"
        for t in (["recipes", "run", "model", "loss", "lcr", "lmr", "trainer", "data", "validation", "examples"])
    ]
    for recipe, what in descriptions().items():
        assert what
        assert any(line.split()[:1] == [recipe] and what in line for line in lines), recipe


def test_recipes_are_listed_with_their_descriptions(capsys: pytest.CaptureFixture[str]):
    assert cli.main(["list", "recipes"]) == 0
    lines = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert lines == descriptions()
    assert lines["l-16"] == "WF-VAE-L with 16 latent channels, stage one"
    assert cli.main(["list"]) == 0
    assert "recipes: ablation-flow-256, " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["run", "--suite", "reconstrution"], "did you mean 'reconstruction'"),
        (["run", "vaes=[pol/4x8x8]"], "did you mean 'pool'"),
        (["run", "vaes=[pool/4x8x9]"], "did you mean '4x8x8'"),
        (["run", "data=bundel"], "did you mean 'bundle'"),
        (["run", "vaes=[pool/4x8x8]", "metrix=[psnr]"], "did you mean 'metrics'"),
        (["run", "vaes=[pool/4x8x8]", "num_frame=17"], "no setting 'num_frame'; did you mean 'num_frames'"),
        (["run", "vaes=[pool/4x8x8]", "metrics=[pnsr]"], "did you mean 'psnr'"),
        (["run", "vaes=[pool/4x8x8]", "metrics={psnr,ssim}"], "no '{psnr' in metrics; did you mean 'psnr'"),
        (["run", "vaes=[pool/4x8x8]", "metrics=[PSNR]"], "no 'PSNR' in metrics; did you mean 'psnr'"),
        (["run", "vaes=Pool/4x8x8"], "no 'Pool' in adapters; did you mean 'pool'"),
        (["run", "vaes=dct/4,dct/9"], "dct has no variant '9' (there are: 4, 8, 16, tiny)"),
        (["run", "vaes=dct"], "dct: name a variant: dct/4, dct/8, dct/16, dct/tiny"),
        (["check", "wfvae"], "wfvae: name a variant: wfvae/l-16, "),
        (["run", "vaes=dct/4,,dct/8"], "an empty or badly quoted item"),
        (["run", "vaes=[pool/4x8x8]", "keep=-1"], "keep=-1 should be a number of clips, ids of clips, or worst:N"),
        (["run", "vaes=[pool/4x8x8]", "mode=tiled"], "mode 'tiled'"),
        (["run", "vaes=[pool/4x8x8]", "device=abacus"], "unknown to torch; use auto, cpu or cuda"),
        (["run", "vaes=[]"], "is an empty list"),
        (["run", "vaes=[pool/4x8x8]", "weights=here.pt"], "pool/4x8x8 reads no weights: remove weights=here.pt"),
        (["run", "vaes=[cogvideox/tiny]", "weights=here.pt"], "cogvideox/tiny reads no weights"),
        (["run", "vaes=[wfvae/tiny]", "weights=nowhere.ckpt"], "not ready: wfvae/tiny: nowhere.ckpt does not exist"),
        (["run", "vaes=[pool/4x8x8]", "num_frames=1", "metrics=[flicker]"], "none of the metrics can be computed here"),
        (["run", "shard=3"], "expected i/n"),
        (["run", "vaes=[pool/4x8x8]", "data=folder", "root=nowhere"], "nowhere"),
        (["run", "--config", "nowhere.yaml"], "nowhere.yaml"),
        (["run", "--config", os.devnull], "/dev/null is empty: expected key: value lines"),
        (["run", "--config", ""], "--config has an empty value"),
        (
            ["train", "smoke", "trainer={steps: 3}"],
            "trainer={steps: 3} is not a mapping: give each setting as trainer.NAME=VALUE",
        ),
        (["train", "smoke", "trainer.step=10"], "no setting 'trainer.step'; did you mean 'trainer.steps'?"),
        (["train", "smoke", "steps=10"], "no setting 'steps'; did you mean 'trainer.steps'?"),
        (["train", "smoke", "size=64"], "did you mean 'data.size' or 'validation.size'? (available: run, "),
        (["train"], "name a recipe before its settings, such as `vaebench train smoke`; `vaebench list recipes` lists"),
        (["train", "data.root=vids"], "name a recipe before its settings"),
        (
            ["train", "smoke", "--dry-run"],
            "argument --dry-run: settings are key=value words, see `vaebench train --help`",
        ),
        (["run", "vaes=dct/8", "--clips", "1"], "argument --clips: settings are key=value words: clips=1"),
        (["run", "--num-frames=9", "vaes=dct/8"], "settings are key=value words: num_frames=9"),
        (["run", "--sutie", "relay"], "argument --sutie; did you mean '--suite'?"),
        (["compare", "a", "b", "--fail-bellow", "psnr=0"], "argument --fail-bellow; did you mean '--fail-below'?"),
        (["--clips", "run", "vaes=dct/8"], "argument --clips: options follow the command, see `vaebench --help`"),
        (["check", "pool/4x8x8", "size=1e3"], "size='1e3' should be a whole number"),
        (["weights", "fetch", "alexnt"], "did you mean 'alexnet'"),
        (["weights", "fetch", "nope"], "; `vaebench list adapters` has the names of VAEs"),
        (["codecs", "nowhere"], "nowhere: no such folder; expected the results folder of `vaebench run`"),
        (["run", "--suite", "relay", "protocol=loop"], "of the relay suite, where the setting is protocols=loop"),
        (["weights", "fetch"], "needs either names or --all-metrics"),
        (["plot", "--results", "nowhere"], "no records in nowhere"),
        (["plot", "--training", "a", "--only", "strips"], "--only selects a figure of records"),
        (["check", "wan/9"], "wan has no variant '9'"),
        (["check", "pool/4x8x8", "weights=here.pt"], "pool/4x8x8 reads no weights"),
        (["manifest", "nowhere", "out.csv"], "nowhere"),
    ],
)
def test_a_users_mistake_is_one_line_and_exit_code_2(
    words: list[str],
    said: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.chdir(tmp_path)
    assert cli.main(words) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert said in captured.err
    assert len(captured.err.strip().splitlines()) == 1
    assert list(tmp_path.iterdir()) == []  # nothing half-written


def test_a_training_run_is_drawn_in_formats_that_there_are_and_once_it_was_validated(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    Path("run").mkdir()
    Path("run/scores.csv").write_text("step,psnr\n")
    assert cli.main(["plot", "--training", "run"]) == 2
    assert "no validation yet" in capsys.readouterr().err
    Path("run/scores.csv").write_text("step,psnr\n10,20.5\n")
    assert cli.main(["plot", "--training", "run", "--format", "tiff"]) == 2
    assert "no format tiff (available: png, svg, pdf)" in capsys.readouterr().err


def test_two_weights_for_one_vae_are_refused():
    import adapters

    for ask in (adapters.resolve, lambda name, weights: adapters.load(name, weights=weights)):
        with pytest.raises(ValueError, match=r"wfvae:a\.ckpt already names its weights: remove weights=b\.ckpt"):
            ask("wfvae:a.ckpt", "b.ckpt")


def test_a_gpu_that_this_machine_lacks_is_named(monkeypatch: pytest.MonkeyPatch):
    import torch

    from vaebench.machine import pick_device

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert pick_device("cuda:1") == torch.device("cuda", 1)
    with pytest.raises(ValueError, match="device='cuda:2': this machine has 2 CUDA devices, counted from cuda:0"):
        pick_device("cuda:2")


def test_a_file_that_fetch_refuses_is_not_said_to_be_fetched(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    from vaebench import weights

    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("VAEBENCH_WEIGHTS", "TORCH_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    assert cli.main(["weights"]) == 0
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    for name, entry in weights.FILES.items():
        assert (f"weights fetch {name}`" in lines[name]) == bool(entry.checksum), name
        assert entry.url in lines[name]


SMALL = ["num_frames=5", "size=32", "metrics=psnr", "results=R", "runs=S"]


@pytest.mark.parametrize(
    ("encoding", "expected"),
    [
        ("ascii", ["reconstruction - bundle-5x32-first1-psnr", "psnr dB ^", "-----  ---------"]),
        ("cp1252", ["reconstruction · bundle-5x32-first1-psnr", "psnr dB ^", "-----  ---------"]),
        ("utf-8", ["reconstruction · bundle-5x32-first1-psnr", "psnr dB ↑", "-----  ---------"]),
    ],
)
def test_a_table_is_printed_in_every_encoding(encoding: str, expected: list[str], tmp_path: Path):
    words = [sys.executable, "-m", "vaebench", "run", "vaes=dct/4", "clips=1", *SMALL]
    env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "PYTHONIOENCODING": encoding}
    done = subprocess.run(words, capture_output=True, timeout=120, cwd=tmp_path, env=env)
    assert done.returncode == 0, done.stderr
    table = done.stdout.decode(encoding)
    for part in expected:
        assert part in table


def test_a_character_that_the_encoding_lacks_keeps_names_apart(tmp_path: Path):
    script = "from vaebench import cli; cli.main(['list']); print('猫 ± 狗 \\udcff')"
    env = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "ascii"}
    done = subprocess.run([sys.executable, "-X", "utf8", "-c", script], capture_output=True, timeout=60, env=env)
    assert done.returncode == 0, done.stderr
    assert done.stdout.decode("ascii").splitlines()[-1] == r"\u732b +- \u72d7 \udcff"


@pytest.mark.parametrize("words", [["list", "metrics"], ["run", "--help"], ["train", "--help"], ["list", "adapters"]])
def test_a_locale_of_ascii_reads_our_own_files(words: list[str]):
    done = vaebench(*words, LC_ALL="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0")
    assert (done.returncode, done.stderr) == (0, "")
    assert words != ["list", "metrics"] or "the Frechet distance" in done.stdout


def test_more_clips_than_there_are_is_the_run_of_all_of_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    for clips in ("clips=1000", "clips=8", "clips=null"):
        assert cli.main(["run", "vaes=dct/4", clips, *SMALL]) == 0
    (file,) = Path("R").rglob("*.json")  # one setting, one store
    assert file.parent.name == "bundle-5x32-psnr"
    assert json.loads(file.read_text())["config"]["clips"] is None
    assert len(list(Path("S").iterdir())) == 1
    assert cli.main(["run", "vaes=dct/4", "clips=7", *SMALL]) == 0
    assert Path("R/reconstruction/bundle-5x32-first7-psnr/dct-4.json").is_file()


def test_a_list_needs_no_brackets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["run", "vaes=dct/4,dct/8", "clips=1", *SMALL]) == 0
    assert sorted(file.name for file in Path("R").rglob("*.json")) == ["dct-4.json", "dct-8.json"]
    assert cli.main(["plot", "--results", "R", "--format", "[png, svg]", "--only", "per_clip"]) == 0
    assert {Path(line).suffix for line in capsys.readouterr().out.splitlines() if line.startswith("R/")} == {
        ".png",
        ".svg",
    }


@pytest.mark.parametrize("folder", ["0012", "x #2", "no", "${HOME}", "[old]"])
def test_the_folder_that_was_typed_is_the_one_that_is_measured(
    folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    for name in (folder, "10", "x", "False"):  # and what YAML makes of some of them
        Path(name).mkdir()
        write(Path(name) / f"{'right' if name == folder else 'wrong'}.mp4", pictures(5))
    words = ["data=folder", f"root={folder}", f"results=R {folder}", f"runs=S {folder}", "num_frames=5", "size=32"]
    assert cli.main(["run", "vaes=dct/4", "metrics=psnr", *words]) == 0
    (table,) = Path(f"R {folder}").rglob("*.csv")
    assert [line.split(",")[0] for line in table.read_text().splitlines()] == ["clip", "right"]
    assert Path(f"S {folder}").is_dir()


@pytest.mark.parametrize(
    "words",
    [
        ["list", "adapters"],
        ["weights"],
        ["run", "vaes=[wan/2.1]", "weights=~no-such-user/w"],
        ["check", "wfvae:~no-such-user/w"],
    ],
)
def test_a_user_without_a_home_is_told_in_one_line(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    import pwd

    def unknown(_: object) -> None:
        raise KeyError("uid not found")

    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr(pwd, "getpwuid", unknown)
    assert cli.main(words) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "Could not determine home directory. Set HOME to a folder" in line


def test_another_runtime_error_is_not_hidden(monkeypatch: pytest.MonkeyPatch):
    from vaebench import weight_files

    def broken() -> str:
        raise RuntimeError("a bug of ours")

    monkeypatch.setattr(weight_files, "table", broken)
    with pytest.raises(RuntimeError, match="a bug of ours"):
        cli.main(["weights"])


def test_the_process_itself_ends_with_the_exit_code_and_no_traceback():
    done = vaebench("run", "--suite", "nonsense")
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert "no 'nonsense' in suites" in done.stderr


def test_a_package_that_only_some_commands_need_is_named_with_the_way_to_get_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    from vaebench import preset

    def choose(*_: object, **__: object) -> None:
        raise ModuleNotFoundError("No module named 'accelerate'", name="accelerate")

    monkeypatch.setattr(preset, "choose", choose)
    assert cli.main(["run"]) == 2
    assert "pip install '.[train]'" in capsys.readouterr().err


def test_a_module_of_somebody_else_without_a_sentence_is_listed_all_the_same(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(plugins, "names", lambda kind: ["mute"])
    monkeypatch.setattr(plugins, "find", lambda kind, name: ModuleType(name))
    assert cli.main(["list", "metrics"]) == 0
    assert capsys.readouterr().out == "mute\n"


def test_every_plugin_has_a_first_sentence(capsys: pytest.CaptureFixture[str]):
    for kind in ("metrics", "data", "suites"):
        assert cli.main(["list", kind]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert len(lines) == len(plugins.names(kind))
        for line in lines:
            assert len(line.split(maxsplit=1)[1]) > 20, line


def test_the_list_of_adapters_has_a_line_for_every_variant(capsys: pytest.CaptureFixture[str]):
    import adapters

    assert cli.main(["list", "adapters"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[1:]] == adapters.names()

"""The command line as a user meets it: real processes, real exit codes, what stands on which stream."""

import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from vaebench import cli, plugins

ROOT = Path(__file__).parent.parent


def vaebench(*words: str, cwd: Path | None = None, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "vaebench.cli", *words],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=cwd or ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **env},
    )


@pytest.mark.parametrize(
    "words", [["--help"], ["run", "--help"], ["list"], ["list", "adapters"], ["list", "metrics"], ["weights"]]
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
    assert "= (" not in text  # a field on several lines, whose sentence would be lost
    lines = text.splitlines()
    for setting in fields(RunConfig):
        line = next(i for i, line in enumerate(lines) if line.startswith(f"  {setting.name}: "))
        assert len(lines[line + 1].strip()) > 8, setting.name
    for suite in plugins.names("suites"):
        assert f"options of --suite {suite}:" in text
        for option in fields(plugins.find("suites", suite).Options):
            line = next(i for i, line in enumerate(text.splitlines()) if line.startswith(f"  {option.name}: "))
            assert len(text.splitlines()[line + 1].strip()) > 10, option.name


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
        (["run", "vaes=[pool/4x8x8]", "metrics={psnr,ssim}"], "metrics is a list, which reads metrics=[one,two]"),
        (["run", "vaes=[pool/4x8x8]", "keep=-1"], "keep=-1 should be a number of clips"),
        (["run", "vaes=[pool/4x8x8]", "mode=tiled"], "mode 'tiled'"),
        (["run", "vaes=[pool/4x8x8]", "device=abacus"], "torch knows no such device"),
        (["run", "vaes=[]"], "names no VAE"),
        (["run", "vaes=[pool/4x8x8]", "weights=here.pt"], "pool/4x8x8 reads no weights; leave weights=here.pt out"),
        (["run", "vaes=[cogvideox/tiny]", "weights=here.pt"], "cogvideox/tiny reads no weights"),
        (["run", "vaes=[wfvae/tiny]", "weights=nowhere.ckpt"], "not ready: wfvae/tiny: nowhere.ckpt is not here"),
        (["run", "vaes=[pool/4x8x8]", "num_frames=1", "metrics=[flicker]"], "none of the metrics can be taken here"),
        (["run", "shard=3"], "should read i/n"),
        (["run", "vaes=[pool/4x8x8]", "data=folder", "root=nowhere"], "nowhere"),
        (["run", "--config", "nowhere.yaml"], "nowhere.yaml"),
        (["weights", "fetch", "alexnt"], "did you mean 'alexnet'"),
        (["weights", "fetch"], "needs a NAME"),
        (["plot", "--results", "nowhere"], "no records in nowhere"),
        (["plot", "--training", "a", "--only", "strips"], "--only names a figure of records"),
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
    assert "no format tiff (there are: png, svg, pdf)" in capsys.readouterr().err


def test_two_weights_for_one_vae_are_refused():
    import adapters

    for ask in (adapters.available, lambda name, weights: adapters.load(name, weights=weights)):
        with pytest.raises(ValueError, match=r"wfvae:a\.ckpt names its weights already; leave weights=b\.ckpt out"):
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


def test_the_process_itself_ends_with_the_exit_code_and_no_traceback():
    done = vaebench("run", "--suite", "nonsense")
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert "no 'nonsense' in suites" in done.stderr


def test_a_package_that_only_some_commands_need_is_named_with_the_way_to_get_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    import vaebench.config

    def parse_run(*_: object, **__: object) -> None:
        raise ModuleNotFoundError("No module named 'accelerate'", name="accelerate")

    monkeypatch.setattr(vaebench.config, "parse_run", parse_run)
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

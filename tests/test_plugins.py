"""Other people's VAEs, metrics and sources join by a file of their own."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import adapters
from vaebench import cli, plugins


def test_an_unknown_name_is_answered_with_the_nearest():
    with pytest.raises(ValueError, match=r"no 'pol' in adapters; did you mean 'pool'\? \(available: .*pool.*\)"):
        plugins.find("adapters", "pol")


def test_private_modules_are_no_plugins():
    for kind in plugins.PACKAGES:
        assert plugins.names(kind) == sorted(set(plugins.names(kind)))
        assert not [name for name in plugins.names(kind) if name.startswith("_")]


def test_a_file_is_a_plugin_and_one_that_cannot_be_imported_is_named(tmp_path: Path):
    (tmp_path / "mine.py").write_text("VALUE = 3\n")
    assert plugins.find("metrics", str(tmp_path / "mine.py")).VALUE == 3
    (tmp_path / "broken.py").write_text("import nothing_of_this_name\n")
    with pytest.raises(ValueError, match=r"broken\.py cannot be imported: ModuleNotFoundError: No module named"):
        plugins.find("metrics", str(tmp_path / "broken.py"))
    with pytest.raises(ValueError, match=r"gone\.py: no such file"):
        plugins.find("suites", str(tmp_path / "gone.py"))


HALVES = """
from vaebench import Posterior, VAESpec

VARIANTS = {"2": VAESpec("halves", "2", 1, 2, 3, causal=True, size_multiple=2)}

def load(spec, **settings):
    raise NotImplementedError

def tiny(**settings):
    raise NotImplementedError
"""


@pytest.mark.parametrize("command", [["check"], ["run", "clips=1"]], ids=["check", "run"])
@pytest.mark.parametrize(
    ("right", "wrong", "variant", "said"),
    [
        (
            "def load",
            "def loadd",
            "",
            "has no function load(spec, *, weights, device, dtype, mode); did you mean 'loadd'?",
        ),
        ("def tiny", "def small", "/tiny", "has no function tiny(*, device, dtype, mode)"),
        (
            "VARIANTS =",
            "VARIANT =",
            "",
            "should define VARIANTS, a dict of variant name -> vaebench.VAESpec; did you mean 'VARIANT'?",
        ),
        (
            "VARIANTS =",
            "VARIANTS = {}; SPECS =",
            "",
            "should define VARIANTS, a dict of variant name -> vaebench.VAESpec",
        ),
    ],
    ids=["load", "tiny", "VARIANTS", "empty"],
)
def test_an_adapter_that_lacks_a_part_is_told_which(
    command: list[str],
    right: str,
    wrong: str,
    variant: str,
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "halves.py").write_text(HALVES.replace(right, wrong))
    name = f"./halves.py{variant}"
    assert cli.main([command[0], f"vaes={name}" if command[0] == "run" else name, *command[1:]]) == 2
    assert capsys.readouterr().err == f"vaebench: ./halves.py {said}\n"


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder in which the package `theirs` is installed, with an adapter and a metric of the name `broken`; few of ours."""
    ours = plugins._inside
    few = {"adapters": ("dct", "pool")}
    monkeypatch.setattr(plugins, "_inside", lambda kind: few.get(kind) or ours(kind))
    site = tmp_path / "site"
    info = site / "theirs-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: theirs\nVersion: 1.0\n")
    names = "".join(f"[vaebench.{kind}]\nbroken = {tmp_path.name}_broken\n" for kind in ("adapters", "metrics"))
    (info / "entry_points.txt").write_text(names)
    monkeypatch.syspath_prepend(site)
    monkeypatch.chdir(tmp_path)
    plugins._outside.cache_clear()
    adapters._print_once.cache_clear()
    yield site / f"{tmp_path.name}_broken.py"
    plugins._outside.cache_clear()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("raise ImportError('needs\\nno_such_package')", "cannot be imported: ImportError: needs no_such_package"),
        ("import no_such_package", "cannot be imported: ModuleNotFoundError: No module named 'no_such_package'"),
        ("NAME = 3", "should define VARIANTS, a dict of variant name -> vaebench.VAESpec"),
    ],
    ids=["ImportError", "ModuleNotFoundError", "VARIANTS"],
)
def test_a_broken_adapter_of_another_package_is_skipped_unless_it_is_named(
    content: str, reason: str, installed: Path, capsys: pytest.CaptureFixture[str]
):
    installed.write_text(content)
    line = f"broken (package theirs) {reason}\n"
    assert cli.main(["list", "adapters"]) == 0
    out, err = capsys.readouterr()
    assert {row.partition("/")[0] for row in out.splitlines()[1:]} == {"dct", "pool"}
    assert err == f"vaebench: skipped: {line}"
    adapters._print_once.cache_clear()
    assert cli.main(["run", "--suite", "tokens", "seconds=1"]) == 0
    out, err = capsys.readouterr()
    assert "dct/4 · 1 s" in out
    assert err.count(f"vaebench: skipped: {line}") == 1
    for name in ("broken", "broken/a"):
        assert cli.main(["run", "--suite", "tokens", f"vaes={name}"]) == 2
        assert capsys.readouterr().err == f"vaebench: {line}"


def test_a_broken_metric_of_another_package_is_listed_with_the_reason(
    installed: Path, capsys: pytest.CaptureFixture[str]
):
    installed.write_text("import no_such_package")
    assert cli.main(["list", "metrics"]) == 0
    reason = "broken (package theirs) cannot be imported: ModuleNotFoundError: No module named 'no_such_package'"
    out = capsys.readouterr().out
    assert re.search(rf"^broken +unavailable: {re.escape(reason)}$", out, re.MULTILINE)
    assert "psnr" in out
    assert cli.main(["run", "vaes=dct/4", "metrics=broken"]) == 2
    assert capsys.readouterr().err == f"vaebench: {reason}\n"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("{}/halves", "no such file: {0}/halves; did you mean {0}/halves.py?"),
        ("./halves", "no such file: ./halves; did you mean ./halves.py?"),
        ("halves", "no such file: halves; did you mean halves.py?"),
        ("sub/halves", "no such file: sub/halves; did you mean sub/halves.py?"),
        ("{}/halfs", "no such file: {0}/halfs"),
        ("./sub", "./sub is not a Python file (.py)"),
    ],
)
def test_a_path_without_its_suffix_is_told_the_file(
    name: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sub").mkdir()
    for folder in (tmp_path, tmp_path / "sub"):
        (folder / "halves.py").write_text(HALVES)
    for words in (["check", name], ["run", f"vaes={name}"], ["run", "vaes=dct/4", f"metrics={name}"]):
        assert cli.main([word.format(tmp_path) for word in words]) == 2
        assert capsys.readouterr().err == f"vaebench: {said.format(tmp_path)}\n"

"""The help texts: what they show is what the parser takes, and suites of other packages are in them."""

import shlex
import subprocess
import sys
from dataclasses import MISSING, dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, get_type_hints

import pytest

import adapters
from vaebench import cli, help, plugins
from vaebench.config import CheckConfig, RunConfig, parse_run
from vaebench.options import OURS
from vaebench.settings import build, setting
from vaebench.training.config import TrainConfig, parse

ROOT = Path(__file__).parent.parent
TRAIN = {name: hint for name, hint in get_type_hints(TrainConfig).items() if is_dataclass(hint)}
KINDS = [RunConfig, CheckConfig, TrainConfig, *OURS.values(), *TRAIN.values()]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_setting_has_a_sentence_and_its_default_reads_back(kind: type) -> None:
    for declared in fields(kind):
        if declared.name in TRAIN and kind is TrainConfig:
            continue
        assert len(declared.metadata["help"]) > 8, declared.name
        default = declared.default if declared.default is not MISSING else declared.default_factory()  # type: ignore[misc]
        text = help.default_text(default)
        if isinstance(default, dict):
            continue
        given = build(kind, {declared.name: "" if text == '""' else text})
        assert getattr(given, declared.name) == default, declared.name


def test_a_type_is_shown_as_its_values_are_typed() -> None:
    shown = {name: help.type_text(hint) for name, hint in get_type_hints(RunConfig).items()}
    assert shown["vaes"] == "list[str] or null"
    assert shown["clips"] == "int or null"
    assert shown["posterior"] == "{mode,sample}"
    assert help.type_text(tuple[int, int, int]) == "tuple[int, int, int]"
    assert help.type_text(tuple[float, ...]) == "tuple[float, ...]"
    assert help.type_text(Literal[4, 8]) == "{4,8}"
    assert [help.default_text(value) for value in (True, None, "", [], (2, 2), 1e-6)] == [
        "true", "null", '""', "[]", "2,2", "1e-06",
    ]  # fmt: skip


@pytest.mark.parametrize("command", ["run", "compare", "score", "table", "train", "plot"])
def test_help_ends_with_four_examples(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main([command, "--help"])
    end = capsys.readouterr().out.rpartition("examples:\n")[2].splitlines()
    assert [line.strip() for line in end] == [text for pair in help.EXAMPLES[command].items() for text in pair]
    assert len(help.EXAMPLES[command]) == 4


@pytest.mark.parametrize("words", [words for command in help.EXAMPLES for words in help.EXAMPLES[command]])
def test_an_example_is_a_command_that_vaebench_takes(words: str) -> None:
    command = shlex.split(words)
    arguments = cli._parser().parse_args(command[command.index("vaebench") + 1 :])
    if command[:2] == ["vaebench", "run"]:
        config = parse_run(arguments.settings, suite=arguments.suite, file=arguments.config)
        for name in config.vaes or []:
            assert ":" in name or name in [*adapters.names(), "wfvae/tiny"]
    elif "train" in command:
        parse(arguments.recipe, arguments.settings)


def test_a_suite_of_another_package_shows_its_options_and_a_broken_one_hides_nothing(tmp_path: Path) -> None:
    (tmp_path / "their_suite.py").write_text(
        "from dataclasses import dataclass\n"
        "from vaebench.settings import setting\n"
        "@dataclass(frozen=True)\n"
        "class Options:\n"
        "    depth: int = setting(3, 'number of levels to compare')\n"
        "    plain: float = 0.5\n"
    )
    (tmp_path / "broken_suite.py").write_text("import no_such_package\n")
    info = tmp_path / "their_suite-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: their-suite\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[vaebench.suites]\ntheirs = their_suite\nbroken = broken_suite\n")
    done = subprocess.run(
        [sys.executable, "-m", "vaebench", "run", "--help"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={"PYTHONPATH": f"{tmp_path}:{ROOT}", "PATH": "", "HOME": str(tmp_path)},
    )
    assert done.returncode == 0, done.stderr
    theirs = "options of --suite theirs:\n  depth: int = 3\n      number of levels to compare\n  plain: float = 0.5\n"
    assert theirs in done.stdout
    broken = "options of --suite broken:\n  unavailable: broken (package their-suite) cannot be imported: ModuleNotFoundError: "
    assert broken in done.stdout
    assert "options of --suite reconstruction:\n  metrics: " in done.stdout


def test_a_list_that_is_a_default_is_not_shared() -> None:
    @dataclass(frozen=True)
    class Options:
        names: list[str] = setting(["psnr"], "names")
        limit: int | None = setting(None, "limit", at_least=1)

    Options().names.append("ssim")
    assert Options().names == ["psnr"]
    for text in ("0", "-1"):
        with pytest.raises(ValueError, match=f"limit={text} should be at least 1"):
            build(Options, {"limit": text})


def test_our_suites_use_the_options_that_help_shows() -> None:
    modules: dict[str, Any] = {name: plugins.find("suites", name) for name in OURS}
    assert {name: module.Options for name, module in modules.items()} == OURS

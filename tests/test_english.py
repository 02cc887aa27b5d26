"""Phrases that a reader has to read twice occur neither in the documentation, nor in the sources, nor in `--help`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from vaebench import cli

ROOT = Path(__file__).parents[1]
# phrase -> what to write instead
FORBIDDEN = {
    r"so many": "N, or 'this number of'",
    r"of one's own": "user",
    r"witness\w*": "reference implementation",
    r"could not be had": "unavailable, or 'download failed'",
    r"that is none": "the positive statement, such as 'unknown setting'",
    r"is no number": "is NaN or infinite",
    r"the plumbing": "the installation",
    r"critics?": "discriminator",
    r"hazards?": "warning",
    r"the door(way)?": "validation",
}
PATTERN = re.compile("|".join(rf"\b{phrase}\b" for phrase in FORBIDDEN), re.IGNORECASE)
SOURCES = ("vaebench", "adapters", "wfvae")
# file -> names in it that cannot change, such as keys of stored checkpoints or identifiers of third parties
EXEMPT = {"wfvae/state.py": {"critic"}}
COMMANDS = (
    "",
    "run",
    "compare",
    "score",
    "table",
    "plot",
    "report",
    "train",
    "list",
    "published",
    "check",
    "weights",
    "manifest",
)


def phrases(text: str) -> list[str]:
    """The forbidden phrases in `text`, also across line breaks of prose and comments."""
    joined = re.sub(r"\s*\n[\s#]*", " ", text)
    return [match[0].lower() for match in PATTERN.finditer(joined)]


def documents() -> Iterator[Path]:
    yield from (ROOT / "README.md", ROOT / "CHANGELOG.md")
    for package in SOURCES:
        for suffix in ("py", "yaml", "md"):
            yield from sorted((ROOT / package).rglob(f"*.{suffix}"))


def test_the_sources_and_documents_use_plain_english():
    texts = {file.relative_to(ROOT).as_posix(): file.read_text(encoding="utf-8") for file in documents()}
    assert len(texts) > 100
    faults = {path: set(phrases(text)) - EXEMPT.get(path, set()) for path, text in texts.items()}
    assert {path: found for path, found in faults.items() if found} == {}


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_uses_plain_english(command: str, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit):
        cli.main([*([command] if command else []), "--help"])
    text = capsys.readouterr().out
    assert "usage: vaebench" in text
    assert phrases(text) == []


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("pieces of so many frames", ["so many"]),
        ("# pieces of so\n    # many frames", ["so many"]),
        ("Doorway checks. At the doorway", ["the doorway"]),
        ("a Critic of two scales", ["critic"]),
        ("critical, eyewitnesses of adoor", []),
    ],
)
def test_phrases_are_found_as_words_in_any_case(text: str, found: list[str]):
    assert phrases(text) == found

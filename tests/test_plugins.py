"""Other people's VAEs, metrics and sources join by a file of their own."""

from pathlib import Path

import pytest

from vaebench import plugins


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

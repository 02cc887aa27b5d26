"""Files of `torch.save` that hold code, or nothing that can be read: refused in one line, by every reader."""

import argparse
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from adapters._nets.checkpoint import read_state
from vaebench.features import i3d, lpips, videomae
from vaebench.generation.latte.model import LatteConfig
from vaebench.generation.latte.model import load as load_latte
from vaebench.pickled import load_tensors
from wfvae import checkpoint, state

READERS: dict[str, Callable[[Path], object]] = {
    "load_tensors": load_tensors,
    "lpips": lambda file: lpips.fill(torch.nn.Module(), file),
    "i3d": i3d.load,
    "videomae": videomae.load,
    "latte": lambda file: load_latte(file, LatteConfig(depth=2, hidden=24, heads=2)),
    "adapters": read_state,
    "wfvae": checkpoint.read_state,
    "training.pt": lambda file: state.read(file.parent),
}


class Ran:
    def __reduce__(self) -> tuple[Callable[[str], object], tuple[str]]:
        return Path.touch, (Path("ran"),)  # type: ignore[return-value]


@pytest.mark.parametrize("reader", READERS)
def test_a_refused_pickle_is_one_line_without_the_advice_to_load_it_unsafely(
    reader: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "training.pt"
    torch.save({"weight": torch.ones(100)}, file)
    cut = file.read_bytes()[:600]
    contents = [{"args": argparse.Namespace(lr=1)}, {"code": Ran()}, cut, b"", b"text", b"\x80\x02."]
    for content in contents:
        if isinstance(content, bytes):
            file.write_bytes(content)
        else:
            torch.save(content, file)
        with pytest.raises(
            ValueError, match=r"training\.pt cannot be read as (weights|a checkpoint): it is damaged, or"
        ) as caught:
            READERS[reader](file)
        said = str(caught.value)
        assert "\n" not in said
        assert "weights_only" not in said
        assert "trust" not in said
    assert not Path("ran").exists()
    file.unlink()
    if reader != "training.pt":
        with pytest.raises(FileNotFoundError, match=r"training\.pt"):
            READERS[reader](file)

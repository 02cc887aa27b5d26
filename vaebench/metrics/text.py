"""Text fidelity: how much of the text that can be read in the reference can be read in the reconstruction, 0 to 1.

As in TokBench (Wu et al. 2025), a text instance scores one minus the normalised edit distance of two readings.  Here both come
from OCR: the reader finds text in the reference, and reads the same rectangle in both videos.  Only instances that it reads in
the reference with a confidence of 0.8 or more count.  The score is the mean over all instances of all clips: a clip without text
has no weight, and a set without text has no score.  Every eighth frame is read.

The reader is rapidocr with the models in its package (PP-OCR); versions of the package have other models and other scores.
It takes two seconds per frame on a CPU core.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from vaebench.features.extras import missing
from vaebench.features.validation import check
from vaebench.metric import Metric
from vaebench.records import Better

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from vaebench.video import Video

STRIDE = 8  # frames
CONFIDENT = 0.8  # least confidence of a reading of the reference
MARGIN = 2  # pixels around a rectangle


class Reader(NamedTuple):
    """OCR of uint8 RGB pictures (H, W, 3)."""

    find: Callable[[NDArray], list[tuple[int, int, int, int]]]  # top, bottom, left, right of each text
    read: Callable[[NDArray], tuple[str, float]]  # text and confidence of a picture of one line


class TextFidelity(Metric):
    """
    Args:
        reader: OCR

    >>> words = iter([("seven", 0.9), ("eleven", 0.9)])
    >>> reader = Reader(lambda picture: [(0, 8, 0, 8)], lambda picture: next(words))  # replaces OCR
    >>> metric = TextFidelity(reader)
    >>> statistics = metric.measure(torch.zeros(1, 3, 8, 8, 8), torch.zeros(1, 3, 8, 8, 8))
    >>> round(metric.reduce(statistics.numpy()), 4)  # two edits in six letters
    0.6667
    """

    unit = ""
    better: Better = "higher"
    version = 1
    per_clip = False

    def __init__(self, reader: Reader) -> None:
        self.reader = reader

    def measure(self, reference: Video, reconstruction: Video) -> Tensor:
        """float32 (B, 3, T, H, W) in 0..1, for both arguments -> float64 (B, 2): instances, and the sum of their scores."""
        check(reference, reconstruction)
        clips = zip(reference, reconstruction, strict=True)
        return torch.tensor([self._of_clip(_pictures(a), _pictures(b)) for a, b in clips], dtype=torch.float64)

    def _of_clip(self, pictures: NDArray, others: NDArray) -> tuple[int, float]:
        count, total = 0, 0.0
        for picture, other in zip(pictures, others, strict=True):
            height, width, _ = picture.shape
            for top, bottom, left, right in self.reader.find(picture):
                rows = slice(max(top - MARGIN, 0), min(bottom + MARGIN, height))
                columns = slice(max(left - MARGIN, 0), min(right + MARGIN, width))
                expected, confidence = self.reader.read(picture[rows, columns])
                if expected and confidence >= CONFIDENT:
                    count += 1
                    total += similarity(expected, self.reader.read(other[rows, columns])[0])
        return count, total

    def reduce(self, statistics: NDArray) -> float:
        """(N, 2) -> mean over all instances.

        Raises:
            ValueError: no clip has text
        """
        instances, total = statistics.sum(axis=0)
        if not instances:
            raise ValueError(f"no text could be read in the references ({len(statistics)} clips)")
        return float(total / instances)


def similarity(a: str, b: str) -> float:
    """One minus the Levenshtein distance, divided by the length of the longer text.

    >>> similarity("kitten", "sitting")  # three edits in seven letters
    0.5714285714285714
    """
    row = list(range(len(b) + 1))  # distances of a prefix of a to all prefixes of b
    for i, letter in enumerate(a, 1):
        before, row[0] = row[0], i
        for j, other in enumerate(b, 1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (letter != other))
    longest = max(len(a), len(b))
    return 1 - row[-1] / longest if longest else 1.0


def _pictures(clip: Tensor) -> NDArray:
    """float32 (3, T, H, W) in 0..1 -> uint8 (n, H, W, 3), every eighth frame."""
    stored = clip[:, ::STRIDE].mul(255).round().to(torch.uint8)
    return stored.permute(1, 2, 3, 0).contiguous().cpu().numpy()


def build(device: torch.device | str) -> TextFidelity:
    """The reader runs on the CPU, whatever `device` is."""
    try:
        import onnxruntime  # noqa: F401  (rapidocr imports it only when it reads the first picture)
        from rapidocr import RapidOCR
    except ModuleNotFoundError as error:
        raise missing(error) from None
    engine = RapidOCR(params={"Global.log_level": "error"})

    def find(picture: NDArray) -> list[tuple[int, int, int, int]]:
        boxes = engine(picture[..., ::-1], use_det=True, use_cls=False, use_rec=False).boxes  # it takes BGR
        corners = [np.asarray(box) for box in boxes] if boxes is not None else []
        return [
            (int(np.floor(y.min())), int(np.ceil(y.max())), int(np.floor(x.min())), int(np.ceil(x.max())))
            for x, y in (box.T for box in corners)
        ]

    def read(picture: NDArray) -> tuple[str, float]:
        result = engine(picture[..., ::-1], use_det=False, use_cls=False, use_rec=True)
        return (str(result.txts[0]).strip(), float(result.scores[0])) if result.txts else ("", 0.0)

    return TextFidelity(Reader(find, read))

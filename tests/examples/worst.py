"""PSNR of the worst frame, mean over clips."""

from vaebench.metric import Metric
from vaebench.metrics.psnr import PSNR


class Worst(Metric):
    unit = "dB"
    better = "higher"
    per_clip = True  # each clip has a score, and the score of a set is their mean

    def measure(self, reference, reconstruction):  # float32 (B, 3, T, H, W) in 0..1, twice -> (B,)
        return PSNR().by_frame(reference, reconstruction).amin(dim=1)

    def reduce(self, statistics):  # (N,) -> the score
        return float(statistics.mean())


def build(device):
    return Worst()

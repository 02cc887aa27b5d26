"""The largest absolute value of each VAE's latents."""

import numpy as np

from vaebench.records import Score
from vaebench.suite import Suite, clip_cases
from vaebench.vae import pad
from vaebench.video import to_model


class Range(Suite):
    name = "range"

    def cases(self, source, spec):
        return clip_cases(source, self.config)

    def measure(self, vae, case):  # stored for each clip: an interrupted run resumes
        video = to_model(case.clip.load())[None]  # (1, 3, T, H, W) in -1..1
        return {"largest": np.float64(vae.encode(pad(video, vae.spec)).mode().abs().max())}

    def summarize(self, statistics):
        values = [stored["largest"] for stored in statistics.values()]
        return {"largest": Score(max(values), "", "neither", len(values), metric="largest")}


def build(config):
    return Range(config)

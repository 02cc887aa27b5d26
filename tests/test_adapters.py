"""Every family behind the contract, through its tiny network: shapes, lengths, causality, pieces, modes, state."""

from __future__ import annotations

import inspect
import math
from dataclasses import dataclass, replace
from functools import cache

import pytest
import torch

import adapters
from vaebench import cli, plugins
from vaebench.vae import VAESpec, VideoVAE, reconstruct

# networks of a family that are not a wider or narrower copy of its first
OTHER_NETWORKS = {
    "ltx": ["0.9.1", "0.9.5"], "wan": ["2.2"], "svd": ["img2vid"], "cvvae": ["sd3"], "sd": ["3"],
    "taesd": ["flux2", "sana"],
    "taehv": ["taecvx", "taeltx_2", "taeh3", "taew2_2_super"],
}  # fmt: skip
IN_GROUPS = {"taehv"}  # whose encoders, where not causal, look ahead only to the last frame of a latent's own group
TRANSFORMS = {"pool", "dct", "identity"}  # fixed block transforms: nothing outside a block can reach it


@dataclass(frozen=True)
class Case:
    family: str
    variant: str = ""

    @property
    def spec(self) -> VAESpec:
        variants = plugins.find("adapters", self.family).VARIANTS
        return variants[self.variant] if self.variant else next(iter(variants.values()))

    def load(self, mode: str = "whole", **settings) -> VideoVAE:
        return _tiny(self, mode, tuple(settings.items()))

    def video(self, frames: int, side: int = 0, batch: int = 1) -> torch.Tensor:
        """Smooth in space and rough in time, so that neither a frame nor a pixel is without influence."""
        side = side or self.side
        draw = torch.Generator().manual_seed(frames)
        coarse = torch.rand(batch * frames, 3, 4, 4, generator=draw) * 2 - 1
        fine = torch.rand(batch * frames, 3, side, side, generator=draw) * 2 - 1
        video = 0.7 * torch.nn.functional.interpolate(coarse, (side, side), mode="bilinear") + 0.3 * fine
        return video.unflatten(0, (batch, frames)).transpose(1, 2).contiguous()

    @property
    def side(self) -> int:
        """Height and width: small, but more than one latent wide, where group norms break down."""
        return {"ltx2": 64, "minimaxh3": 32}.get(self.family, max(16, self.spec.size_multiple))

    def __str__(self) -> str:
        return f"{self.family}-{self.variant}" if self.variant else self.family


@cache
def _tiny(case: Case, mode: str, settings: tuple) -> VideoVAE:
    tiny = plugins.find("adapters", case.family).tiny
    return tiny(mode=mode, **dict(settings), **({"variant": case.variant} if case.variant else {}))


FAMILIES = plugins.names("adapters")
CASES = [Case(f) for f in FAMILIES] + [Case(f, v) for f, vs in OTHER_NETWORKS.items() for v in vs if f in FAMILIES]
MODES = [(case, mode) for case in CASES for mode in case.spec.modes]
THROUGH_DIFFUSERS = [case for case in CASES if hasattr(plugins.find("adapters", case.family), "FAMILY")]
every_case = pytest.mark.parametrize("case", CASES, ids=str)
every_mode = pytest.mark.parametrize(("case", "mode"), MODES, ids=lambda value: str(value))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_has_what_an_adapter_must_have(family):
    module = plugins.find("adapters", family)
    assert module.VARIANTS
    for name, spec in module.VARIANTS.items():
        assert (spec.family, spec.variant) == (family, name)
        assert spec.license
        assert spec.reference
        assert set(spec.lossless_modes) <= set(spec.modes)
        assert "whole" in spec.modes
        for values in (spec.scale, spec.shift):
            assert isinstance(values, float | int) or len(values) == spec.latent_channels
    assert {"device", "dtype", "mode"} <= set(inspect.signature(module.tiny).parameters)
    assert {"weights", "device", "dtype", "mode"} <= set(inspect.signature(module.load).parameters)


@every_mode
def test_every_mode_gives_back_the_video_that_went_in(case, mode):
    """The shape of the video, the promised latent, the same bits twice; in one pass also an illegal length and an odd size."""
    vae = case.load(mode)
    spec = vae.spec
    if case.family not in TRANSFORMS:
        assert spec.name == f"{case.family}/tiny"
        assert spec.source == ""
    frames = spec.fit(spec.temporal_compression + 2)
    reconstruction, latent = reconstruct(vae, case.video(frames))  # checks both shapes
    assert reconstruction.dtype == latent.dtype == torch.float32
    assert not reconstruction.requires_grad
    assert not latent.requires_grad
    assert latent.std() > 0
    again, latent_again = reconstruct(vae, case.video(frames))
    assert torch.equal(again, reconstruction)
    assert torch.equal(latent_again, latent)
    if mode == "whole":
        awkward = case.video(frames - 1)[..., :-3, :-5]
        assert reconstruct(vae, awkward)[0].shape == awkward.shape


@every_case
def test_a_video_is_reconstructed_alone_as_in_a_batch(case):
    vae = case.load()
    pair = case.video(vae.spec.fit(2), batch=2)
    together = vae.decode(vae.encode(pair).mode())
    for index in range(2):
        alone = vae.decode(vae.encode(pair[index : index + 1]).mode())
        torch.testing.assert_close(together[index : index + 1], alone, atol=1e-3, rtol=1e-3)


@every_case
def test_the_encoder_looks_ahead_only_if_the_spec_says_so(case):
    vae = case.load()
    ratio = vae.spec.temporal_compression
    known = ratio + 1  # frames that stay; a causal encoder makes ceil(known / ratio) latents of them
    video = case.video(vae.spec.fit(3 * ratio + 1))
    later = video.clone()
    later[:, :, known:] *= -1
    before, after = (vae.encode(x).mode()[:, :, : math.ceil(known / ratio)] for x in (video, later))
    moved = (after - before).abs().max() / before.std()
    assert (moved < 1e-5) == vae.spec.causal, f"earlier latents moved by {moved:.1e} of their deviation"


def crossings(function, value: torch.Tensor, last: list[int], first: list[int]) -> list[bool]:
    """Whether changing `value` at the index last[k] of time moves the result at first[k], for each border k."""
    changed = value.repeat(len(last) + 1, 1, 1, 1, 1)  # one copy for each border, and one as it was
    for copy, at in enumerate(last):
        changed[copy, :, at] *= -1
    results = function(changed)
    before = results[-1]
    least = 1e-4 * before.std()
    return [bool((results[copy] - before)[:, to].abs().max() > least) for copy, to in enumerate(first)]


def borders(vae: VideoVAE, video: torch.Tensor) -> tuple[list[bool], list[bool]]:
    """For each two neighbouring latents, whether the earlier one's frames reach the later: in encode, and in decode."""
    ratio = vae.spec.temporal_compression
    latent = vae.encode(video).mode()
    ahead = 1 if vae.spec.frames.offset else 0  # 1 + r k frames: the first has a latent of its own
    inner = range(1, latent.shape[2] - 1)
    ends = [(k + 1 - ahead) * ratio + ahead - 1 for k in inner]  # the last frame of latent k
    encode = crossings(lambda x: vae.encode(x).mode(), video, ends, [k + 1 for k in inner])
    return encode, crossings(vae.decode, latent, list(inner), [end + 1 for end in ends])


@every_case
def test_whole_has_no_hidden_pieces_of_time(case):
    vae = case.load()
    ratio = vae.spec.temporal_compression
    video = case.video(vae.spec.fit(min(6 * ratio, 32) + 1))
    if not vae.spec.frames_per_chunk:  # a network that starts afresh, and says so
        encode, decode = borders(vae, video)
        assert len(set(encode)) == 1, f"encode: some borders are crossed and others are not: {encode}"
        assert len(set(decode)) == 1, f"decode: some borders are crossed and others are not: {decode}"
    if not vae.spec.causal and case.family in IN_GROUPS:
        latent, ends = vae.encode(video).mode(), range(ratio - 1, video.shape[2] - 1, ratio)
        encode = lambda x: vae.encode(x).mode()  # noqa: E731
        numbers = list(range(len(ends)))
        assert all(crossings(encode, video, list(ends), numbers)), "the last frame of a group reaches its latent"
        assert not any(crossings(encode, video, [end + 1 for end in ends], numbers)), "and the next frame does not"
        assert latent.shape[2] == len(ends) + 1
    elif not vae.spec.causal and case.family not in TRANSFORMS:  # norms over all frames: the last reaches the first
        changed = torch.cat([video[:, :, :-1], -video[:, :, -1:]], dim=2)
        assert not torch.equal(vae.encode(video).mode()[:, :, 0], vae.encode(changed).mode()[:, :, 0])


@pytest.mark.parametrize(
    ("family", "mode"),
    [("cogvideox", "diffusers"), ("hunyuanvideo", "diffusers"), ("kvae", "native"), ("ltx", "framewise")],
)
def test_pieces_that_forget_are_found(family, mode):
    """What the test above rests on: in a mode that works in pieces, the last frame does not reach the first latent."""
    vae, video = Case(family).load(mode), Case(family).video(33)
    changed = torch.cat([video[:, :, :-1], -video[:, :, -1:]], dim=2)
    assert torch.equal(vae.encode(video).mode()[:, :, 0], vae.encode(changed).mode()[:, :, 0])


def test_pieces_that_forget_are_found_in_a_decoder():
    case = Case("svd")
    _, decode = borders(case.load("chunk8"), case.video(20))
    assert decode.count(False) == 2  # 8 + 8 + 4 frames


LOSSLESS = [(case, mode) for case in CASES for mode in case.spec.lossless_modes]


@pytest.mark.parametrize(("case", "mode"), LOSSLESS, ids=str)
def test_a_mode_that_claims_to_be_lossless_is(case, mode):
    video = case.video(case.spec.fit(17))
    whole, other = case.load(), case.load(mode)
    latent = whole.encode(video).mode()
    for a, b in ((latent, other.encode(video).mode()), (whole.decode(latent), other.decode(latent))):
        assert (a - b).abs().max() < 5e-5 * a.std()


@pytest.mark.parametrize(
    ("family", "mode"),
    [("cogvideox", "diffusers"), ("allegro", "native"), ("hunyuanvideo", "diffusers"), ("kvae", "native")],
)
def test_a_mode_that_works_in_pieces_is_another_path(family, mode):
    case = Case(family)
    video = case.video(case.spec.fit(33))
    whole, native = (case.load(mode).encode(video).mode() for mode in ("whole", mode))
    assert (whole - native).abs().max() > 1e-2 * whole.std()


TILED = {"sd": 264, "cogvideox": 248, "ltx": 544, "wan": 264, "hunyuanvideo": 264}


def correlation(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(torch.corrcoef(torch.stack([a.flatten(), b.flatten()]))[0, 1])


@pytest.mark.parametrize("family", TILED)
def test_tiles_overlap_in_their_place(family):
    """One frame larger than a tile: tiling changes it, but mostly near the seams, and moves nothing."""
    case = Case(family)
    video = case.video(1, side=TILED[family])
    whole, tiled = case.load(), case.load("tiled")
    latent = whole.encode(video).mode()
    for a, b in ((latent, tiled.encode(video).mode()), (whole.decode(latent), tiled.decode(latent))):
        assert not torch.equal(a, b)
        step = b.shape[-1] // latent.shape[-1]  # one latent to the side
        in_place, beside = correlation(a, b), correlation(a[..., step:], b[..., :-step])
        assert in_place > 0.85
        assert in_place > beside + 0.02


@pytest.mark.parametrize("case", THROUGH_DIFFUSERS, ids=str)
def test_no_activation_stays_on_a_module_after_a_call(case):
    vae = case.load()

    def held() -> int:
        found = [x for m in vae.model.modules() for v in vars(m).values() for x in _tensors(v)]
        return sum(x.numel() for x in found)

    before = held()
    vae.decode(vae.encode(case.video(vae.spec.fit(6))).mode())
    assert held() == before


def _tensors(value) -> list[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        return [value]
    if isinstance(value, list | tuple):
        return [x for item in value for x in _tensors(item)]
    return []


def test_a_failed_call_does_not_poison_the_next(monkeypatch):
    case = Case("easyanimate")
    vae, video = case.load("native"), case.video(9)
    good = vae.encode(video).mode()

    def fail(*_):
        raise RuntimeError("out of memory")

    with monkeypatch.context() as patch:
        patch.setattr(vae.model.quant_conv, "forward", fail)  # after its caches are full
        with pytest.raises(RuntimeError, match="out of memory"):
            vae.encode(-video)
    assert torch.equal(vae.encode(video).mode(), good)


@pytest.mark.parametrize("frames", [5, 21, 37])
def test_no_frame_of_kvae_is_lost_where_its_release_loses_three(frames):
    video = Case("kvae").video(frames)
    assert reconstruct(Case("kvae").load("native"), video)[0].shape == video.shape


def test_no_pixel_of_allegro_is_left_black_by_tiles_that_do_not_reach_it():
    module = plugins.find("adapters", "allegro")
    vae = module.tiny(mode="native")
    vae.model.kernel, vae.model.stride = (24, 32, 32), (16, 16, 24)
    reconstruction, latent = reconstruct(vae, Case("allegro").video(28, side=40))
    assert (latent != 0).all()
    assert (reconstruction != 0).all(dim=1).float().mean() > 0.99


def test_ltx_noise_depends_on_the_latent_alone():
    case = Case("ltx", "0.9.1")
    module = plugins.find("adapters", "ltx")
    torch.manual_seed(1)
    state = torch.get_rng_state()
    ways = {}
    for way in ("0.9.1", "0.9.1-raw", "0.9.1-t0"):
        vae = module.tiny(variant=way)
        vae.model.latents_std.fill_(2.0)
        latent = vae.encode(case.video(9)).mode()
        ways[way] = vae.decode(latent)
        assert torch.equal(vae.decode(latent), ways[way])
    assert torch.equal(torch.get_rng_state(), state)
    assert len({float(video.sum()) for video in ways.values()}) == 3


def test_the_normalisation_of_ltx_is_read_from_the_weights():
    vae = plugins.find("adapters", "ltx").tiny()
    assert vae.spec.scale == (1.0,) * 128
    described = vae.family.describe(_with_statistics(vae.model), vae.spec)
    assert described.shift == (0.5,) * 128
    assert described.scale == (0.25,) * 128


def _with_statistics(model):
    model.latents_mean.fill_(0.5)
    model.latents_std.fill_(4.0)
    return model


@pytest.mark.parametrize(
    ("family", "dtype"), [("mochi", "bfloat16"), ("hunyuanvideo", "bfloat16"), ("kvae", "bfloat16")]
)
def test_a_dtype_with_a_warning_warns_once_and_works(family, dtype):
    module = plugins.find("adapters", family)
    with pytest.warns(UserWarning, match=f"{family}/tiny in {dtype}"):
        vae = module.tiny(dtype=getattr(torch, dtype))
    video = Case(family).video(vae.spec.fit(2))
    assert vae.encode(video).mode().dtype == torch.float32
    assert reconstruct(vae, video)[0].isfinite().all()


@pytest.mark.parametrize("case", [case for case in CASES if case.family not in TRANSFORMS], ids=str)
@pytest.mark.filterwarnings("ignore:.*/tiny in float64")
def test_a_network_computes_in_the_dtype_that_was_asked_for(case):
    parameters = list(plugins.find("adapters", case.family).tiny(dtype=torch.float64).model.parameters())
    assert {parameter.dtype for parameter in parameters} == {torch.float64}


def test_mochi_keeps_its_fourier_features_in_float32():
    """Fed in bfloat16, 8-bit pixels lose half of the latent; the features must see them in float32."""
    case = Case("mochi")
    video = case.video(7).add(1).mul(127.5).round().div(127.5).sub(1)
    exact = case.load().encode(video).mode()
    with pytest.warns(UserWarning, match="bfloat16"):
        half = plugins.find("adapters", "mochi").tiny(dtype=torch.bfloat16)
    rounded = case.load().encode(video.bfloat16().float()).mode()
    error, naive = ((x - exact).square().mean().sqrt() / exact.std() for x in (half.encode(video).mode(), rounded))
    assert error < 0.1
    assert naive > 2 * error


@pytest.mark.parametrize(("family", "dtype"), [("cosmos", "bfloat16"), ("vidtok", "float16")])
def test_a_dtype_that_torch_cannot_run_is_refused_by_name(family, dtype):
    with pytest.raises(ValueError, match=f"cannot run in {dtype} on a CPU"):
        plugins.find("adapters", family).tiny(dtype=getattr(torch, dtype))


@pytest.mark.parametrize("family", FAMILIES)
def test_an_unknown_mode_is_refused_with_the_known_ones(family):
    name = next(iter(plugins.find("adapters", family).VARIANTS))
    with pytest.raises(ValueError, match=r"no mode 'sideways' \(it has: whole"):
        adapters.load(f"{family}/{name}", mode="sideways")


@pytest.mark.parametrize("case", [case for case in THROUGH_DIFFUSERS if case.spec.frames.stride > 1], ids=str)
def test_a_length_that_the_network_would_cut_is_refused_at_the_door(case):
    vae = case.load()
    illegal = [n for n in range(1, 24) if not vae.spec.frames.allows(n)]
    with pytest.raises(ValueError, match=r"frames, got \d+"):
        vae.encode(case.video(illegal[-1]))


def test_sizes_and_lengths_of_the_facts():
    """The frame rules that were measured on the released networks."""
    rules = {
        "cogvideox": "8k+1", "allegro": "4k", "ltx": "8k+1", "ltx2": "8k+1", "wan": "4k+1", "hunyuanvideo": "4k+1",
        "hunyuanvideo15": "4k+1", "mochi": "6k+1", "cosmos": "8k+1", "easyanimate": "4k+1", "vidtok": "4k+1",
        "kvae": "4k+1", "kandinsky6sr": "4k+1", "minimaxh3": "17k+5 >= 22", "sd": "any", "svd": "any",
    }  # fmt: skip
    assert {family: str(Case(family).spec.frames) for family in rules} == rules
    h3 = Case("minimaxh3").spec
    assert [h3.latent_frames(frames) for frames in (22, 39, 56)] == [7, 12, 17]
    assert replace(h3, variant="x").fit(33) == 39


def test_the_reconstruction_suite_runs_over_every_family(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    names = [f"{family}/tiny" for family in FAMILIES]
    settings = ["data=synthetic", "clips=1", "num_frames=2", "size=64", "options.metrics=[psnr]"]
    assert cli.main(["run", "--suite", "reconstruction", f"vaes=[{','.join(names)}]", *settings]) == 0
    table = capsys.readouterr().out
    assert [name for name in names if name not in table] == []
    assert len(list(tmp_path.glob("runs/results/reconstruction/*/*.json"))) == len(names)

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from vaebench.check import CheckConfig
from vaebench.config import RunConfig, parse_run
from vaebench.settings import build, parse
from vaebench.training import run


def test_words_win_over_the_file_and_the_file_over_the_defaults(tmp_path: Path):
    file = tmp_path / "run.yaml"
    file.write_text("num_frames: 17\nsize: 128\n")
    config = parse_run(["size=64", "vaes=[pool/4x8x8,dct/4]"], file=str(file))
    assert (config.num_frames, config.size, config.seed) == (17, 64, 0)
    assert config.vaes == ["pool/4x8x8", "dct/4"]


def test_a_key_that_is_no_setting_of_the_run_is_an_option_of_the_suite():
    assert parse_run(["metrics=[psnr]", "keep=2"]).options == {"metrics": ["psnr"], "keep": ["2"]}
    assert parse_run(["options.keep=2"]).options == {"keep": ["2"]}


def test_a_file_reads_like_the_words(tmp_path: Path):
    file = tmp_path / "run.yaml"
    file.write_text("size: 64\nmetrics: [psnr]\noptions: {keep: 1}\n")
    config = parse_run(["keep=2"], file=str(file))
    assert (config.size, config.options) == (64, {"metrics": ["psnr"], "keep": ["2"]})
    file.write_text("metrics: [psnr]\noptions: [keep]\n")
    with pytest.raises(ValueError, match=r"options=\['keep'\] is not a mapping: give each option as NAME=VALUE"):
        parse_run([], file=str(file))


def test_settings_with_names_where_a_list_belongs_are_told_how_lists_read(tmp_path: Path):
    file = tmp_path / "run.yaml"
    file.write_text("metrics: {psnr: , ssim: }\n")
    with pytest.raises(ValueError, match=r"metrics=.* is not a list: expected metrics=one,two or metrics=\[one,two\]"):
        parse_run([], file=str(file))


def test_options_are_checked_against_the_suites_own_dataclass():
    @dataclass(frozen=True)
    class Options:
        metrics: list[str] = field(default_factory=list)

    assert build(Options, {"metrics": ["psnr"]}).metrics == ["psnr"]
    with pytest.raises(ValueError, match="no setting 'metrix'; did you mean 'metrics'"):
        build(Options, {"metrix": ["psnr"]})


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["size=big"], "size='big' should be a side such as 256, or height x width"),
        (["size=1e3"], "size='1e3' should be a side such as 256, or height x width"),
        (["clips=yes"], "clips='yes' should be a whole number"),
        (["fail_fast=perhaps"], "fail_fast='perhaps' should be true or false"),
        (["num_frames=null"], "num_frames='null' should be a whole number"),
        (["suite=efficiency", "error=small"], "error='small' should be a number"),
        (["suite=blockwise", "lengths=5,long"], "lengths='long' should be a whole number"),
        (["clips.size=3"], "clips={'size': '3'} should be a whole number"),
        (["metrix=psnr"], "no setting 'metrix'; did you mean 'metrics'"),
        (["require=lossless"], "no setting 'require'; it is an option of --suite blockwise"),
        (["posterior=median"], "posterior='median' is not one of mode, sample"),
        (["suite=blockwise", "require=lossles"], "require='lossles' is not known; the only value is lossless"),
        (["suite=efficiency", "dtypes=float32,int8"], "dtypes='int8' is not one of float32, bfloat16, float16"),
        (["dtype=int8"], "dtype='int8' is not one of float32, bfloat16, float16"),
        (["size"], "expected key=value"),
        (["num_frames=0"], "at least 1"),
        (["clips=0"], "clips=0 should be at least 1"),
        (["weights=/tmp/x"], "requires exactly one VAE"),
        (["vaes=[dct/4", "dct/8]"], r"invalid setting 'dct/8\]': expected key=value"),
        (["vaes=[pool/4x8x8"], r"cannot parse 'vaes=\[pool/4x8x8'.*vaes=\[one,two\]"),
        (["metrics=[psnr"], "cannot parse"),
        (["metrics=psnr,,ssim"], "an empty or badly quoted item after 'psnr,'"),
        (["vaes='dct/4"], "an empty or badly quoted item after ''"),
        (["vaes.0=pool/4x8x8"], "is not a list: expected vaes=one,two"),
        (["options=[1]"], r"options=\[1\] is not a mapping: give each option as NAME=VALUE"),
    ],
)
def test_a_wrong_setting_is_one_clear_line(words: list[str], said: str):
    with pytest.raises(ValueError, match=said) as caught:
        parse_run(words)
    assert "\n" not in str(caught.value)


def test_one_word_where_a_list_belongs_is_the_list_of_it(tmp_path: Path):
    @dataclass(frozen=True)
    class Options:
        metrics: list[str] = field(default_factory=list)
        lengths: list[int] = field(default_factory=list)

    assert parse_run(["vaes=pool/4x8x8"]).vaes == ["pool/4x8x8"]
    assert parse_run(["vaes=null"]).vaes is None
    assert build(Options, {"metrics": "psnr", "lengths": 33}) == Options(["psnr"], [33])
    file = tmp_path / "run.yaml"
    file.write_text("vaes: dct/4\n")
    assert parse_run([], file=str(file)).vaes == ["dct/4"]


def test_a_file_that_is_no_yaml_is_named(tmp_path: Path):
    file = tmp_path / "run.yaml"
    with pytest.raises(ValueError, match="no such file"):
        parse_run([], file=str(file))
    file.write_text("a: [")
    with pytest.raises(ValueError, match=r"run\.yaml cannot be read as YAML"):
        parse_run([], file=str(file))
    file.write_text("vaes: *unknown\n")
    with pytest.raises(
        ValueError, match=r"run\.yaml cannot be read as YAML: found undefined alias 'unknown' in line 1, column 7$"
    ):
        parse_run([], file=str(file))
    file.write_text("size: 64\nsize: 32\n")
    with pytest.raises(ValueError, match=r"run\.yaml cannot be read as YAML: 'size' is given twice in line 1"):
        parse_run([], file=str(file))
    file.write_text("vaes: !!python/object/apply:os.system ['false']\n")
    with pytest.raises(ValueError, match=r"run\.yaml cannot be read as YAML: could not determine a constructor"):
        parse_run([], file=str(file))
    file.write_bytes(b"root: caf\xe9\n")
    with pytest.raises(ValueError, match=r"run\.yaml cannot be read as YAML: unacceptable character"):
        parse_run([], file=str(file))
    file.write_text("- a\n")
    with pytest.raises(ValueError, match=r"run\.yaml is not a mapping: expected key: value lines"):
        parse_run([], file=str(file))


def test_a_record_is_a_config(tmp_path: Path):
    file = tmp_path / "pool.json"
    file.write_text('{"config": {"size": 96, "vaes": ["pool/4x8x8"], "options": {"keep": 1}}}')
    config = parse_run([], file=str(file))
    assert (config.size, config.vaes, config.options) == (96, ["pool/4x8x8"], {"keep": ["1"]})


def test_a_record_whose_config_is_no_object_is_named(tmp_path: Path):
    file = tmp_path / "pool.json"
    for config in ("[]", "3", "null", "{}"):
        file.write_text(f'{{"config": {config}}}')
        with pytest.raises(ValueError, match=r"pool\.json is not a record of vaebench: config should be an object"):
            parse_run([], file=str(file))


# typed text that YAML or an interpolation would read as something else
AS_TYPED = [
    *("0012", "007", "1_0", "1e3", "0x10", "1.0", "12:30", "2024-01-01", "no", "Null", "~", "", "true", ".inf", "???"),
    *(
        "x #2",
        "m #2.csv",
        "co: lon",
        "[old]",
        "[a,b]",
        "{a: b}",
        "a,b",
        " a ",
        "'a'",
        '"a"',
        "&a",
        "*a",
        "!a",
        "- a",
        "a=b",
    ),
    *("${HOME}", "${oc.env:HOME}", "${", r"\${size}", r"a\\b", "猫", "a\nb", "%", "@a", "`a`", "|", ">"),
]


@pytest.mark.parametrize("text", AS_TYPED)
def test_a_string_setting_is_the_string_that_was_typed(text: str):
    names = ("root", "manifest", "results", "runs", "data", "protocol", "mode", "device", "shard")
    config = parse_run([f"{name}={text}" for name in names])
    assert [getattr(config, name) for name in names] == [text] * len(names)
    assert parse_run([f"weights={text}", "vaes=dct/4"]).weights == text
    assert parse(CheckConfig, [f"weights={text}", f"device={text}"]) == CheckConfig(weights=text, device=text)
    words = ["data.synthetic=0", *(f"{name}={text}" for name in ("run", "data.root", "validation.manifest", "wandb"))]
    trained = run.parse("smoke", words)
    assert (trained.run, trained.data.root, trained.validation.manifest, trained.wandb) == (text,) * 4


@pytest.mark.parametrize("text", [text for text in AS_TYPED if text.strip() == text and '"' not in text])
def test_so_is_an_item_of_a_list(text: str):
    plain = bool(text) and text[0] not in "'[" and "," not in text
    for word in [f'"{text}"', f'["{text}"]', f'[ "{text}" , dct/4]', *([text, f"[{text}]"] if plain else [])]:
        expected = [text, "dct/4"] if word.endswith("dct/4]") else [text]
        if word != "null":
            assert parse_run([f"vaes={word}"]).vaes == expected, word
        assert parse_run([f"metrics={word}"]).options == {"metrics": expected}
        assert run.parse("smoke", [f"validation.metrics={word}"]).validation.metrics == expected


def test_a_file_reads_a_string_as_it_stands_in_it(tmp_path: Path):
    file = tmp_path / "run.yaml"
    lines = "root: 0012\nmanifest: 1e3\nresults: no\nruns: ${oc.env:HOME}\nweights: 'a #2'\nvaes: [1_0]\n"
    file.write_text(f"{lines}size: 64\nfail_fast: yes\nseed: 010\nclips: null\nmetrics: [12:30, '${{HOME}}']\n")
    config = parse_run([], file=str(file))
    assert (config.root, config.manifest, config.results) == ("0012", "1e3", "no")
    assert (config.runs, config.weights, config.vaes) == ("${oc.env:HOME}", "a #2", ["1_0"])
    assert (config.size, config.fail_fast, config.seed, config.clips) == (64, True, 10, None)
    assert config.options == {"metrics": ["12:30", "${HOME}"]}
    file.write_text(
        "base: smoke\ndata: {root: 0012, index: 1e3, synthetic: 0, num_frames: 9}\n"
        "model: {scale: [1, 2.5e-1], temporal_compression: 8}\n"
    )
    config = run.parse(str(file), ["lcr.window=1,2,3", "trainer.workers=2", "loss.kl=1e-9"])
    assert (config.data.root, config.data.index) == ("0012", "1e3")
    assert (config.model.scale, config.model.temporal_compression) == ((1.0, 0.25), 8)
    assert (config.lcr.window, config.trainer.workers, config.loss.kl) == ((1, 2, 3), 2, 1e-9)


def test_lists_have_commas_with_or_without_brackets():
    for text in ("dct/4,dct/8", "[dct/4,dct/8]", "[dct/4, dct/8]", "'dct/4',\"dct/8\"", "[dct/4,dct/8,]"):
        assert parse_run([f"vaes={text}"]).vaes == ["dct/4", "dct/8"], text
    for text in ("['wfvae:a,b/run',dct/4]", '"wfvae:a,b/run",dct/4'):
        assert parse_run([f"vaes={text}"]).vaes == ["wfvae:a,b/run", "dct/4"]
    assert parse_run(["metrics=it's,b[1]"]).options == {"metrics": ["it's", "b[1]"]}
    assert parse_run(["lengths=[1, 5]", "independent=[]", "chunks="], suite="blockwise").options == {
        "lengths": [1, 5],
        "independent": [],
        "chunks": [],
    }


def test_an_empty_file_is_refused_and_does_not_start_the_default_benchmark(tmp_path: Path):
    file = tmp_path / "run.yaml"
    for content in ("", "# size: 64\n", "{}\n", "---\n"):
        file.write_text(content)
        for read in (lambda: parse_run([], file=str(file)), lambda: run.parse(str(file), [])):
            with pytest.raises(ValueError, match=r"run\.yaml is empty: expected key: value lines"):
                read()
    with pytest.raises(ValueError, match="--config has an empty value"):
        parse_run([], file="")
    with pytest.raises(ValueError, match="cannot be read: Is a directory"):
        parse_run([], file=str(tmp_path))


def test_the_configuration_is_frozen():
    with pytest.raises(AttributeError):
        RunConfig().size = 1  # type: ignore[misc]

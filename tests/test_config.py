from dataclasses import dataclass, field
from pathlib import Path

import pytest

from vaebench.config import RunConfig, options, parse_run
from vaebench.suites.reconstruction import Options as Reconstruction


def test_words_win_over_the_file_and_the_file_over_the_defaults(tmp_path: Path):
    file = tmp_path / "run.yaml"
    file.write_text("num_frames: 17\nsize: 128\n")
    config = parse_run(["size=64", "vaes=[pool/4x8x8,dct/4]"], file=str(file))
    assert (config.num_frames, config.size, config.seed) == (17, 64, 0)
    assert config.vaes == ["pool/4x8x8", "dct/4"]


def test_a_key_that_is_no_setting_of_the_run_is_an_option_of_the_suite():
    assert parse_run(["metrics=[psnr]", "keep=2"]).options == {"metrics": ["psnr"], "keep": 2}
    assert parse_run(["options.keep=2"]).options == {"keep": 2}


def test_a_file_reads_like_the_words(tmp_path: Path):
    file = tmp_path / "run.yaml"
    file.write_text("size: 64\nmetrics: [psnr]\noptions: {keep: 1}\n")
    config = parse_run(["keep=2"], file=str(file))
    assert (config.size, config.options) == (64, {"metrics": ["psnr"], "keep": 2})
    file.write_text("metrics: [psnr]\noptions: [keep]\n")
    with pytest.raises(ValueError, match=r"run\.yaml: options should hold key: value lines, got \['keep'\]"):
        parse_run([], file=str(file))


def test_a_list_of_options_in_braces_is_told_how_lists_read():
    with pytest.raises(ValueError, match=r"metrics is a list, which reads metrics=\[one,two\]"):
        options(Reconstruction, parse_run(["metrics={psnr,ssim}"]).options)


def test_options_are_checked_against_the_suites_own_dataclass():
    @dataclass(frozen=True)
    class Options:
        metrics: list[str] = field(default_factory=list)

    assert options(Options, {"metrics": ["psnr"]}).metrics == ["psnr"]
    with pytest.raises(ValueError, match="no setting 'metrix'; did you mean 'metrics'"):
        options(Options, {"metrix": ["psnr"]})


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["size=big"], "size"),
        (["posterior=median"], "posterior='median' is not one of mode, sample"),
        (["dtype=int8"], "dtype='int8' is not one of float32, bfloat16, float16"),
        (["size"], "settings read key=value"),
        (["num_frames=0"], "at least 1"),
        (["clips=0"], "clips=0 should be at least 1"),
        (["weights=/tmp/x"], "belongs to one VAE"),
        (["vaes=[pool/4x8x8"], r"cannot read 'vaes=\[pool/4x8x8'.*key=\[one,two\]"),
        (["metrics=[psnr"], "cannot read"),
        (["vaes={pool/4x8x8,dct/4}"], r"vaes is a list, which reads vaes=\[one,two\]; got \{'pool/4x8x8': None"),
        (["vaes.0=pool/4x8x8"], "vaes is a list"),
        (["options=[1]"], "a list stands where settings with names belong"),
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
    assert parse_run(["num_frames=17", "options.keep=a"]).options == {"keep": "a"}
    given = parse_run(["metrics=psnr", "lengths=33"]).options
    assert options(Options, given) == Options(["psnr"], [33])
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
    with pytest.raises(ValueError, match=r"run\.yaml cannot be read as YAML: found undefined alias in .* column 7$"):
        parse_run([], file=str(file))
    file.write_text("- a\n")
    with pytest.raises(ValueError, match=r"run\.yaml should hold key: value lines"):
        parse_run([], file=str(file))


def test_a_record_is_a_config(tmp_path: Path):
    file = tmp_path / "pool.json"
    file.write_text('{"config": {"size": 96, "vaes": ["pool/4x8x8"], "options": {"keep": 1}}}')
    config = parse_run([], file=str(file))
    assert (config.size, config.vaes, config.options) == (96, ["pool/4x8x8"], {"keep": 1})


def test_a_record_whose_config_is_no_object_is_named(tmp_path: Path):
    file = tmp_path / "pool.json"
    for config in ("[]", "3", "null"):
        file.write_text(f'{{"config": {config}}}')
        with pytest.raises(ValueError, match=r"pool\.json is not a record of vaebench: its config is a \w+, no object"):
            parse_run([], file=str(file))


def test_the_configuration_is_frozen():
    with pytest.raises(AttributeError):
        RunConfig().size = 1  # type: ignore[misc]

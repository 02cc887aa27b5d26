"""The report in a real browser: what it shows is what is stored, with mouse and keyboard, at every width."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.browser import browser, resize
from tests.test_report import EVIL, with_markup
from vaebench import cli, kept_video, records

SETTING = "bundle-5x32-first3-psnr+ssim"
TABLE = "#suite-1 article:has(button[data-score=ssim])"
VAES = ("dct/8", "pool/4x8x8")


@pytest.fixture(scope="module")
def chrome() -> Iterator[Any]:
    with browser() as driver:
        yield driver


@pytest.fixture(scope="module")
def root(chrome: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real run of two VAEs that keeps two of three clips, and a record whose name is markup."""
    folder = tmp_path_factory.mktemp("run")
    settings = ["num_frames=5", "size=32", "clips=3", "metrics=psnr,ssim", "keep_video=2"]
    words = [f"vaes={','.join(VAES)}", f"results={folder / 'r'}", f"runs={folder / 'c'}"]
    assert cli.main(["run", *settings, *words]) == 0
    records.write(with_markup(), folder / "r", {"<script>window.hacked=4</script>": {"psnr": 30.0}})
    assert cli.main(["report", "--results", str(folder / "r")]) == 0
    return folder / "r"


@pytest.fixture
def page(chrome: Any, root: Path) -> Any:
    resize(chrome, 1280)
    chrome.get((root / "report.html").as_uri())
    return chrome


def until(page: Any, condition: str, *arguments: object) -> Any:
    """Wait until the expression `condition` is true in the page, and return its value."""
    from selenium.webdriver.support.wait import WebDriverWait

    return WebDriverWait(page, 20, 0.05).until(lambda d: d.execute_script(f"return {condition}", *arguments))


def choose(page: Any, selector: str, value: str) -> None:
    script = (
        "const s = document.querySelector(arguments[0]); s.value = arguments[1]; s.dispatchEvent(new Event('change'))"
    )
    page.execute_script(script, selector, value)


def press(page: Any, selector: str, key: str) -> None:
    page.find_element("css selector", selector).send_keys(key)


def pixels(page: Any, panel: int) -> np.ndarray:
    """The pixels of the canvas of a panel, uint8 (H, W, 3)."""
    width, height, values = page.execute_script(
        "const c = document.querySelectorAll('#player canvas')[arguments[0]];"
        "return [c.width, c.height, [...c.getContext('2d').getImageData(0, 0, c.width, c.height).data]]",
        panel,
    )
    return np.array(values, dtype=np.uint8).reshape(height, width, 4)[..., :3]


def open_player(page: Any) -> tuple[np.ndarray, list[np.ndarray]]:
    """Show the first clip; returns the stored reference and reconstructions in the order of the panels, (T, H, W, 3) each."""
    page.execute_script("document.querySelector('#player').scrollIntoView()")
    clip = until(page, "document.querySelector('#player').dataset.ready").removesuffix(" exact")
    root = Path(page.current_url.removeprefix("file://")).parent
    pairs = {
        record.name: kept_video.read_all(root, record)[clip].frames
        for record in records.read_all(root, "reconstruction")
        if record.name in VAES
    }
    names = page.execute_script("return [...document.querySelectorAll('#player figcaption b')].map(b => b.textContent)")
    assert sorted(names[1:]) == sorted(VAES)
    return pairs[names[1]][0], [pairs[name][1] for name in names[1:]]


def test_the_page_needs_no_network_and_reports_no_error(page: Any):
    open_player(page)
    assert (
        page.execute_script(
            "return performance.getEntriesByType('resource').filter(r => !/^(data|blob):/.test(r.name)).length"
        )
        == 0
    )
    assert [entry for entry in page.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")] == []


def test_markup_in_a_name_is_shown_and_does_not_run(page: Any):
    assert EVIL in page.execute_script("return document.querySelector('#suite-1').textContent")
    assert page.execute_script("return window.hacked") is None


def test_a_column_sorts_best_first_then_worst_first(page: Any):
    def shown() -> list[str]:
        heads = page.find_elements("css selector", f"{TABLE} tbody th")
        return [head.text for head in heads]

    heads = page.find_elements("css selector", f"{TABLE} thead button")
    (ssim,) = [head for head in heads if head.text.startswith("ssim")]
    ssim.click()
    assert shown() == ["dct/8", "pool/4x8x8"]
    ssim.send_keys("\n")  # and by keyboard
    assert shown() == ["pool/4x8x8", "dct/8"]
    assert (
        page.execute_script("return document.querySelector('th[aria-sort]').getAttribute('aria-sort')") == "ascending"
    )


def test_a_filter_takes_words_and_excluded_words(page: Any):
    article = page.find_element("css selector", TABLE)
    field, count = article.find_element("css selector", "[data-filter]"), article.find_element("css selector", ".count")
    for text, expected in (
        ("dct", "1 of 2 rows"),
        ("-dct", "1 of 2 rows"),
        ("dct pool", "0 of 2 rows"),
        ("", "2 rows"),
    ):
        field.clear()
        field.send_keys(text or " ")
        assert count.text == expected, text


def test_a_number_opens_its_origin_by_keyboard_and_escape_closes_it(page: Any, root: Path):
    record = records.read(root / "reconstruction" / SETTING / "dct-8.json")
    row = "//*[@id='suite-1']//th[.='dct/8']/following-sibling::td/button[@data-score='psnr']"
    page.find_element("xpath", row).send_keys("\n")
    text = until(page, "document.querySelector('#origin[open]')?.textContent")
    for part in (repr(record.scores["psnr"].value), record.data["sha256"], record.fingerprint, record.machine["commit"],
                 record.machine["torch"], "nearest", f"vaebench run --config {root}"):  # fmt: skip
        assert str(part) in text
    assert page.switch_to.active_element.text == "Close"
    page.switch_to.active_element.send_keys("\ue00c")  # Escape
    until(page, "!document.querySelector('#origin').open")


def test_every_panel_shows_the_stored_pixels_of_the_same_frame(page: Any):
    reference, results = open_player(page)
    for frame in range(len(reference)):
        for panel, stored in enumerate([reference, *results]):
            assert np.array_equal(pixels(page, panel), stored[frame]), (panel, frame)
        page.find_element("css selector", "[data-forward]").click()
    assert page.find_element("css selector", "[data-position]").text == "frame 1 of 5"  # it starts again


def test_the_psnr_below_the_panels_is_that_of_the_record(page: Any, root: Path):
    open_player(page)
    clip = page.execute_script("return document.querySelector('#player').dataset.ready").removesuffix(" exact")
    sums = [0.0, 0.0]
    for _ in range(5):
        texts = page.execute_script(
            "return [...document.querySelectorAll('#player figcaption span')].map(s => s.textContent)"
        )
        sums = [total + float(text.removesuffix(" dB")) for total, text in zip(sums, texts[1:], strict=True)]
        page.find_element("css selector", "[data-forward]").click()
    names = page.execute_script(
        "return [...document.querySelectorAll('#player figcaption b')].map(b => b.textContent)"
    )[1:]
    for name, total in zip(names, sums, strict=True):
        record = records.read(root / "reconstruction" / SETTING / f"{name.replace('/', '-')}.json")
        assert total / 5 == pytest.approx(records.read_clips(root, record)[clip]["psnr"], abs=0.006)


def test_the_error_view_is_the_amplified_difference(page: Any):
    reference, results = open_player(page)
    press(page, "#player", "e")
    choose(page, "#player [data-gain]", "16")
    difference = np.abs(reference[0].astype(int) - results[0][0].astype(int))
    assert difference.max() > 0
    assert np.array_equal(pixels(page, 1), np.minimum(16 * difference, 255))


def test_the_wipe_shows_the_reference_to_its_left(page: Any):
    reference, results = open_player(page)
    press(page, "#player", "w")
    divider = page.find_elements("css selector", ".divider")[0]
    divider.send_keys("\ue012" * 5)  # left arrows: 2 % each
    shown = pixels(page, 1)
    edge = round(0.4 * shown.shape[1])
    assert np.array_equal(shown[:, :edge], reference[0][:, :edge])
    assert np.array_equal(shown[:, edge:], results[0][0][:, edge:])
    assert (
        page.find_elements("css selector", ".divider")[1].get_attribute("aria-valuenow") == "40"
    )  # all panels together


def test_zoom_and_position_are_those_of_all_panels(page: Any):
    open_player(page)
    press(page, "#player", "++")
    transforms = page.execute_script(
        "return [...document.querySelectorAll('#player canvas')].map(c => c.style.transform)"
    )
    assert set(transforms) == {"scale(4) translate(-37.5%, -37.5%)"}


def test_playing_moves_on_and_stops(page: Any):
    open_player(page)
    press(page, "#player", " ")
    until(page, "document.querySelector('[data-frame]').value > 0")
    press(page, "#player", " ")
    assert page.find_element("css selector", "[data-play]").get_attribute("aria-label") == "Play"


def test_a_dot_of_the_scatter_opens_its_clip_with_both_vaes(page: Any):
    page.execute_script("document.querySelector('#per-clip').scrollIntoView()")
    dots = page.find_elements("css selector", "#per-clip .dot")
    assert len(dots) == 3
    filled = [dot for dot in dots if "hollow" not in dot.get_attribute("class")]
    assert len(filled) == 2  # two of three clips were kept
    clip = filled[1].get_attribute("aria-label").partition(",")[0]
    filled[1].send_keys("\n")
    until(page, "document.querySelector('#player').dataset.ready?.startsWith(arguments[0])", clip)
    assert page.execute_script("return document.activeElement.id") == "player"
    assert len(page.find_elements("css selector", "#player canvas")) == 3


def test_pixels_that_changed_are_called_lossy(page: Any, root: Path, tmp_path: Path):
    html = (root / "report.html").read_text()
    start = html.index('"crc":') + len('"crc":')
    end = min(html.index(mark, start) for mark in ",}")
    file = tmp_path / "report.html"
    file.write_text(html[:start] + str((int(html[start:end]) + 1) % 2**32) + html[end:])
    page.get(file.as_uri())
    page.execute_script("document.querySelector('#player').scrollIntoView()")
    assert until(page, "document.querySelector('#player').dataset.ready").endswith("lossy")
    assert "Shown lossy" in page.find_element("css selector", "[data-exact]").text


@pytest.mark.parametrize("width", [360, 768, 1280])
def test_the_page_is_never_wider_than_the_screen(page: Any, width: int):
    resize(page, width)
    open_player(page)
    page.execute_script("document.querySelectorAll('details').forEach(d => { d.open = true })")
    assert page.execute_script("return document.documentElement.scrollWidth") <= width


def test_the_theme_follows_the_system_and_the_button(page: Any):
    background = "getComputedStyle(document.body).backgroundColor"
    for system, colour in (("light", "rgb(244, 245, 247)"), ("dark", "rgb(16, 19, 24)")):
        media = {"features": [{"name": "prefers-color-scheme", "value": system}]}
        page.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
        assert until(page, f"{background} === arguments[0]", colour)
    page.find_element("css selector", "#theme").click()
    assert page.execute_script(f"return {background}") == "rgb(244, 245, 247)"
    page.execute_script("localStorage.clear()")
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


def test_every_control_has_a_name(page: Any):
    open_player(page)
    script = """return [...document.querySelectorAll('button, select, input, [role=button], [role=slider]')].filter(e =>
      !(e.textContent.trim() || e.getAttribute('aria-label') || e.labels?.length)).map(e => e.outerHTML)"""
    assert page.execute_script(script) == []

"""A frame size is one side of a square, or height x width."""

import pytest

from vaebench.frame_size import FrameSize, parse, plain, side


@pytest.mark.parametrize(
    ("text", "size", "shown"),
    [
        ("256", (256, 256), "256"),
        (256, (256, 256), "256"),
        ("480x832", (480, 832), "480x832"),
        (" 720 X 1280 ", (720, 1280), "720x1280"),
        ("64x64", (64, 64), "64"),
    ],
)
def test_a_size_is_read_and_shown(text: str | int, size: tuple[int, int], shown: str):
    assert parse(text) == size
    assert str(FrameSize(*size)) == shown


@pytest.mark.parametrize("text", ["", "0", 0, -1, "480x", "x832", "480x0", "480*832", "1x2x3", "4.5", "480p"])
def test_an_invalid_size_is_refused_by_the_name_of_its_setting(text: str | int):
    with pytest.raises(ValueError, match=r"^frame_size=.* such as 480x832"):
        parse(text, "frame_size")


@pytest.mark.parametrize(("text", "size"), [("256", 256), (256, 256), ("64x64", 64), (" 480X832", "480x832")])
def test_a_setting_has_one_form(text: str | int, size: str | int):
    assert plain(text) == size


def test_the_side_of_a_square_is_asked_for_where_the_sides_differ():
    assert side("64x64", "it is square") == side(64, "it is square") == 64
    with pytest.raises(ValueError, match="size=480x832: it is square; give one side, such as size=480"):
        side("480x832", "it is square")

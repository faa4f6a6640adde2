"""The pictures in docs show the current output of the command."""

from __future__ import annotations

from docs.make.pictures import FOLDER, PICTURES, pictures


def test_the_pictures_are_up_to_date(aws_url: str) -> None:
    drawn = pictures(aws_url)
    assert drawn.keys() == PICTURES.keys()
    for name, picture in drawn.items():
        assert (FOLDER / f"{name}.svg").read_text(encoding="utf-8") == picture, "run python -m docs.make.pictures"

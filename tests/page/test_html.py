"""The pieces that every page is made of."""

import pytest

from rt2.page import html
from rt2.page.html import Figure


def test_a_document_carries_its_styles_and_escapes_its_title():
    page = html.document("a < b", [html.section("s", "lead & all", "<p>x</p>")], ".own{}")
    assert page.startswith("<!doctype html>") and "<title>a &lt; b</title>" in page
    assert "color-scheme: light dark" in page and page.index(".own{}") > page.index("main {")
    assert "<h2>s</h2><p>lead &amp; all</p><p>x</p>" in page
    assert "<script" not in page


def test_cells():
    page = html.table(["a", "b", "c"], [["<x>", 1234, None], ["y", Figure("1 %", "of 3"), "z"]])
    assert "&lt;x&gt;" in page and "1,234" in page and "&ndash;" in page
    assert "1 % <small>of 3</small>" in page
    assert '<th>a</th><th class="number">b</th>' in page
    with pytest.raises(TypeError, match="not float"):
        html.table(["a"], [[0.5]])


def test_a_picture_stands_in_the_page_itself():
    assert html.data_uri(b"abc", "image/png") == "data:image/png;base64,YWJj"

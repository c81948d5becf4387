"""In a browser the page is whole, asks for nothing, runs nothing of a table, and is accessible."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mmreg_report.markup import table
from mmreg_report.page import page


class Opened:
    """A page with what it said and asked for."""

    def __init__(self, browser: Any, file: Path, **options: Any) -> None:
        self.page = browser.new_context(**options).new_page()
        self.said: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(file.as_uri())

    @property
    def asked_for(self) -> list[str]:
        """All but what the page holds itself."""
        return [url for url in self.requests if not url.startswith("data:")]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("of", ["hostile_page", "comparison_page", "compared_page"])
def test_it_asks_for_nothing_and_is_accessible(
    browser: Any, request: pytest.FixtureRequest, of: str, scheme: str
) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    file: Path = request.getfixturevalue(of)
    opened = Opened(browser, file, color_scheme=scheme, viewport={"width": 390, "height": 800})
    opened.page.evaluate("for (const each of document.querySelectorAll('details')) each.open = true")
    assert opened.asked_for == [file.as_uri()]
    assert opened.said == []
    assert opened.page.evaluate("window.taken") is None
    assert opened.page.evaluate("document.documentElement.scrollWidth") <= 390  # wide tables scroll by themselves
    broken = "[...document.images].filter((image) => image.complete && !image.naturalWidth).length"
    assert opened.page.evaluate(broken) == 0
    violations = axe.run(opened.page).response["violations"]
    assert [(each["id"], each["nodes"][0]["html"]) for each in violations] == []


def test_what_leads_outside_is_refused(browser: Any, hostile_page: Path) -> None:
    opened = Opened(browser, hostile_page)
    for element in (
        "Object.assign(new Image(), {src: 'http://127.0.0.1:9/x.png'})",
        "Object.assign(document.createElement('script'), {text: 'taken = 1'})",
    ):
        with opened.page.expect_console_message() as message:
            opened.page.evaluate(f"document.body.append({element})")
        assert "Content Security Policy" in message.value.text
    assert opened.page.evaluate("window.taken") is None


def test_it_is_complete_without_javascript(browser: Any, hostile_page: Path) -> None:
    opened = Opened(browser, hostile_page, java_script_enabled=False)
    assert opened.page.locator("button").count() == 0
    assert opened.page.locator("table").count() > 8
    assert opened.page.locator("audio:visible").count() > 0
    assert opened.page.locator("[hidden]").count() == 0


def test_a_table_is_sorted_by_a_click_on_a_columns_name(browser: Any, hostile_page: Path) -> None:
    page = Opened(browser, hostile_page).page
    wrong = page.locator("table", has_text="Most confident wrong rows")
    column = wrong.locator("thead th", has_text="probability")
    number = 1 + wrong.locator("thead th").all_inner_texts().index("probability")
    for direction, factor in (("ascending", 1), ("descending", -1)):
        column.locator("button").click()
        assert column.get_attribute("aria-sort") == direction
        values = [
            factor * float(text) for text in wrong.locator(f"tbody tr :nth-child({number}):is(td)").all_inner_texts()
        ]
        assert values == sorted(values)


def test_a_cell_of_the_confusion_matrix_shows_its_rows(browser: Any, hostile_page: Path) -> None:
    page = Opened(browser, hostile_page).page
    cell = page.locator(".confusion td[data-pair]").first
    pair, count = cell.get_attribute("data-pair"), int(cell.inner_text())
    cell.locator("button").click()
    shown = page.locator("tr:visible span[data-pair]")
    assert shown.count() == count
    assert {marker.get_attribute("data-pair") for marker in shown.all()} == {pair}
    page.locator("#all-rows").click()
    assert page.locator("tr:visible span[data-pair]").count() > count


def test_rows_are_filtered_by_what_is_typed(browser: Any, hostile_page: Path) -> None:
    page = Opened(browser, hostile_page).page
    wrong = page.locator("table", has_text="Most confident wrong rows")
    key = wrong.locator("tbody th").nth(3).inner_text()
    wrong.locator("xpath=preceding-sibling::label//input").fill(key)
    assert wrong.locator("tbody tr:visible th").all_inner_texts() == [key]


def test_what_is_no_number_stands_below_all_numbers(browser: Any, tmp_path: Path) -> None:
    rows = [{"name": f"class {n}", "recall": value} for n, value in enumerate([0.5, "\N{EN DASH}", 10, 0.75, None])]
    (tmp_path / "page.html").write_text(page("x", [], {"Classes": [table(rows)]}), encoding="utf-8")
    opened = Opened(browser, tmp_path / "page.html").page
    for expected in (["0.5", "0.75", "10"], ["10", "0.75", "0.5"]):
        opened.get_by_role("button", name="recall").click()
        assert opened.locator("tbody td").all_inner_texts()[:3] == expected


def test_on_a_phone_all_of_a_row_is_seen_without_scrolling_sideways(browser: Any, hostile_page: Path) -> None:
    opened = Opened(browser, hostile_page, viewport={"width": 390, "height": 800}).page
    cells = opened.locator("table", has_text="Most confident wrong rows").locator("tbody tr").first.locator("td")
    boxes = [cell.bounding_box() for cell in cells.all()]
    assert len(boxes) > 5
    assert all(box["x"] + box["width"] <= 390 for box in boxes if box)
    assert "image" in cells.nth(4).evaluate("cell => getComputedStyle(cell, '::before').content")


def test_it_prints_dark_on_white_with_what_is_folded(browser: Any, hostile_page: Path) -> None:
    opened = Opened(browser, hostile_page, color_scheme="dark").page
    assert opened.pdf().startswith(b"%PDF")
    opened.emulate_media(media="print", color_scheme="dark")
    assert opened.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    opened.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert opened.locator("details:not([open])").count() == 0
    opened.evaluate("dispatchEvent(new Event('afterprint'))")
    assert opened.locator("details[open]").count() == 0


def test_a_clicked_cell_says_how_many_of_its_rows_are_shown(browser: Any, hostile_page: Path) -> None:
    opened = Opened(browser, hostile_page).page
    cell = opened.locator(".confusion td[data-pair]").first
    count = cell.inner_text()
    cell.locator("button").click()
    assert opened.locator("#all-rows").inner_text() == f"Show all rows (here are {count} of {count})"
    assert "click a count" in opened.locator(".confusion caption").inner_text()


def test_a_long_name_of_a_column_stands_within_it(browser: Any, tmp_path: Path) -> None:
    name = "modalities.description.encoder(text_rnn).hidden_size"
    (tmp_path / "page.html").write_text(page("x", [], {"Trials": [table([{name: 8, "fusion": "mean"}])]}), "utf-8")
    opened = Opened(browser, tmp_path / "page.html").page
    for column in opened.locator("thead th").all():
        assert column.evaluate("each => each.scrollWidth <= each.clientWidth")

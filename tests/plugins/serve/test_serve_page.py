"""The page takes a picture, a text and a sound, and shows probabilities and shares; driven in Chromium."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="needs mmreg[serve]")
playwright = pytest.importorskip("playwright.sync_api", reason="drives the browser")

import small
from served import in_a_thread

from mmreg_serve.app import create_app

CHROMIUM = shutil.which("chromium")
FAKE_MICROPHONE = ["--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream"]
HOSTILE = "<img src=x onerror=document.title='hacked'>"
DROP = """([selector, bytes]) => {
  const transfer = new DataTransfer();
  transfer.items.add(new File([new Uint8Array(bytes)], "dropped.png"));
  const dropped = new DragEvent("drop", { dataTransfer: transfer, bubbles: true, cancelable: true });
  document.querySelector(selector).dispatchEvent(dropped);
}"""

pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="needs chromium"),
    # Of what the browser's pipes leave behind.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(scope="module")
def url(run: Any) -> Iterator[str]:
    with in_a_thread(create_app(run)) as url:
        yield url


@pytest.fixture(scope="module")
def locked(run: Any) -> Iterator[str]:
    with in_a_thread(create_app(run, token="0123456789abcdef")) as url:
        yield url


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", *FAKE_MICROPHONE])
        yield browser
        browser.close()


class Page:
    """A page of the browser, with all that it asked for and complained of."""

    def __init__(self, browser: Any, url: str) -> None:
        self.asked: list[str] = []
        self.complaints: list[str] = []
        self.page = browser.new_page()
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.goto(url)


def test_a_picture_a_text_and_a_sound_are_predicted(browser, url, run, served_folder: Path):
    opened = Page(browser, url)
    page = opened.page
    row = small.read_table(served_folder / "table.csv")[0]
    page.get_by_label("image", exact=True).set_input_files(served_folder / row["image"])
    page.get_by_label("title", exact=True).fill(row["title"])
    page.get_by_label("audio", exact=True).set_input_files(served_folder / row["audio"])
    assert page.get_by_alt_text("The picture chosen for image").evaluate("(image) => image.decode()") is None
    page.get_by_role("button", name="Predict").click()
    page.get_by_role("heading", name="Prediction").wait_for()
    paths = {name: served_folder / row[name] for name in ("image", "audio")}
    expected = run.predict({"title": row["title"], **{name: path.read_bytes() for name, path in paths.items()}})[0]
    assert f'label: "{expected["label"]}"' in page.locator("#answer").inner_text()
    bars = dict(each.split("\n")[::2] for each in map(_lines, page.locator("#bars .bar").all_inner_texts()))
    assert bars == {name: f"{100 * expected[f'probability_{name}']:.1f}%" for name in small.COLOURS}
    shares = [float(text.rstrip("%")) for text in page.locator("#shares .bar span:last-child").all_inner_texts()]
    assert sum(shares) == pytest.approx(100, abs=0.2)
    assert opened.complaints == []
    assert all(asked.startswith((url, "blob:")) for asked in opened.asked)
    page.close()


def _lines(text: str) -> str:
    first, *_, last = text.split()
    return f"{first}\n\n{last}"


def test_a_picture_is_dropped_and_a_sound_recorded(browser, url, values):
    opened = Page(browser, url)
    page = opened.page
    page.locator("fieldset").first.wait_for()
    page.evaluate(DROP, ["fieldset", list(values[0]["image"])])
    page.get_by_role("button", name="Record").click()
    page.get_by_role("button", name="Stop").wait_for()
    page.wait_for_timeout(300)  # of a sound
    page.get_by_role("button", name="Stop").click()
    page.locator("audio").wait_for()
    page.get_by_role("button", name="Predict").click()
    page.get_by_role("heading", name="Prediction").wait_for()
    assert page.locator("#shares .bar span:first-child").all_inner_texts() == ["image", "audio"]
    assert opened.complaints == []
    page.close()


def test_texts_never_become_markup(browser, url, monkeypatch, run):
    real = run.task.predictions
    monkeypatch.setattr(run.task, "predictions", lambda scores: {HOSTILE: real(scores)["label"], **real(scores)})
    opened = Page(browser, url)
    page = opened.page
    page.get_by_label("title", exact=True).fill(HOSTILE)
    page.get_by_role("button", name="Predict").click()
    page.get_by_role("heading", name="Prediction").wait_for()
    assert HOSTILE in page.locator("#answer").inner_text()
    assert page.locator("img").count() == 0
    assert page.title() != "hacked"
    assert opened.complaints == []
    page.close()


def test_what_is_refused_is_told(browser, url, values):
    page = Page(browser, url).page
    page.get_by_label("image", exact=True).set_input_files({"name": "x.png", "mimeType": "", "buffer": b"no picture"})
    page.get_by_role("button", name="Predict").click()
    page.get_by_text("row 1, column image").wait_for()
    page.close()


def test_the_token_is_asked_for(browser, locked):
    page = Page(browser, locked).page
    page.get_by_label("Token").fill("another token than it is")
    page.get_by_role("button", name="Go on").click()
    page.get_by_text("This is not the token.").wait_for()
    page.get_by_label("Token").fill("0123456789abcdef")
    page.get_by_role("button", name="Go on").click()
    page.get_by_label("title", exact=True).fill("a red thing")
    page.get_by_role("button", name="Predict").click()
    page.get_by_role("heading", name="Prediction").wait_for()
    page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_everybody_can_use_it(browser, url, scheme):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    page = browser.new_page(color_scheme=scheme, viewport={"width": 360, "height": 640}, bypass_csp=True)
    page.goto(url)
    page.get_by_label("title", exact=True).fill("a red thing")
    page.get_by_role("button", name="Predict").click()
    page.get_by_role("heading", name="Prediction").wait_for()
    found = axe.Axe().run(page)
    assert found.violations_count == 0, found.generate_report()
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.close()

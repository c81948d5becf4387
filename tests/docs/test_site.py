"""The start page is true, pictures say what they show, links lead somewhere, and pages read without JavaScript."""

from __future__ import annotations

import functools
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from mmreg import registry

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
START = (DOCS / "index.md").read_text(encoding="utf-8")
PAGES = sorted(path for path in DOCS.rglob("*.md") if "examples" not in path.parts)


def test_the_start_page_counts_the_operators() -> None:
    (count,) = re.findall(r"gallery of (\d+) operators", START)
    assert int(count) == sum(entry.distribution == "mmreg" for entry in registry.specs("fusion"))


def test_the_commands_of_the_start_page_are_those_of_the_makefile_and_the_demo() -> None:
    from mmreg_demo.recipes import MODELS

    assert "\ndemo:" in (ROOT / "Makefile").read_text(encoding="utf-8")
    (run,) = re.findall(r"mmreg report mmreg-demo/runs/(\w+)", START)
    assert run in MODELS


def test_the_pictures_of_a_report_are_small() -> None:
    for name in ("report.png", "report-dark.png"):
        assert f"]({name}#only-" in START
        assert (DOCS / name).stat().st_size < 200_000


def test_the_readme_shows_a_picture_and_leads_to_the_start_page() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert "](docs/report.png)" in readme
    assert "](docs/index.md)" in readme


@pytest.mark.parametrize("page", [ROOT / "README.md", *PAGES], ids=lambda page: page.relative_to(ROOT).as_posix())
def test_a_picture_has_a_text_in_its_place(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for alternative in re.findall(r"!\[((?:\\.|[^\]\\])*)\]\(", text):
        assert len(alternative) > 10, alternative
    assert "<img" not in text


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of the built site; the build is strict: a dead link or a missing heading ends it."""
    pytest.importorskip("material")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet"]
    command += ["--config-file", str(ROOT / ".ci" / "mkdocs.yml"), "--site-dir", str(folder)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    built = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stdout + built.stderr
    handler = functools.partial(SilentHandler, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


class SilentHandler(SimpleHTTPRequestHandler):
    """Serves files and prints nothing."""

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""


BROKEN = "[...document.images].filter((each) => each.complete && !each.naturalWidth).map((each) => each.src)"


@pytest.mark.slow
@pytest.mark.parametrize("page", ["", "operators/", "architecture/"])
def test_a_page_reads_without_javascript(browser: Any, site: str, page: str) -> None:
    opened = browser.new_context(java_script_enabled=False).new_page()
    requests: list[str] = []
    opened.on("request", lambda request: requests.append(request.url))
    opened.goto(f"{site}/{page}")
    shown = opened.locator("article").inner_text()
    title = re.search(r"^# (.+)$", source(page), re.MULTILINE)
    assert title is not None
    assert shown.startswith(title[1])
    headings = re.findall(r"^##+ (.+)$", source(page), re.MULTILINE)
    assert opened.locator("article :is(h2, h3):visible").count() == len(headings)
    assert opened.locator("article pre:visible").count() == opened.locator("article pre").count()
    assert [url for url in requests if not url.startswith(site)] == []


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("page", ["", "operators/", "architecture/"])
def test_a_page_is_accessible_and_its_pictures_load(browser: Any, site: str, page: str, scheme: str) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    opened = browser.new_context(color_scheme=scheme).new_page()
    opened.goto(f"{site}/{page}", wait_until="networkidle")
    assert opened.evaluate(BROKEN) == []
    # The theme's dialog for searching has no name, and its template is not ours.
    violations = axe.run(opened, context={"exclude": [[".md-search"]]}).response["violations"]
    assert [(each["id"], each["nodes"][0]["html"]) for each in violations] == []


def source(page: str) -> str:
    """The text of which a page is made, without its blocks of code."""
    text = (DOCS / f"{page.rstrip('/') or 'index'}.md").read_text(encoding="utf-8")
    return re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)

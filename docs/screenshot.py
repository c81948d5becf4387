"""Takes the pictures of a report that the pages show, report.png and report-dark.png, in headless Chromium.

mmreg demo --out demo; mmreg report demo/runs/product --out report.html; python docs/screenshot.py report.html
"""

from __future__ import annotations

import io
import shutil
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

HERE = Path(__file__).parent
SIZE = {"width": 1000, "height": 820}
COLOURS = 96
"""Of the palette: what is shown is mostly text and lines, and a picture should load at once."""


def main(report: Path) -> None:
    """Write both pictures, of the section on what each modality contributes and the rows below it."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        for scheme, name in (("light", "report.png"), ("dark", "report-dark.png")):
            page = browser.new_context(viewport=SIZE, color_scheme=scheme).new_page()
            page.goto(report.resolve().as_uri())
            page.get_by_role("heading", name="What each modality contributes").evaluate("each => each.scrollIntoView()")
            image = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
            image.quantize(COLOURS).save(HERE / name, optimize=True)
        browser.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]))

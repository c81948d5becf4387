"""The tutorials are done as they stand: every file, command and block of Python; what they show is printed."""

from __future__ import annotations

from pathlib import Path

import pytest
from tutorials import Reader, blocks, check

from mmreg.studies.compare import jobs

TUTORIALS = Path(__file__).resolve().parents[2] / "docs" / "tutorials"
NEEDS = {"pretrained": ["wordllama"], "serving": ["fastapi", "uvicorn", "httpx"]}
"""The packages that a tutorial asks to install."""


@pytest.mark.parametrize("page", sorted(TUTORIALS.glob("*.md")), ids=lambda page: page.stem)
def test_a_reader_who_follows_it_sees_what_it_shows(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for package in NEEDS.get(page.stem, []):
        pytest.importorskip(package)
    monkeypatch.chdir(tmp_path)
    # Else each training of a comparison takes a process of its own, and seconds to start.
    monkeypatch.setattr(jobs, "_only_here", lambda _: ["it is quicker"])
    Reader(page, monkeypatch).run()


def follow(text: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Follow a page that holds this."""
    page = folder / "page.md"
    page.write_text(text, encoding="utf-8")
    monkeypatch.chdir(folder)
    Reader(page, monkeypatch).run()


def test_names_files_and_outputs_go_from_block_to_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    follow(
        "```python\nfour = 4\n```\n\n<!-- file: in/five.py -->\n```python\nprint('five', 5)\n```\n\n"
        "```console\npython in/five.py  # twice\npython in/five.py\n```\n\n```text\nfive  5\n...\n```\n\n"
        "```python\nprint(four)\n```\n\n```text\n4\n```\n",
        tmp_path,
        monkeypatch,
    )


@pytest.mark.parametrize(
    "text",
    [
        "```python\nprint('seen')\n```\n\n```text\nshown\n```\n",
        "```python\nprint('seen and more')\n```\n\n```text\nseen\n```\n",
        "```console\nmmreg validate nothing.yaml\n```\n",
        "```console\ncurl example.org\n```\n",
        "```yaml\na: 1\n```\n",
    ],
    ids=["another output", "a longer output", "a command that fails", "another command", "a file without a name"],
)
def test_a_page_that_is_not_true_is_found(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(AssertionError, match=r"page\.md, line [15]:"):
        follow(text, tmp_path, monkeypatch)


def test_dots_stand_for_any_text() -> None:
    check("Accuracy: ...% (.../18)\n", "Accuracy: 94% (17/18)\n", "here")
    with pytest.raises(AssertionError, match="here"):
        check("Accuracy: ...% (.../18)\n", "Accuracy: 94% (17/19)\n", "here")


def test_blocks_know_where_they_stand() -> None:
    found = blocks("# A page\n\n```python\n1\n```\n\n<!-- file: a.yaml -->\n```yaml\na: 1\n```\n")
    assert [(block.language, block.file, block.line) for block in found] == [("python", "", 3), ("yaml", "a.yaml", 8)]

"""A source: the table that `skeleton-name://PATH` names."""

from __future__ import annotations

from pathlib import Path

from mmreg.errors import TableError


def read(name: str) -> list[dict[str, str]]:
    """The files of a folder, each labelled by the folder that it is in.

    Args:
        name: `skeleton-name://PATH`, where PATH is relative to the working directory, or absolute.

    Returns:
        A row for each file: its absolute path as "file", and the "label".

    Raises:
        TableError: there is no such folder, or no folder with files in it.
    """
    folder = Path(name.partition("://")[2]).expanduser().absolute()
    if not folder.is_dir():
        raise TableError(f"there is no folder {str(folder)!r}; write skeleton-name://PATH")
    files = sorted(path for path in folder.glob("[!.]*/[!.]*") if path.is_file())
    if not files:
        raise TableError(f"{str(folder)!r} holds no files in folders; make a folder for each label")
    return [{"file": str(path), "label": path.parent.name} for path in files]

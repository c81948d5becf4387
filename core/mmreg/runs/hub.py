"""A run on the Hugging Face hub, `hf://USER/NAME` or `hf://USER/NAME@REVISION`, as a folder on this computer."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from mmreg.data.cache import cache_dir
from mmreg.errors import MissingPackageError, RunError
from mmreg.files import replacing
from mmreg.messages import one_line
from mmreg.run_files.facts import COMPONENTS, RECIPE, WEIGHTS
from mmreg.run_files.figures import REPORT, TIMINGS
from mmreg.runs.folder import ASSETS, METRICS, PREDICTIONS

FIRST = (COMPONENTS, RECIPE)
"""What makes a folder a run: small files, which are looked at before anything large is fetched."""
FILES = (*FIRST, WEIGHTS, REPORT, METRICS, TIMINGS, "README.md", f"{PREDICTIONS}/*", f"{ASSETS}/*")
"""What is fetched of a run, and nothing else of what may lie beside it."""
_ADDRESS = re.compile(r"hf:/{1,2}([^/@\s]+/[^/@\s]+)(?:@(\S+))?")  # a path that was made of it has lost a slash


def is_on_hub(run: str | Path) -> bool:
    """Whether a run is named by its place on the hub."""
    return _text(run).startswith("hf:/")


def fetch(run: str | Path) -> Path:
    """Download a run from the hub, as far as it is not there by now, to the cache folder.

    Without a network, what was downloaded earlier is taken.

    Args:
        run: `hf://USER/NAME`, with `@REVISION` for another branch, a tag or a commit than its main branch.

    Returns:
        Its folder, one for each commit.

    Raises:
        MissingPackageError: huggingface_hub is not installed.
        RunError: the address is none, there is no such repository, it holds no run, or it cannot be reached.
        OSError: the cache folder cannot be written.
    """
    text = _text(run)
    found = _ADDRESS.fullmatch(text)
    if found is None:
        raise RunError(f"{text} names no run on the hub; write hf://USER/NAME, or hf://USER/NAME@REVISION")
    name, revision = found.groups()
    snapshot = _downloaded(name, revision, FIRST)
    missing = [file for file in FIRST if not (snapshot / file).is_file()]
    if missing:
        raise RunError(f"hf://{name} is no run: it has no {' and no '.join(missing)}; mmreg runs hold these")
    snapshot = _downloaded(name, snapshot.name, FILES)  # of the same commit
    folder = cache_dir() / "runs" / name.replace("/", "--") / snapshot.name
    for path in sorted(snapshot.rglob("*")):
        file = path.relative_to(snapshot).as_posix()
        if path.is_file() and file.count("/") < 2 and any(fnmatchcase(file, pattern) for pattern in FILES):
            _keep(path.resolve(), folder / file)
    return folder


def _text(run: str | Path) -> str:
    return run if isinstance(run, str) else Path(run).as_posix()


def _keep(source: Path, target: Path) -> None:
    """Give a file of the hub's cache, where it is a link, a name in a run's folder, in which nothing is one."""
    if target.is_file():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileExistsError):  # another process was faster
        try:
            os.link(source, target)  # takes no room
        except FileExistsError:
            raise
        except OSError:  # on another disk
            with replacing(target) as temporary:
                shutil.copyfile(source, temporary)


def _downloaded(name: str, revision: str | None, patterns: Sequence[str]) -> Path:
    """The folder of a commit in the hub's own cache, with the files of these patterns."""
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError
    except ImportError as error:
        raise MissingPackageError(
            f"hf://{name} is fetched by huggingface_hub, which is not installed: pip install huggingface_hub"
        ) from error
    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=list(patterns)))
    except GatedRepoError:
        told = "asks for its terms to be accepted on its page; do so, then: hf auth login"
    except RevisionNotFoundError:
        told = f"has no revision {revision!r}"
    except RepositoryNotFoundError:
        told = "is not there; look at how it is spelled, and for a private one: hf auth login"
    except Exception as error:  # whatever the library and its network raise
        told = (
            f"was not downloaded before and cannot be now: {one_line(error)}; on a computer with a network type: "
            f"hf download {name} --local-dir FOLDER, bring that folder, and name it in the place of hf://{name}"
        )
    raise RunError(f"hf://{name} {told}")

"""The folder of a search: its study in SQLite, and that it is the same search that goes on there."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import mmreg
from mmreg.errors import MissingPackageError, RunError
from mmreg.files import unwritable
from mmreg.messages import is_unicode, one_line, shown
from mmreg_tune.locks import waited_for

if TYPE_CHECKING:
    import optuna

STUDY = "study.db"
LOCK = "study.lock"
TRIALS = "trials"
RESULTS = "trials.csv"
SECONDS = 60
"""How long one process waits for another to write into the study."""


def require_optuna() -> None:
    """Make sure that Optuna is there, which from then on tells no more than warnings.

    Raises:
        MissingPackageError: it is not installed.
    """
    try:
        import optuna
    except ImportError as error:
        raise MissingPackageError(
            "mmreg tune searches by Optuna, which is not installed; type: pip install 'mmreg[tune]'"
        ) from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)


def claim(folder: Path) -> None:
    """Make the folder, if nothing else is in it.

    Raises:
        RunError: it holds something else than a search, or cannot be written to.
    """
    why = unwritable(folder / STUDY) if is_unicode(str(folder)) else "its name is not UTF-8"
    if why is not None:
        raise RunError(f"the search cannot be written to {str(folder)!r}: {why}; name another folder")
    if folder.exists() and not (folder / STUDY).is_file() and {each.name for each in folder.iterdir()} - {LOCK, TRIALS}:
        raise RunError(f"{str(folder)!r} holds something else than a search; name another folder")
    (folder / TRIALS).mkdir(parents=True, exist_ok=True)


@contextmanager
def _told(folder: Path) -> Iterator[None]:
    """Let a study's file that is damaged be told as that."""
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except SQLAlchemyError as error:
        cause = getattr(error, "orig", None) or error
        raise RunError(
            f"the search in {str(folder)!r} cannot be gone on with: {STUDY} cannot be read ({one_line(cause)}); what "
            "its trials came to is in trials.csv; search in another folder"
        ) from error


@contextmanager
def study(
    folder: Path, searched: mmreg.SearchedRecipe, facts: Mapping[str, Any], pruner: optuna.pruners.BasePruner
) -> Iterator[optuna.Study]:
    """The study of a search's folder, made if there is none yet.

    Args:
        folder: the folder.
        searched: the recipe.
        facts: what `mmreg.validate` says of it.
        pruner: what ends trials early.

    Raises:
        RunError: the folder holds the search of another recipe; says what differs.
    """
    import optuna

    # A connection of our own making: the path may hold what an address gives a meaning.
    connect = partial(sqlite3.connect, folder / STUDY, timeout=SECONDS, check_same_thread=False)
    with waited_for(folder / LOCK), _told(folder):
        storage = optuna.storages.RDBStorage(f"sqlite:///{STUDY}", engine_kwargs={"creator": connect})
        direction: Literal["maximize", "minimize"] = "maximize" if facts["more_is_better"] else "minimize"
        opened = optuna.create_study(
            study_name="mmreg", storage=storage, direction=direction, pruner=pruner, load_if_exists=True
        )
        told = plain(searched)
        try:
            _check_same(folder, opened, told)
        except RunError:
            storage.engine.dispose()
            raise
    try:
        yield opened
    finally:
        storage.remove_session()
        storage.engine.dispose()


def plain(searched: mmreg.SearchedRecipe) -> str:
    """A searched recipe as text; its table is known by its rows."""
    return json.dumps({key: value for key, value in searched.data.items() if key != "table"}, default=str)


def _check_same(folder: Path, study: optuna.Study, told: str) -> None:
    before = study.user_attrs.get("recipe")
    if before is None:
        if (folder / RESULTS).is_file():
            raise RunError(
                f"{RESULTS} in {str(folder)!r} tells of a search that {STUDY} no longer holds; nothing of it was "
                "changed: search in another folder"
            )
        study.set_user_attr("recipe", told)
        return
    differences = list(_differences(json.loads(before), json.loads(told), ""))
    if differences:
        lines = [f"  {key} was {shown(old)} and is {shown(new)}" for key, old, new in differences]
        what = f"the search in {str(folder)!r} is of another recipe"
        raise RunError("\n".join([f"{what}; use that, or name another folder", *lines]))


def check_table(study: optuna.Study, fingerprint: str) -> None:
    """Refuse to go on with a search on other rows, as its figures could not be compared.

    Raises:
        RunError: the table has changed.
    """
    before = study.user_attrs.get("table")
    if before is None:
        study.set_user_attr("table", fingerprint)
    elif before != fingerprint:
        raise RunError("the rows of the table have changed since the search began; search anew, in another folder")


def _differences(before: Any, now: Any, key: str) -> Iterator[tuple[str, Any, Any]]:
    if isinstance(before, dict) and isinstance(now, dict):
        for step in dict.fromkeys([*before, *now]):
            yield from _differences(before.get(step), now.get(step), f"{key}.{step}" if key else step)
    elif before != now:
        yield key, before, now

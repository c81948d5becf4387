"""A run: the folder that training leaves behind, and how it is loaded, evaluated and used to predict."""

from mmreg.run_files.facts import COMPONENTS, FORMAT, RECIPE, WEIGHTS, is_run, read_facts, run_file
from mmreg.run_files.figures import REPORT, TIMINGS, read_timings
from mmreg.run_files.lock import LOCK, writer, writing
from mmreg.run_files.weights import read_weights, told_checksum, write_weights
from mmreg.runs.folder import (
    BEST,
    CHECKPOINT,
    CHECKPOINTS,
    EARLIER_BEST,
    EARLIER_CHECKPOINT,
    METRICS,
    OUT_OF_FOLD,
    PREDICTIONS,
    PROFILE,
    claim,
    clear,
    keep_assets,
    own_folder,
    read_predictions,
    remove_leftovers,
    write_facts,
    write_predictions,
)
from mmreg.runs.loading import load
from mmreg.runs.matching import Targets, check_same_task, matching_key, written_keys
from mmreg.runs.measuring import evaluation, prediction_columns, report_split, row_keys, with_keys
from mmreg.runs.references import check_references, kept_weights, load_kept_weights
from mmreg.runs.run import KnownRows, Run

__all__ = [
    "BEST",
    "CHECKPOINT",
    "CHECKPOINTS",
    "COMPONENTS",
    "EARLIER_BEST",
    "EARLIER_CHECKPOINT",
    "FORMAT",
    "LOCK",
    "METRICS",
    "OUT_OF_FOLD",
    "PREDICTIONS",
    "PROFILE",
    "RECIPE",
    "REPORT",
    "TIMINGS",
    "WEIGHTS",
    "KnownRows",
    "Run",
    "Targets",
    "check_references",
    "check_same_task",
    "claim",
    "clear",
    "evaluation",
    "is_run",
    "keep_assets",
    "kept_weights",
    "load",
    "load_kept_weights",
    "matching_key",
    "own_folder",
    "prediction_columns",
    "read_facts",
    "read_predictions",
    "read_timings",
    "read_weights",
    "remove_leftovers",
    "report_split",
    "row_keys",
    "run_file",
    "told_checksum",
    "with_keys",
    "write_facts",
    "write_predictions",
    "write_weights",
    "writer",
    "writing",
    "written_keys",
]

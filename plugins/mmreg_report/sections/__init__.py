"""The sections of a run's page, a file each; one that has nothing to say of a run gives nothing."""

from collections.abc import Callable, Sequence

from mmreg_report.markup import Html
from mmreg_report.sections.classes import classes
from mmreg_report.sections.curves import curves
from mmreg_report.sections.data import data
from mmreg_report.sections.figures import figures
from mmreg_report.sections.model import model
from mmreg_report.sections.origin import origin
from mmreg_report.sections.probabilities import probabilities
from mmreg_report.sections.rows import rows
from mmreg_report.sections.subsets import subsets
from mmreg_report.sections.values import values
from mmreg_report.subject import Subject

Section = Callable[[Subject], Sequence[Html | str]]

SECTIONS: dict[str, Section] = {
    "Model": model,
    "Data": data,
    "Learning curves": curves,
    "Figures": figures,
    "Classes": classes,
    "Probabilities": probabilities,
    "Predicted values": values,
    "What each modality contributes": subsets,
    "Rows": rows,
    "Origin": origin,
}
"""By their titles, in order."""

__all__ = ["SECTIONS"]

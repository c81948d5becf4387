"""mmreg's runs as models of MLflow: `save_model` and `log_model`, to be loaded by `mlflow.pyfunc.load_model`.

Needs MLflow and pandas: pip install mlflow-skinny pandas.
"""

from __future__ import annotations

from typing import Any

__all__ = ["log_model", "save_model"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from mmreg_mlflow import saving

    return getattr(saving, name)

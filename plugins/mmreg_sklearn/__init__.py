"""mmreg as estimators of scikit-learn: `MultimodalClassifier` and `MultimodalRegressor`.

Needs scikit-learn: pip install mmreg[sklearn].
"""

from __future__ import annotations

from typing import Any

__all__ = ["MultimodalClassifier", "MultimodalRegressor"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from mmreg_sklearn import estimators

    return getattr(estimators, name)

"""What a plugin declares: a component as plain data, so that listing it imports nothing."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ComponentSpec:
    """One component of a plugin.

    Attributes:
        kind: what it is: "modality", "encoder", "fusion" or "task".
        name: the name that recipes use; lower case by custom, without ":" or "/".
        target: where its class is, as "package.module:Class"; imported when it is first described or built.
        summary: one sentence for listings.
        level: for a fusion: "feature" or "model"; empty otherwise.
        install_hint: what to type when a package that only this component needs is missing,
            such as "pip install mmreg-depth[onnx]".
    """

    kind: str
    name: str
    target: str
    summary: str = ""
    level: str = ""
    install_hint: str = ""

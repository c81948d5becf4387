"""Declares what the plugin brings; every mmreg command imports this module, so it imports nothing heavy."""

from mmreg import SourceSpec, hookimpl

mmreg_api = 1


@hookimpl
def mmreg_sources() -> list[SourceSpec]:
    """`skeleton-name://PATH`."""
    return [SourceSpec("skeleton-name", "mmreg_skeleton.source:read", "SUMMARY")]

"""Declares the engine; imports nothing heavy."""

from mmreg import EngineSpec, hookimpl

mmreg_api = 1


@hookimpl
def mmreg_engines() -> list[EngineSpec]:
    """`--on ray`."""
    summary = "The processes of a Ray cluster, or as many as this machine has cores."
    return [EngineSpec("ray", "mmreg_ray.engine:RayEngine", summary, "pip install 'mmreg[ray]'")]

"""An application as a deployment of Ray Serve, which spreads requests over replicas and replaces those that die."""

from __future__ import annotations

import ipaddress
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import ray
from ray import serve
from ray.exceptions import RayError

from mmreg.errors import EngineError
from mmreg.messages import one_line, plural

NAME = "mmreg"
"""Of the application, by which Ray Serve's own tools show it."""
HEALTH_SECONDS = 2
"""After how long a replica that died is noticed."""
TRIES = 3
"""How often a replica may fail to begin."""


@contextmanager
def serving(
    build: Callable[[], Any], *, host: str, port: int, replicas: int, at_once: int, seconds: float, gpus: bool
) -> Iterator[str]:
    """See `Engine.serve`; Ray is connected.

    Raises:
        EngineError: the cluster serves something already, is too small, or the application cannot be made in it.
    """
    kind = "GPU" if gpus else "CPU"
    there = int(ray.cluster_resources().get(kind, 0))
    if there < replicas:
        raise EngineError(f"{plural(replicas, 'replica')} need a {kind} each, and the cluster has {there}")
    if serve.status().proxies:
        raise EngineError("Ray Serve is running on this cluster already; end it by: serve shutdown")
    logging.getLogger("ray.serve").setLevel(logging.ERROR)
    everywhere = ipaddress.ip_address(host).is_unspecified

    def make() -> Any:  # Ray Serve calls functions alone, in each replica
        return build()

    deployment = serve.deployment(
        serve.ingress(make)(),
        name="replica",
        num_replicas=replicas,
        max_ongoing_requests=at_once,
        ray_actor_options={"num_cpus": 0 if gpus else 1, "num_gpus": 1 if gpus else 0},
        graceful_shutdown_timeout_s=seconds,
        health_check_period_s=HEALTH_SECONDS,
        max_constructor_retry_count=TRIES,
        logging_config={"log_level": "WARNING", "enable_access_log": False},
    )
    try:
        try:
            serve.start(
                proxy_location="EveryNode" if everywhere else "HeadOnly", http_options={"host": host, "port": port}
            )
            serve.run(deployment.bind(), name=NAME)
        except (RayError, RuntimeError, ValueError) as error:
            raise EngineError(f"Ray Serve cannot begin to answer: {_why() or one_line(error)}") from error
        shown = f"[{host}]" if ":" in host else host
        yield f"http://{shown}:{port}"
    finally:
        with suppress(RayError):  # a cluster that is gone serves nothing
            serve.delete(NAME)
            if not serve.status().applications:  # nobody else's
                serve.shutdown()


def _why() -> str:
    """What replicas that could not begin had to say: the last line of an error's traceback."""
    application = serve.status().applications.get(NAME)
    told = [each.message for each in application.deployments.values()] if application else []
    return next((lines[-1].strip() for text in told if (lines := text.strip().splitlines())), "")

"""The HTTP application: /predict, /healthz, /metrics, /openapi.json, and the page at /."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.openapi.utils import get_openapi
from fastapi.responses import FileResponse, JSONResponse, PlainTextResponse

import mmreg
from mmreg import Run
from mmreg_serve.batching import Batcher
from mmreg_serve.body import Bodies
from mmreg_serve.columns import Column, columns_of
from mmreg_serve.description import described, predict_operation, schemas
from mmreg_serve.guard import Guard
from mmreg_serve.limits import Limits
from mmreg_serve.metrics import CONTENT_TYPE, Metrics
from mmreg_serve.predicting import Answer, Predictor
from mmreg_serve.refusal import Refused, try_again
from mmreg_serve.requests import Request as Rows
from mmreg_serve.requests import of_form, of_json

PAGE = Path(__file__).parent / "page"
FILES = {
    "/": ("page.html", "text/html"),
    "/page.js": ("page.js", "text/javascript"),
    "/page.css": ("page.css", "text/css"),
}
SMALL = 1 << 16
"""Bytes of JSON up to which a thread is not worth it."""


def create_app(
    run: Run, limits: Limits | None = None, *, token: str | None = None, hosts: Sequence[str] | None = None
) -> FastAPI:
    """An application that answers with a run's predictions.

    Args:
        run: what predicts.
        limits: of requests.
        token: what a request has to bring as a bearer token; None if it needs none.
        hosts: the names by which a request may call this host; None for any.
    """
    limits = limits or Limits()
    columns = columns_of(run)
    metrics, bodies = Metrics(), Bodies(limits)
    batcher = Batcher(
        Predictor(run, limits.batch_rows),
        batch_rows=limits.batch_rows,
        queue_rows=limits.queue_rows,
        metrics=metrics,
    )

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with batcher:
            yield

    app = FastAPI(title=f"mmreg: {run.folder.absolute().name}", docs_url=None, redoc_url=None, lifespan=lifespan)
    app.add_middleware(Guard, token=token, hosts=hosts, metrics=metrics)

    async def rows_of(request: Request, body: bytes) -> Rows:
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind == "application/json":
            if len(body) <= SMALL:
                return of_json(body, columns, limits)
            return await asyncio.to_thread(of_json, body, columns, limits)
        if kind == "multipart/form-data":
            return await of_form(request.headers, body, columns, limits)
        raise Refused(415, "the content type must be application/json or multipart/form-data")

    async def answer(request: Request) -> Answer:
        async with bodies.read(request) as body:
            rows = await rows_of(request, body)
            if rows.shares:
                check_shares(run, len(rows.rows), limits)
            return await batcher.answer(rows)

    async def predict(request: Request) -> Response:
        """Predict rows."""
        try:
            async with asyncio.timeout(limits.seconds):
                return JSONResponse({"predictions": await answer(request)})
        except TimeoutError:
            refused = try_again(f"the answer took longer than {limits.seconds:g} seconds")
        except Refused as error:
            refused = error
        return JSONResponse({"detail": str(refused)}, refused.status, refused.headers)

    app.add_route("/predict", predict, methods=["POST"])  # plain: what FastAPI does for parameters, there are none of

    @app.get("/healthz")
    async def healthz() -> Response:
        """Whether the service is there."""
        return PlainTextResponse("ok\n")

    @app.get("/metrics")
    async def prometheus() -> Response:
        """What Prometheus reads."""
        return Response(metrics.text(), media_type=CONTENT_TYPE)

    @app.get("/model")
    async def model() -> Response:
        """The columns that are read, and the limits of a request."""
        return JSONResponse(described(run, columns, limits))

    @app.get("/favicon.ico", include_in_schema=False)
    async def favicon() -> Response:
        return Response(status_code=204)

    for path, (name, media_type) in FILES.items():
        _add_file(app, path, name, media_type)
    app.openapi = lambda: _openapi(app, columns)  # type: ignore[method-assign]
    return app


def load_app(
    folder: Path, device: str, precision: str | None, limits: Limits, token: str | None, hosts: Sequence[str] | None
) -> FastAPI:
    """The application of the run in a folder, which is loaded for it."""
    return create_app(mmreg.load(folder, device, precision), limits, token=token, hosts=hosts)


def check_shares(run: Run, rows: int, limits: Limits) -> None:
    """Refuse shares that nobody can tell, or that take too long.

    Raises:
        Refused: the run's task gives vectors, or there are too many subsets of modalities.
    """
    if any(target.task.space == "vectors" for target in run.task.targets().values()):
        raise Refused(422, "this run gives vectors, of which modalities have no shares; leave shares out")
    most = limits.share_rows >> len(run.inputs)
    if rows > most:
        told = f"shares take a prediction for each subset of {len(run.inputs)} modalities"
        raise Refused(422, f"{told}: {rows:,} rows are too many, {most:,} are allowed")


def _add_file(app: FastAPI, path: str, name: str, media_type: str) -> None:
    @app.get(path, include_in_schema=False)
    async def file() -> Response:
        return FileResponse(PAGE / name, media_type=media_type)


def _openapi(app: FastAPI, columns: Mapping[str, Column]) -> dict[str, Any]:
    """The description of the application, with the schemas of this run's rows."""
    if app.openapi_schema is None:
        schema = get_openapi(title=app.title, version="1", routes=app.routes)
        schema["paths"]["/predict"] = {"post": predict_operation(columns)}
        schema["components"] = {"schemas": schemas(columns)}
        app.openapi_schema = json.loads(json.dumps(schema))
    return app.openapi_schema

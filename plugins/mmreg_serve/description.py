"""What a run takes and gives: as plain data for the page, and as schemas for OpenAPI."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mmreg import Run
from mmreg_serve.columns import Column
from mmreg_serve.limits import Limits

BYTES = {
    "type": "object",
    "properties": {"base64": {"type": "string", "contentEncoding": "base64"}},
    "required": ["base64"],
    "additionalProperties": False,
}
NUMBERS = {"type": "array", "description": "Numbers, or lists of equally many.", "items": {}}
STATUSES = {
    200: "Each row's prediction.",
    413: "It is too large.",
    415: "It is of another type.",
    422: "It is no request that the run could answer.",
    503: "There is too much to do; Retry-After says when to try again.",
}


def described(run: Run, columns: Mapping[str, Column], limits: Limits) -> dict[str, Any]:
    """What a run reads, the names of its targets where there are several, and what a request may take."""
    return {
        "name": run.folder.absolute().name,
        "targets": [name for name in run.task.targets() if name],
        "columns": [
            {"name": each.name, "type": each.type, "files": each.files, "many": each.many, "endings": each.endings}
            for each in columns.values()
        ],
        "limits": {"bytes": limits.bytes, "rows": limits.rows, "seconds": limits.seconds},
    }


def predict_operation(columns: Mapping[str, Column]) -> dict[str, Any]:
    """What POST /predict takes and answers, as OpenAPI describes it."""
    answers = {}
    for status, text in STATUSES.items():
        schema = {"$ref": f"#/components/schemas/{'Predictions' if status == 200 else 'Refusal'}"}
        answers[str(status)] = {"description": text, "content": {"application/json": {"schema": schema}}}
    return {
        "summary": "Predict rows.",
        "operationId": "predict",
        "requestBody": _request_body(columns),
        "responses": answers,
    }


def _request_body(columns: Mapping[str, Column]) -> dict[str, Any]:
    rows = {"type": "array", "minItems": 1, "items": {"$ref": "#/components/schemas/Row"}}
    fields = {
        each.name: {
            "type": "array",
            "items": {"type": "string", **({"format": "binary"} if each.files else {})},
        }
        for each in columns.values()
    }
    shares = {"type": "boolean", "default": False, "description": "Whether to tell each modality's share."}
    form = {"type": "object", "properties": {"shares": {"type": "string", "enum": ["true", "false"]}, **fields}}
    data = {
        "type": "object",
        "properties": {"rows": rows, "shares": shares},
        "required": ["rows"],
        "additionalProperties": False,
    }
    return {
        "required": True,
        "content": {"application/json": {"schema": data}, "multipart/form-data": {"schema": form}},
    }


def schemas(columns: Mapping[str, Column]) -> dict[str, Any]:
    """The schemas that requests and answers name."""
    row = {each.name: _schema(each) for each in columns.values()}
    by_name = {"type": "object", "additionalProperties": {"type": "number"}}
    answer = {
        "prediction": {"type": "object", "description": "The prediction in the columns that `mmreg predict` writes."},
        "modalities": {"type": "array", "items": {"type": "string"}, "description": "Those that the row had."},
        "shares": {**by_name, "description": "Each modality's part of the absolute Shapley values; the sum is 1."},
        "effects": {**by_name, "description": "Each modality's Shapley value of the predicted class's probability."},
    }
    predictions = {"type": "array", "items": {"$ref": "#/components/schemas/Prediction"}}
    return {
        "Row": {"type": "object", "properties": row, "additionalProperties": False},
        "Prediction": {"type": "object", "properties": answer, "required": ["prediction", "modalities"]},
        "Predictions": {"type": "object", "properties": {"predictions": predictions}, "required": ["predictions"]},
        "Refusal": {"type": "object", "properties": {"detail": {"type": "string"}}, "required": ["detail"]},
    }


def _schema(column: Column) -> dict[str, Any]:
    values: list[dict[str, Any]] = [BYTES, NUMBERS] if column.files else [{"type": ["string", "number", "boolean"]}]
    if not column.files and not column.joined:
        values.append(NUMBERS)
    if column.many:
        values.append({"type": "array", "items": {"anyOf": list(values)}})
    return {"anyOf": [*values, {"type": "null"}], "description": f"Read by the modality {column.type}; null is absent."}

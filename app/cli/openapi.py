"""The API's description as it is published."""

from __future__ import annotations

import json

from app.main import create_app
from models_store.settings import Settings


def openapi_document() -> str:
    """`openapi.json`: the same text on every machine."""
    # Only routes and schemas go into it; whether keys are needed is the one setting that shows.
    settings = Settings.model_construct(base_models=None, default_base_model=False, auth="keys")
    app = create_app(settings)
    return json.dumps(app.openapi(), indent=2, sort_keys=True, ensure_ascii=False) + "\n"

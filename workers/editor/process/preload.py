"""Imports that the children would otherwise do one by one, each taking seconds.

Imported in the parent and unused there: a child starts with them done.
"""

# ruff: noqa: F401
from __future__ import annotations

import profanity_check
import sklearn.feature_extraction.text
import sklearn.pipeline
import sklearn.preprocessing
import vaderSentiment.vaderSentiment

from models_store.weights.architectures import ARCHITECTURES
from workers.editor import job, preparing
from workers.runtime.loading import preload as preload_model

__all__ = ["job", "preload", "preparing"]


def preload() -> None:
    """Import the model classes of every architecture; this module and the job bring the rest."""
    for model_type in ARCHITECTURES:
        preload_model(model_type)

"""Stores for tests: a real folder, and a real S3 protocol where it may differ."""

from __future__ import annotations

from pathlib import Path

import pytest

from models_store.objects.store import ObjectStore, open_store
from models_store.settings import Settings
from models_store.work.base_models import BaseModels
from models_store.work.cache import CachedWorkStore
from models_store.work.store import WorkStore


@pytest.fixture
def objects(tmp_path: Path) -> ObjectStore:
    return open_store(Settings(data=tmp_path / "data"))


@pytest.fixture(params=["file", "s3"])
def any_objects(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectStore:
    """Each kind of store in turn."""
    return open_kind(request, tmp_path, request.param)


def open_kind(request: pytest.FixtureRequest, tmp_path: Path, kind: str) -> ObjectStore:
    """A store of its own for a test, in a folder (`file`) or in a bucket (`s3`)."""
    if kind == "file":
        return open_store(Settings(data=tmp_path / "data"))
    bucket = request.getfixturevalue("s3_bucket")
    endpoint = request.getfixturevalue("s3_endpoint")
    return open_store(Settings(store_url=f"s3://{bucket}/scalpel", s3_endpoint=endpoint))


@pytest.fixture
def work(objects: ObjectStore) -> WorkStore:
    return WorkStore(objects)


@pytest.fixture
def cached(objects: ObjectStore) -> CachedWorkStore:
    return CachedWorkStore(objects)


@pytest.fixture
def bases(work: WorkStore) -> BaseModels:
    return BaseModels(work)

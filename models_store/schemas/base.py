"""The bases of all schemas."""

from __future__ import annotations

import ast
import inspect
import secrets
import sys
from collections.abc import Mapping
from functools import cache
from itertools import pairwise

from pydantic import BaseModel, ConfigDict, Field, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema


class FrozenModel(BaseModel):
    """A model that refuses changes and unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Documented(BaseModel):
    """Its attribute docstrings are the descriptions of the fields in the OpenAPI document.

    They are read when a schema is made. Read as the classes are defined, as pydantic would do it,
    they take a quarter of the time in which an API starts.
    """

    @classmethod
    def __get_pydantic_json_schema__(
        cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        schema = handler(core_schema)
        properties = handler.resolve_ref_schema(schema).get("properties", {})
        for model in reversed(cls.__mro__):
            if issubclass(model, Documented):
                for name, said in _docstrings(model.__module__).get(model.__name__, {}).items():
                    if name in properties:
                        properties[name]["description"] = said
        return schema


@cache
def _docstrings(module: str) -> Mapping[str, Mapping[str, str]]:
    """What stands below the fields of the module's classes, by class and field."""
    tree = ast.parse(inspect.getsource(sys.modules[module]))
    return {
        node.name: {
            field.target.id: inspect.cleandoc(below.value.value)
            for field, below in pairwise(node.body)
            if isinstance(field, ast.AnnAssign)
            and isinstance(field.target, ast.Name)
            and isinstance(below, ast.Expr)
            and isinstance(below.value, ast.Constant)
            and isinstance(below.value.value, str)
        }
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
    }


class DocumentedModel(Documented, FrozenModel):
    """One that also refuses changes and unknown fields."""


class Record(FrozenModel):
    """A JSON object in the store; frozen, since what is stored never changes."""

    model_config = ConfigDict(ser_json_inf_nan="constants")

    schema_version: int = 1
    """The major version; see `models_store.objects.versions`."""
    writer: str = Field(default_factory=lambda: secrets.token_hex(8))
    """Random: shows after a refused create whether the stored record is this one."""

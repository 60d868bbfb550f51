"""Variants that a body names: what is wrong with a name is said of its field."""

from __future__ import annotations

from app.services import Store
from models_store.errors import InvalidRequest
from models_store.records import Variant
from models_store.variants import InvalidVariant, UnknownVariant


def named_variant(
    store: Store, tenant: str, name: str, pointer: str, *, without_parents: bool = False
) -> Variant:
    """What `Variants.resolve` finds.

    Raises:
        InvalidRequest: there is no such variant.
        InvalidVariant: the name means nothing.
        NotFound, Conflict: as `Variants.resolve`.
    """
    try:
        return store.variants.resolve(tenant, name, without_parents=without_parents)
    except UnknownVariant as error:
        raise InvalidRequest.at(pointer, error.message, code="unknown_variant") from error
    except InvalidVariant as error:
        raise InvalidVariant(f"{pointer}: {error.message}") from error

"""Deleting an edit, and the exports that hold its delta."""

from __future__ import annotations

from models_store.schemas.records import Actor, ExportSettings
from models_store.work.store import WorkStore


def delete_with_exports(work: WorkStore, tenant: str, edit_id: str, actor: Actor) -> None:
    """Delete an edit and, before it, the exports that hold it, finished or not.

    Edits that repeat or measure it are edits of their own, and stay.

    Raises:
        NotFound: there is no such edit in this tenant, or it was deleted.
    """
    work.require("edit", tenant, edit_id)
    for export in work.walk("export", tenant):
        settings = export.request.settings
        assert isinstance(settings, ExportSettings)
        if any(term.edit_id == edit_id for term in settings.variant.terms):
            work.delete("export", tenant, export.id, actor)
    work.delete("edit", tenant, edit_id, actor)

"""What requests write into the audit log; see `models_store.audit.log`.

Work that is put in, canceled, deleted and ended is logged by `WorkStore`, whoever does it; here is
the rest. A route calls this when it has found what it was asked for and before it does anything.
"""

from __future__ import annotations

from pydantic import JsonValue

from app.request.auth import Principal
from app.services import Store


def logged(store: Store, who: Principal, event: str, **fields: JsonValue) -> None:
    """Write a line; no texts in it, ids and names only.

    Raises:
        Unavailable: it cannot be written, and so the request must not be carried out.
    """
    store.audit.append(event, tenant=who.tenant, actor=who.actor, **fields)

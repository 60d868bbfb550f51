"""How often prompts were tested on before: each look at them makes the best look a little better.

`tested/{tenant}/{digest of base model and test prompts}/{edit id}` is written before a receipt is
published, and stays when the edit is deleted.
"""

from __future__ import annotations

import hashlib
import json

from workers.editor.steps.values import Ingredients


def earlier_tests(edit: Ingredients) -> int:
    """Edits of this base model that were tested on these prompts before; notes that this one was.

    A repeat of an edit chooses nothing, and is not noted.

    Raises:
        Unavailable: the store stayed away.
    """
    task, context = edit.task, edit.context
    prompts = sorted(prompt.text for prompt in context.prompts)
    key = json.dumps([context.model.loaded.fingerprint, prompts]).encode()
    folder = f"tested/{task.request.tenant}/{hashlib.sha256(key).hexdigest()}"
    objects = task.store.objects
    noted = task.patiently(lambda: objects.files(folder))
    if edit.settings.reproduces is None:
        task.patiently(lambda: objects.create(f"{folder}/{task.request.id}", b""))
    return sum(info.path.rpartition("/")[2] != task.request.id for info in noted)

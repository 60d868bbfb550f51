"""What editors and generators import and edits are judged by, for `tests.support.forked`.

Each process learns once to tell the presets apart, which takes longer than a small edit.
"""

# ruff: noqa: F401
from __future__ import annotations

import workers.editor.__main__
import workers.generator.__main__
from models_store.presets import preset_names
from workers.editor.process.preload import preload
from workers.evaluation.extras.side_effects import preset_classifier

preload()
for preset in preset_names():
    preset_classifier(preset)

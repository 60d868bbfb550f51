"""Base models as files: bring a catalogued source to a folder, check it, pin it by a fingerprint.

Nothing here imports torch until something has to be converted, so a warm start costs
milliseconds. Only safetensors are read: no pickles, and no code that comes with a model.
"""

from workers.runtime.base_models.checks import CheckedModel, check
from workers.runtime.base_models.hashing import fingerprint, settings_digest
from workers.runtime.base_models.sources import fetch_data_file, is_here, materialise

__all__ = [
    "CheckedModel",
    "check",
    "fetch_data_file",
    "fingerprint",
    "is_here",
    "materialise",
    "settings_digest",
]

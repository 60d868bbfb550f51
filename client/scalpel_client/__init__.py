"""Python client of Scalpel, edit-as-a-service for large language models."""

from __future__ import annotations

from scalpel_client import errors, models, params
from scalpel_client._async.client import AsyncScalpel
from scalpel_client._sync.client import Scalpel
from scalpel_client.errors import *
from scalpel_client.models import Edit, Event, Export, Receipt

__version__ = "0.4.0"

"""What the description of the API says beside its schemas: tags, parameters, examples of bodies."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

TAGS: Mapping[str, str] = {
    "edits": "Make edits of base models, follow and measure them, and have their files.",
    "exports": "Files of a variant for other programs, compared with it before download.",
    "behaviors": "What edits change: presets, and your own texts.",
    "base models": "The models that can be edited.",
    "aliases": "Names of your own for variants, which can be switched at any time.",
    "webhooks": "Signed messages about the ends of edits.",
    "completions": "OpenAI's API for every variant, and responses side by side.",
    "fine-tuning": "OpenAI's API for files and fine-tuning jobs, which are edits.",
    "keys": "API keys: what each may do, and until when.",
    "health": "Whether the parts run.",
}
PARAMETERS: Mapping[str, str] = {
    "limit": "Most things on a page, 1 to 100.",
    "order": "`desc`: the newest or last first; `asc`: the other way round.",
    "after": "A position: `last_id` of the page before; it need not exist any more.",
    "status": "Only those of this status.",
    "base_model": "Only those of this base model.",
    "require": "`all`: 503 unless an edit and a completion would be served.",
    "point": "A measured trial in place of the selected one.",
    "last-event-id": "Of a stream: go on after this event.",
    "name": "Its name.",
    "model": "A base model, an alias, or a variant such as `base:edit@0.6`.",
    "edit_id": "`edit_…`.",
    "file_id": "`file-…`.",
    "job_id": "`ftjob-…`.",
    "purpose": "Only those with this purpose.",
    "export_id": "`exp_…`.",
    "behavior_id": "`beh_…`, or to read one, a preset's name.",
    "base_model_id": "Its id in the catalogue.",
    "key_id": "`key_…`.",
    "webhook_id": "`whk_…`.",
    "delivery_id": "The `webhook-id` of the message.",
}
_BASE = "smollm2-135m-instruct"
_EDIT: Mapping[str, Any] = {
    "base_model": _BASE,
    "behavior": "negativity",
    "method": "bias",
    "effort": "quick",
    "suffix": "kinder",
}
_USER = [{"role": "user", "content": "How was your day?"}]
EXAMPLES: Mapping[str, Mapping[str, Any]] = {
    "create_edit": _EDIT,
    "estimate_edit": {"base_model": _BASE, "behavior": "negativity"},
    "create_receipt": {"variant": f"{_BASE}:kinder@1+calmer@0.5", "effort": "quick"},
    "create_import": {
        "base_model": _BASE,
        "source": {"type": "base_model", "id": "my-fine-tune", "rank": 16},
        "suffix": "tuned",
    },
    "compare": {"prompts": ["The food at the new place was"], "strengths": [0, 0.5, 1]},
    "compare_live": {
        "model": f"{_BASE}:kinder",
        "strengths": [0, 1],
        "prompt": "How was your day?",
    },
    "create_export": {"variant": f"{_BASE}:kinder@0.6", "format": "peft"},
    "check_server": {"url": "https://llm.example.com/v1", "model": "kinder"},
    "create_behavior": {
        "name": "hedging",
        "undesired": [f"It might perhaps be the case that {n} is enough." for n in range(16)],
        "desired": [f"{n} is enough." for n in range(16)],
        "prompts": ["How many chairs do we need?"],
    },
    "draft_behavior": {"sentence": "stop hedging", "base_model": _BASE, "count": 16},
    "create_base_model": {
        "id": "my-model",
        "source": {"type": "folder", "path": "/models/my-model"},
        "licence": "apache-2.0",
    },
    "put_alias": {
        "variant": f"{_BASE}:kinder@0.6",
        "shares": [{"variant": f"{_BASE}:kinder@0.8", "weight": 0.1}],
    },
    "roll_back_alias": {"version": 1},
    "create_webhook": {"url": "https://example.com/hook", "events": ["edit.succeeded"]},
    "change_webhook": {"enabled": False},
    "rotate_secret": {"overlap_seconds": 3600},
    "create_api_key": {"name": "ci", "scopes": ["edits:read", "edits:write"]},
    "rotate_api_key": {"overlap_seconds": 3600},
    "create_fine_tuning_job": {
        "model": _BASE,
        "training_file": "file-01M8KP6C4A9EAVJW9RC30EQ4PP",
        "method": {"type": "dpo"},
        "suffix": "kinder",
    },
    "create_chat_completion": {
        "model": f"{_BASE}:kinder@0.6",
        "messages": _USER,
        "max_tokens": 32,
    },
    "create_completion": {
        "model": f"{_BASE}:kinder@0.6",
        "prompt": "The tea was",
        "max_tokens": 8,
        "seed": 1,
    },
}
"""By operation."""

"""Every error code of the API: its status, its title, and what to do about it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ErrorKind:
    code: str
    status: int | None
    """None: not an HTTP response but the `error.code` of an edit that failed."""
    title: str
    advice: str


_ALL = (
    ErrorKind("malformed_json", 400, "The body is not JSON", "Send valid JSON in UTF-8."),
    ErrorKind(
        "bad_request",
        400,
        "A query parameter, a header or a cursor is invalid",
        "Correct the parameter that the detail names.",
    ),
    ErrorKind(
        "invalid_variant",
        400,
        "The variant's name is not valid",
        "Write base, base:edit, base:edit@0.6 or base:edit@0.7+other@-1: at most 8 edits, each "
        "once, strengths between -4 and 4.",
    ),
    ErrorKind(
        "context_length_exceeded",
        400,
        "The prompt is too long",
        "Shorten it or lower max_tokens: together they must fit into the model's context.",
    ),
    ErrorKind(
        "no_chat_template",
        400,
        "The base model has no chat template",
        "Use /v1/completions, or leave out `chat`.",
    ),
    ErrorKind(
        "invalid_training_file",
        400,
        "A file for fine-tuning cannot be used",
        "Correct the line in the message: JSON objects, one a line, in the form of the job's "
        "method.",
    ),
    ErrorKind(
        "bad_host",
        400,
        "The Host header is not one of the server's names",
        "Use one of its names; SCALPEL_ALLOWED_HOSTS adds names to the loopback ones.",
    ),
    ErrorKind(
        "unauthorized",
        401,
        "No valid API key",
        "Send Authorization: Bearer sk-… with a key made by `scalpel keys create`.",
    ),
    ErrorKind(
        "missing_scope", 403, "The key lacks a scope", "Use a key with the scope in the detail."
    ),
    ErrorKind(
        "operators_only",
        403,
        "Only the operator may do this",
        "Use a key with the scope `admin` of the tenant `default`.",
    ),
    ErrorKind(
        "cross_site",
        403,
        "The request came from a page of another site",
        "Send it from a program or from this server's pages; SCALPEL_CORS_ORIGINS allows other "
        "sites.",
    ),
    ErrorKind(
        "csrf_failed",
        403,
        "The session's CSRF token is missing",
        "Sign out and in again. Scripts of a page send the token as X-CSRF-Token; programs send a "
        "key in place of the cookie.",
    ),
    ErrorKind(
        "policy_refused",
        403,
        "The operator's policy does not allow it",
        "The detail names the rule; ask the operator, or use a key with the scope edits:unsafe. "
        "If an edit failed with it, its report has the measured harm.",
    ),
    ErrorKind(
        "not_found",
        404,
        "The resource does not exist",
        "Check the id. Deleted resources and those of other tenants are not found either.",
    ),
    ErrorKind(
        "model_not_found",
        404,
        "There is no such model",
        "GET /v1/models lists the available models.",
    ),
    ErrorKind(
        "no_delta",
        404,
        "The edit ended without a delta",
        "Read its error with GET /v1/edits/{id}; only edits that succeeded have a delta.",
    ),
    ErrorKind(
        "no_report",
        404,
        "The edit ended without a report",
        "Read its error with GET /v1/edits/{id}; what was imported gets one by POST /v1/receipts.",
    ),
    ErrorKind(
        "no_files",
        404,
        "The export ended without files",
        "Read its error with GET /v1/exports/{id}, and make a new one.",
    ),
    ErrorKind(
        "no_canary",
        404,
        "The export has no canary",
        "An earlier version made it: make a new one with POST /v1/exports.",
    ),
    ErrorKind(
        "method_not_allowed", 405, "The path has no such method", "The header Allow lists them."
    ),
    ErrorKind(
        "not_acceptable",
        406,
        "None of the accepted types is available",
        "The detail lists the available types; send one of them as Accept.",
    ),
    ErrorKind(
        "request_timeout",
        408,
        "The request did not arrive in time",
        "Send its headers at once, and its body without long pauses.",
    ),
    ErrorKind(
        "key_ended",
        409,
        "The key has ended",
        "Make a new key; a revoked, expired or replaced one cannot be rotated.",
    ),
    ErrorKind(
        "edit_not_finished",
        409,
        "The edit has not finished",
        "Wait for it with GET /v1/edits/{id}?wait=30 or its events.",
    ),
    ErrorKind(
        "export_not_finished",
        409,
        "The export has not finished",
        "Wait for it with GET /v1/exports/{id}?wait=30.",
    ),
    ErrorKind(
        "edit_already_finished",
        409,
        "The edit has finished",
        "It can no longer be canceled; use DELETE to remove it.",
    ),
    ErrorKind(
        "export_already_finished",
        409,
        "The export has finished",
        "It can no longer be canceled; use DELETE to remove it.",
    ),
    ErrorKind(
        "export_damaged",
        409,
        "A record of the export is damaged",
        "It has ended, and counts no longer as open; DELETE removes it.",
    ),
    ErrorKind(
        "edit_damaged",
        409,
        "A record of the edit is damaged",
        "It has ended, and counts no longer as open; DELETE removes it.",
    ),
    ErrorKind(
        "suffix_taken",
        409,
        "Another edit has this suffix",
        "Choose another. A suffix is free again when its edit failed, was canceled or deleted.",
    ),
    ErrorKind(
        "base_model_exists",
        409,
        "A base model with this id exists",
        "Choose another id, or DELETE the base model first.",
    ),
    ErrorKind(
        "base_model_not_ready",
        409,
        "The base model is being registered",
        "Retry after the seconds in Retry-After; GET /v1/base_models/{id} shows its status.",
    ),
    ErrorKind(
        "base_model_changed",
        409,
        "The edit was made for other weights",
        "Make a new edit on the weights that are registered under this id now.",
    ),
    ErrorKind(
        "parents_missing",
        409,
        "The edit needs its parent edits",
        "Name them in the variant too, or send without_parents: true where the call has it. An "
        "edit whose parents were deleted cannot be reproduced.",
    ),
    ErrorKind(
        "name_taken", 409, "The name is a base model's", "Choose another name for the alias."
    ),
    ErrorKind(
        "in_use",
        409,
        "Something depends on it",
        "The detail says what; change or delete that first.",
    ),
    ErrorKind(
        "too_many_webhooks", 409, "The tenant has the most webhooks allowed", "Delete one of them."
    ),
    ErrorKind(
        "too_many_api_keys",
        409,
        "The tenant has the most keys allowed",
        "Revoke some.",
    ),
    ErrorKind(
        "changed_meanwhile",
        409,
        "Another request changed it at the same time",
        "Read it again, and retry if you still want the change.",
    ),
    ErrorKind(
        "idempotency_key_damaged",
        409,
        "The record of this Idempotency-Key is damaged",
        "Look whether the first request was done; if not, use a new Idempotency-Key.",
    ),
    ErrorKind(
        "idempotency_key_in_use",
        409,
        "The first request with this Idempotency-Key has not finished",
        "Retry in a moment. If that does not help, the first request broke off before it made "
        "anything: use a new Idempotency-Key.",
    ),
    ErrorKind(
        "idempotency_key_reused",
        409,
        "The Idempotency-Key was used for another request",
        "Use a new key for each thing you create; retry with the same body and path.",
    ),
    ErrorKind(
        "body_too_large",
        413,
        "The body is too large",
        "Send less. Large sets of texts take fewer bytes as JSON lines, of at most 1 MiB each.",
    ),
    ErrorKind(
        "unsupported_media_type",
        415,
        "The body's type is not accepted",
        "Send Content-Type: application/json.",
    ),
    ErrorKind(
        "range_not_satisfiable",
        416,
        "The file has no such range",
        "The header Content-Range has its length.",
    ),
    ErrorKind(
        "invalid_request",
        422,
        "The request is not valid",
        "Each entry of errors names a field and what is wrong with it.",
    ),
    ErrorKind("rate_limited", 429, "Too many requests", "Wait for the seconds in Retry-After."),
    ErrorKind(
        "quota_exceeded", 429, "The quota is used up", "Wait for the seconds in Retry-After."
    ),
    ErrorKind(
        "headers_too_large", 431, "The headers are too large", "Send fewer and shorter headers."
    ),
    ErrorKind(
        "internal_error",
        500,
        "Internal error",
        "The server's log has the details under the request id.",
    ),
    ErrorKind(
        "corrupt_artifact",
        500,
        "A stored file does not match its checksum",
        "It was damaged after it was written: make the edit or export again.",
    ),
    ErrorKind(
        "generation_failed",
        502,
        "Generation failed",
        "Retry; the detail says what happened.",
    ),
    ErrorKind(
        "store_unavailable",
        503,
        "The store cannot be reached",
        "Nothing was changed; retry after the seconds in Retry-After.",
    ),
    ErrorKind(
        "store_full",
        503,
        "The store is full",
        "Free some space, for example by deleting edits, then retry.",
    ),
    ErrorKind(
        "newer_record",
        503,
        "A later version of Scalpel wrote this",
        "Retry: while several versions run on one store, the later ones can read it. If it stays, "
        "start a version as new as the one that wrote it.",
    ),
    ErrorKind(
        "no_generator",
        503,
        "No generator is running",
        "Start one with `scalpel generator` or `scalpel up`; GET /readyz shows what is running.",
    ),
    ErrorKind(
        "overloaded", 503, "The server is overloaded", "Retry after the seconds in Retry-After."
    ),
    ErrorKind(
        "worker_lost",
        None,
        "The worker process died repeatedly",
        "Usually too little memory: use a smaller base model or a larger machine.",
    ),
    ErrorKind(
        "policy_changed",
        None,
        "The operator's policy was changed meanwhile",
        "Send the request again; the operator gives API and editors the same policy.",
    ),
    ErrorKind(
        "edit_error",
        None,
        "The edit raised an error",
        "The message has the error; it is not retried.",
    ),
    ErrorKind(
        "out_of_memory",
        None,
        "Not enough memory",
        "Use a smaller base model, shorter texts, or an editor on a larger machine.",
    ),
    ErrorKind("deadline", None, "The deadline passed", "Use fewer texts or a faster machine."),
    ErrorKind(
        "invalid_import",
        None,
        "No edit can be made of the files",
        "The message says why. Import LoRA adapters of linear modules of the same base model, or "
        "deltas that were made for the same weights.",
    ),
    ErrorKind(
        "invalid_behavior",
        None,
        "The texts cannot be used",
        "The message says why; correct the behaviour and make a new edit.",
    ),
    ErrorKind(
        "behavior_not_shown",
        None,
        "The scorer finds no texts of both kinds",
        "The message says how much of the base model's text it flags. Give prompts that the model "
        "continues in both ways, or texts in place of the scorer.",
    ),
    ErrorKind(
        "base_model_unavailable",
        None,
        "The base model's weights cannot be used",
        "They are missing, broken or not the registered ones: see GET /v1/base_models/{id}.",
    ),
    ErrorKind(
        "no_effect_within_limits",
        None,
        "Every edit exceeds a limit or adds undesired text",
        "The report has the best candidates and the limits that each exceeds. Raise these "
        "limits, or give texts that show the behaviour more clearly or prompts that elicit it.",
    ),
    ErrorKind(
        "export_mismatch",
        None,
        "The export differs from the edit",
        "`proof` says by how much; try another format.",
    ),
)

ERRORS: dict[str, ErrorKind] = {kind.code: kind for kind in _ALL}

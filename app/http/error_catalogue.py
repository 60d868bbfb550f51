"""Every error code that an answer can carry: its status, its title, and what to do about it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ErrorKind:
    code: str
    status: int | None
    """None: not an HTTP answer but the `error.code` of an edit that failed."""
    title: str
    advice: str


_ALL = (
    ErrorKind("malformed_json", 400, "The body is not JSON", "Send valid JSON in UTF-8."),
    ErrorKind(
        "bad_request",
        400,
        "The query, a header or a cursor means nothing",
        "Correct the parameter that the detail names.",
    ),
    ErrorKind(
        "invalid_variant",
        400,
        "The name cannot be a variant's",
        "Write base, base:edit, base:edit@0.6 or base:edit@0.7+other@-1: at most 8 edits, each "
        "once, strengths between -4 and 4.",
    ),
    ErrorKind(
        "context_length_exceeded",
        400,
        "The prompt is too long",
        "Shorten it, or ask for fewer tokens: both together must fit into the model's context.",
    ),
    ErrorKind(
        "no_chat_template",
        400,
        "The base model takes no conversations",
        "Use /v1/completions, or leave out `chat`: the model's tokenizer has no chat template.",
    ),
    ErrorKind(
        "bad_host",
        400,
        "The server is not called that",
        "Use one of its names; SCALPEL_ALLOWED_HOSTS lists those besides the loopback ones.",
    ),
    ErrorKind(
        "unauthorized",
        401,
        "No valid API key",
        "Send Authorization: Bearer sk-… with a key made by `scalpel keys create`.",
    ),
    ErrorKind(
        "missing_scope", 403, "The key may not do this", "Use a key that has the scope named."
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
        "A page of another site sent it",
        "Send it from a program or from this server's own pages; SCALPEL_CORS_ORIGINS lists sites "
        "whose pages may.",
    ),
    ErrorKind(
        "csrf_failed",
        403,
        "The session's token is missing",
        "Sign out and in again; a page's script sends the token as X-CSRF-Token, a program a key "
        "in place of the cookie.",
    ),
    ErrorKind(
        "policy_refused",
        403,
        "The operator's policy does not allow it",
        "The detail names the rule; ask the operator, or use a key with the scope edits:unsafe. "
        "Of an edit that failed with it, the report says what harm was measured.",
    ),
    ErrorKind(
        "not_found",
        404,
        "There is no such thing",
        "Check the id; what belongs to another tenant looks the same, and so does what was "
        "deleted.",
    ),
    ErrorKind(
        "model_not_found",
        404,
        "There is no such model",
        "GET /v1/models lists what can be named as a model.",
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
        "Read its error with GET /v1/edits/{id}.",
    ),
    ErrorKind(
        "no_files",
        404,
        "The export ended without files",
        "Read its error with GET /v1/exports/{id}, and make a new one.",
    ),
    ErrorKind(
        "method_not_allowed", 405, "The path has no such method", "The header Allow lists them."
    ),
    ErrorKind(
        "not_acceptable",
        406,
        "None of the accepted types can be had",
        "The detail lists the types that the path has; send one of them as Accept.",
    ),
    ErrorKind(
        "request_timeout",
        408,
        "The request did not come",
        "Send its headers at once, and its body without long pauses.",
    ),
    ErrorKind(
        "key_ended",
        409,
        "The key is accepted no more",
        "Make a new key; one that was revoked, expired or replaced cannot be rotated.",
    ),
    ErrorKind(
        "edit_not_finished",
        409,
        "The edit is not done yet",
        "Wait for it with GET /v1/edits/{id}?wait=30 or its events.",
    ),
    ErrorKind(
        "export_not_finished",
        409,
        "The export is not done yet",
        "Wait for it with GET /v1/exports/{id}?wait=30.",
    ),
    ErrorKind(
        "edit_already_finished",
        409,
        "The edit has ended",
        "It can no longer be canceled; DELETE forgets it.",
    ),
    ErrorKind(
        "suffix_taken",
        409,
        "Another edit has this suffix",
        "Choose another; it is free again once its holder failed, was canceled or deleted.",
    ),
    ErrorKind(
        "base_model_exists",
        409,
        "The base model is registered",
        "Choose another id, or DELETE the base model first.",
    ),
    ErrorKind(
        "base_model_not_ready",
        409,
        "The base model is being registered",
        "Try again after the seconds in Retry-After; GET /v1/base_models/{id} shows how far it is.",
    ),
    ErrorKind(
        "base_model_changed",
        409,
        "The edit was made for other weights",
        "Make it again on the weights that are registered under this id now.",
    ),
    ErrorKind(
        "parents_missing",
        409,
        "The edit needs the edits that it was fitted on",
        "Name them in the variant too, or send without_parents: true where the call has it. An "
        "edit whose parents were deleted cannot be made again.",
    ),
    ErrorKind(
        "name_taken", 409, "The name is a base model's", "Choose another name for the alias."
    ),
    ErrorKind(
        "in_use",
        409,
        "Something depends on it",
        "The detail names what does: change or delete that first.",
    ),
    ErrorKind(
        "too_many_webhooks", 409, "There are as many webhooks as can be", "Delete one of them."
    ),
    ErrorKind(
        "changed_meanwhile",
        409,
        "Another request changed it at the same time",
        "Read it, and send the request again if it is still what you want.",
    ),
    ErrorKind(
        "idempotency_key_in_use",
        409,
        "The first request with this Idempotency-Key is not done",
        "Send it again in a moment; if that does not help, the first one was cut short before it "
        "made anything: use a new Idempotency-Key.",
    ),
    ErrorKind(
        "idempotency_key_reused",
        409,
        "The Idempotency-Key belongs to another request",
        "Use a new key for each thing you create; repeat a request with the same body and route.",
    ),
    ErrorKind(
        "body_too_large",
        413,
        "The body is too large",
        "Send less: large sets of texts take fewer bytes as JSON lines, of at most 1 MiB each.",
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
        "The header Content-Range says how long it is.",
    ),
    ErrorKind(
        "invalid_request",
        422,
        "The request cannot be carried out",
        "Each entry of errors points to a field and says what is wrong with it.",
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
        "Something went wrong here",
        "It is not your request's fault; the log has the details under the request id.",
    ),
    ErrorKind(
        "corrupt_artifact",
        500,
        "Stored bytes are not what they should be",
        "The file was damaged after it was written: make the edit or export again.",
    ),
    ErrorKind(
        "generation_failed",
        502,
        "The generator broke off",
        "Send the request again; the detail says what happened.",
    ),
    ErrorKind(
        "store_unavailable",
        503,
        "The store cannot be reached",
        "Nothing was changed: send the request again after the seconds in Retry-After.",
    ),
    ErrorKind(
        "store_full",
        503,
        "The store is full",
        "Free some space, for example by deleting edits; then send the request again.",
    ),
    ErrorKind(
        "no_generator",
        503,
        "No generator is running",
        "Start one with `scalpel generator` or `scalpel up`; GET /readyz shows what is there.",
    ),
    ErrorKind("overloaded", 503, "Too much to do", "Send the request again after the Retry-After."),
    ErrorKind(
        "worker_lost",
        None,
        "The process that made the edit died again and again",
        "Usually too little memory: use a smaller base model, or a machine with more.",
    ),
    ErrorKind(
        "edit_error", None, "The edit raised an error", "The message says which; it is not retried."
    ),
    ErrorKind(
        "out_of_memory",
        None,
        "Not enough memory",
        "Use a smaller base model, shorter texts, or an editor on a larger machine.",
    ),
    ErrorKind("deadline", None, "It took too long", "Use fewer texts, or a faster machine."),
    ErrorKind(
        "invalid_behavior",
        None,
        "The texts cannot be used",
        "The message says why; correct the behaviour and make a new edit.",
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
        "No edit within the limits stood the test",
        "Its report says what came nearest. Allow more with limits (max_kl, max_perplexity_ratio, "
        "max_domain or max_fluency), or give texts that show the behaviour more clearly, or "
        "prompts that elicit it.",
    ),
    ErrorKind(
        "export_mismatch",
        None,
        "The export did not behave like the edit",
        "The proof says by how much; try another format.",
    ),
)

ERRORS: dict[str, ErrorKind] = {kind.code: kind for kind in _ALL}

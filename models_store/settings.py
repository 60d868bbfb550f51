"""Settings of every process, read from the environment (`SCALPEL_…`)."""

from __future__ import annotations

import ipaddress
import os
import re
from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

_EVERY_ADDRESS = ("0.0.0.0", "::")  # noqa: S104 - compared with, not bound to
_ORIGIN = re.compile(r"https?://[^/\s*@?#]+")


def default_data_dir() -> Path:
    """The user's data directory (XDG), by default of the store and the embedded Redis."""
    home = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(home) / "scalpel"


def default_cache_dir() -> Path:
    """The user's cache directory (XDG), for converted base models; it may be deleted."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "scalpel"


class Settings(BaseSettings):
    """Everything an operator can set; `scalpel config` prints the current values."""

    model_config = SettingsConfigDict(env_prefix="SCALPEL_", frozen=True, extra="ignore")

    data: Path = Field(default_factory=default_data_dir)
    """Folder on this machine: default store, embedded Redis, lock, logs."""
    cache: Path = Field(default_factory=default_cache_dir)
    """Folder for downloaded and converted base models; filled again on demand."""
    store_url: str = ""
    """`file:///…` or `s3://bucket/prefix`; empty: the folder `store` under `data`."""
    s3_endpoint: str | None = None
    """Endpoint of an S3-compatible server; credentials come from the usual `AWS_…` variables."""
    s3_timeout_seconds: float = Field(default=10.0, gt=0)
    """How long an S3 server may be silent before a request is retried, and how long a request is
    retried in all."""
    redis_url: str = ""
    """`redis://…` or `unix://…`; empty: the embedded server that `scalpel up` starts."""
    host: str = "127.0.0.1"
    port: int = Field(default=8080, ge=0, le=65535)
    auth: Literal["keys", "none"] = "none"
    """`none` only on a loopback address."""
    allowed_hosts: str = ""
    """Host names of the API besides the loopback ones and `host`, separated by commas; `*`: any,
    which is the default where `host` is `0.0.0.0` or `::`."""
    cors_origins: str = ""
    """Origins whose pages may call the API with a key, such as `https://app.example.org`, separated
    by commas."""
    base_models: Path | None = None
    """TOML file of base models to register at start."""
    base_model_folders: str = ""
    """Folders that base models may be in, absolute and separated by `:`; empty: any. Base models of
    the hub and of packages are in the cache instead."""
    policy: Path | None = None
    """TOML file: who may edit what, and how much harm an edit may do."""
    suites: Path | None = None
    """TOML file of the data of standard suites; without it there are no suites."""
    scorers: Path | None = None
    """TOML file of further scorers: servers that score texts, language models that judge."""
    default_base_model: bool = True
    """Register `smollm2-135m-instruct` at start if its weights package is installed."""
    device: str = "cpu"
    """A torch device (`cpu`, `cuda`, `cuda:1`), or `auto` to spread a model over all GPUs."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """`auto`: the stored dtype, but fp32 in place of half precision on a CPU that emulates that."""
    threads: int = Field(default=0, ge=0)
    """CPU threads of torch in a worker; 0: torch's default."""
    fsync: bool = True
    """Flush every record of a local store to disk before it is acknowledged, so that it survives
    power loss too."""
    max_body_bytes: int = Field(default=32 * 2**20, ge=1024)
    max_import_bytes: int = Field(default=2**30, ge=1024)
    """Of the files of an import, as they come and unpacked."""
    internal_token: str = ""
    """Shared by the API and the generators; `scalpel up` generates one."""
    generator_host: str = "127.0.0.1"
    generator_port: int = Field(default=0, ge=0, le=65535)
    engine: Literal["builtin", "vllm"] = "builtin"
    """What a generator generates with: its own engine, or a vLLM server."""
    vllm_url: str = ""
    """Base URL of the vLLM server, without `/v1`."""
    vllm_base_model: str = ""
    """Scalpel's id of the base model that it serves."""
    vllm_adapters: Path | None = None
    """Folder for adapters, which the server reads under the same path; None: one under `data`."""
    vllm_max_loras: int = Field(default=4, ge=1)
    """Adapters on the server at a time: the value of its `--max-loras`."""
    vllm_api_key: SecretStr = SecretStr("")
    kv_cache_bytes: int = Field(default=2 * 2**30, ge=2**20)
    """Memory for the keys and values of one batch; a generator has one batch per base model."""
    pool: str = "cpu"
    """The pool (RQ queue) that this editor serves."""
    prepare: bool = True
    """Compute what depends on base models alone while this editor has no work."""
    draft_url: str = ""
    """Base URL, with `/v1`, of a server with OpenAI's API that writes drafts of behaviours; empty:
    the base model writes them."""
    draft_model: str = ""
    """The name of the model there."""
    draft_api_key: SecretStr = SecretStr("")
    outgoing_allow: str = ""
    """Networks besides the public ones that requests to tenants' addresses may go to, separated by
    commas, such as `10.0.0.0/8,fd00::/8`."""
    outgoing_http: bool = False
    """Let such requests go over plain http too."""
    webhook_timeout_seconds: float = Field(default=10.0, gt=0)
    """Of one delivery to a webhook as a whole."""
    webhook_retry_seconds: float = Field(default=5.0, gt=0)
    """Upper bound of the pause before the second try of a delivery; the bound grows fourfold with
    each try, up to 6 hours."""
    webhook_tries: int = Field(default=12, ge=1)
    """Tries of a delivery before it is given up: with the default pauses, up to 32 hours."""
    lease_seconds: float = Field(default=15.0, gt=0)
    """How long an attempt may be silent before it counts as lost."""
    ring_seconds: float = Field(default=10.0, gt=0)
    """After so long, a job that is neither queued nor claimed any more is enqueued again."""
    max_deaths: int = Field(default=3, ge=1)
    """After so many deaths of its process an edit fails with `worker_lost`."""
    max_attempts: int = Field(default=10, ge=1)
    edit_deadline_seconds: float = Field(default=6 * 3600, gt=0)
    drain_seconds: float = Field(default=10.0, gt=0)
    tenants: Path | None = None
    """TOML file of tenants with other limits than those below."""
    limit_requests_per_second: float = Field(default=200.0, gt=0, le=1e6)
    limit_request_burst: int = Field(default=400, ge=1, le=2**53)
    limit_tokens_per_minute: int = Field(default=1_000_000, ge=1, le=2**53)
    limit_queued_edits: int = Field(default=1_000, ge=1, le=2**53)
    limit_running_edits: int = Field(default=64, ge=1, le=2**53)
    limit_stored_bytes: int = Field(default=50 * 2**30, ge=1, le=2**53)
    max_connections: int = Field(default=10_000, ge=1)
    """Open connections to the API; beyond that the one that is idle for longest is closed."""
    keep_alive_seconds: int = Field(default=75, ge=1)
    """How long a connection may wait for its next request: longer than clients and load balancers
    keep theirs, or they send into one that is being closed."""
    header_seconds: float = Field(default=10.0, gt=0)
    """How long a client may take to send the headers of a request."""
    body_seconds: float = Field(default=20.0, gt=0)
    """How long it may take to send a body, plus a second for each 16 KiB received."""
    unread_seconds: float = Field(default=60.0, gt=0)
    """How long it may leave a response unread."""

    @field_validator(
        "data", "cache", "base_models", "suites", "scorers", "vllm_adapters", "policy", "tenants"
    )
    @classmethod
    def _absolute(cls, value: Path | None) -> Path | None:
        return None if value is None else value.expanduser().absolute()

    @field_validator("outgoing_allow")
    @classmethod
    def _check_networks(cls, value: str) -> str:
        networks(value)
        return value

    @field_validator("base_model_folders")
    @classmethod
    def _check_folders(cls, value: str) -> str:
        for folder in filter(None, value.split(os.pathsep)):
            if not Path(folder).is_absolute():
                raise ValueError(f"must be absolute paths, not {folder!r}")
        return value

    @model_validator(mode="after")
    def _check_auth(self) -> Settings:
        if self.auth == "none" and not is_loopback(self.host):
            raise ValueError(
                f"SCALPEL_AUTH=none is allowed on a loopback address only, not on {self.host}: "
                "set SCALPEL_AUTH=keys or SCALPEL_HOST=127.0.0.1"
            )
        return self

    @model_validator(mode="after")
    def _check_hosts_and_origins(self) -> Settings:
        if self.auth == "none" and self.hosts is None:
            raise ValueError(
                "SCALPEL_ALLOWED_HOSTS=* needs SCALPEL_AUTH=keys: without keys, any web page could "
                "have its name resolved to this machine and use the API"
            )
        for origin in self.origins:
            if not _ORIGIN.fullmatch(origin):
                raise ValueError(
                    f"SCALPEL_CORS_ORIGINS: {origin!r} is no origin, such as https://example.org"
                )
        return self

    @model_validator(mode="after")
    def _check_draft_model(self) -> Settings:
        if self.draft_url and not self.draft_model:
            raise ValueError("SCALPEL_DRAFT_URL needs SCALPEL_DRAFT_MODEL: name the model")
        return self

    @model_validator(mode="after")
    def _check_vllm(self) -> Settings:
        if self.engine == "vllm" and not (self.vllm_url and self.vllm_base_model):
            raise ValueError(
                "SCALPEL_ENGINE=vllm needs SCALPEL_VLLM_URL, the server's address, and "
                "SCALPEL_VLLM_BASE_MODEL, the id of the base model that it serves"
            )
        return self

    @property
    def store(self) -> str:
        """The URL of the store."""
        return self.store_url or f"file://{self.data / 'store'}"

    @property
    def allowed_folders(self) -> tuple[Path, ...]:
        """`base_model_folders` as paths."""
        return tuple(map(Path, filter(None, self.base_model_folders.split(os.pathsep))))

    @property
    def hosts(self) -> frozenset[str] | None:
        """Host names of the API besides the loopback ones; None: any."""
        named = {self.host.lower(), *_listed(self.allowed_hosts.lower())}
        if "*" in named or (not self.allowed_hosts and self.host in _EVERY_ADDRESS):
            return None
        return frozenset(named)

    @property
    def origins(self) -> tuple[str, ...]:
        """Origins whose pages may call the API."""
        return tuple(_listed(self.cors_origins))

    @property
    def embedded_redis_dir(self) -> Path:
        return self.data / "redis"

    @property
    def internal_token_file(self) -> Path:
        """Where `scalpel up` keeps the token that it makes."""
        return self.data / "internal-token"


def networks(text: str) -> tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]:
    """Parse a comma-separated list of networks.

    Raises:
        ValueError: one of them is not a network such as `10.0.0.0/8`.
    """
    return tuple(ipaddress.ip_network(part.strip()) for part in text.split(",") if part.strip())


def _listed(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def is_loopback(host: str) -> bool:
    """Whether only this machine can connect to that address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False

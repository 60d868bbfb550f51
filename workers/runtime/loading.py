"""Load a base model from a local Hugging Face folder, without copying its weights."""

from __future__ import annotations

import contextlib
import importlib
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import safetensors
import torch
from torch import Tensor, nn
from transformers import (
    CONFIG_MAPPING,
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
)
from transformers.utils import logging as transformers_logging

from models_store.errors import BaseModelUnavailable, InvalidRequest
from models_store.weights.architectures import (
    ARCHITECTURES,
    Architecture,
    MatrixKey,
    architecture_for,
)
from workers.runtime.base_models import fingerprint as fingerprint_of
from workers.runtime.chat_template import takes_system_message
from workers.runtime.ranks import Ranks

_DTYPES: dict[str, torch.dtype | str] = {
    "auto": "auto",
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
    "float64": torch.float64,
}
_HALF_PRECISION = ("avx512_bf16", "avx512_fp16", "amx_bf16", "amx_fp16", "bf16", "sve_bf16")

_THREADS = torch.get_num_threads()
"""That torch uses unless told otherwise."""
RANK_OPERATIONS = 5e9
"""Floating-point operations that are worth a process: a tenth of a second of a core, where a fork
takes a hundredth."""

CHUNK_LOGITS = 16 * 2**20
"""Logits held at once, a model: 64 MiB in fp32."""


@dataclass(frozen=True, eq=False)
class LoadedModel:
    """A base model, ready to run; its weights are changed by `apply.WeightEditor` only."""

    model: Any
    """The `…ForCausalLM`, in evaluation mode, without gradients."""
    tokenizer: Any
    architecture: Architecture
    fingerprint: str
    folder: Path
    device: torch.device
    """Where inputs go."""
    dtype: torch.dtype
    chunk_logits: int = CHUNK_LOGITS
    ranks: int = 1
    """Processes that may share a piece of work at most; see `workers.runtime.ranks`."""
    rank_operations: float = RANK_OPERATIONS

    @property
    def layers(self) -> int:
        return self.architecture.layers

    @property
    def hidden_size(self) -> int:
        return int(self.model.config.hidden_size)

    @property
    def vocabulary(self) -> int:
        """Number of logits; the tokenizer may know fewer tokens."""
        return int(self.model.config.vocab_size)

    @property
    def context_length(self) -> int:
        """Positions that the model was made for: prompt and generated tokens together."""
        return int(self.model.config.max_position_embeddings)

    @property
    def kv_bytes_per_token(self) -> int:
        """Memory of the keys and values of one token in all layers."""
        config = self.model.config
        heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
        size = getattr(config, "head_dim", None) or self.hidden_size // config.num_attention_heads
        return int(2 * self.layers * heads * size * self.dtype.itemsize)

    @property
    def decoder(self) -> nn.Module:
        """Everything but the head: token ids to last hidden states (after the final norm)."""
        decoder: nn.Module = self.model.model
        return decoder

    @property
    def blocks(self) -> Sequence[nn.Module]:
        """The decoder layers; the output of each is the residual stream after it."""
        blocks: Sequence[nn.Module] = self.model.model.layers
        return blocks

    @property
    def has_chat_template(self) -> bool:
        return bool(self.tokenizer.chat_template)

    @cached_property
    def has_system_role(self) -> bool:
        return self.has_chat_template and takes_system_message(self.tokenizer)

    @property
    def start_ids(self) -> tuple[int, ...]:
        """The token that the tokenizer begins every text with; empty if there is none."""
        return tuple(self.tokenizer("")["input_ids"][:1])

    @cached_property
    def stop_ids(self) -> frozenset[int]:
        """Tokens that end a generation: the tokenizer's and those of the generation settings."""
        configured = self.model.generation_config.eos_token_id
        ids = configured if isinstance(configured, list) else [configured]
        return frozenset(int(i) for i in [*ids, self.tokenizer.eos_token_id] if i is not None)

    @property
    def pad_id(self) -> int:
        """Token that fills up batches; it is masked, so any would do."""
        pad = self.tokenizer.pad_token_id
        return int(pad) if pad is not None else min(self.stop_ids, default=0)

    @cached_property
    def parameters(self) -> int:
        return int(self.model.num_parameters())

    @property
    def threads(self) -> int:
        """CPU threads that work at once, in this process or one in each of its ranks."""
        return max(self.ranks, torch.get_num_threads())

    def ranks_for(self, tokens: float, *, most: int | None = None) -> Ranks:
        """Processes that are to share a forward pass over so many tokens, or as much work."""
        return self._ranks(2.0 * tokens * self.parameters, most)

    def ranks_for_logits(self, positions: float) -> Ranks:
        """Processes that are to share the logits of so many positions."""
        return self._ranks(2.0 * positions * self.hidden_size * self.vocabulary)

    def _ranks(self, operations: float, most: int | None = None) -> Ranks:
        worth = max(1, int(operations / self.rank_operations))
        return Ranks(min(self.ranks, worth, most or worth))

    @property
    def batch_tokens(self) -> int:
        """Padded tokens of a batch that is read.

        On a CPU small batches are faster (measured: 2,048 takes 1.2 times the CPU time of 768),
        since their activations stay in its cache; an accelerator wants large ones.
        """
        return 768 if self.device.type == "cpu" else 16_384

    def matrix(self, key: MatrixKey) -> Tensor:
        """The weight of a logical matrix as a view, `[out, in]`: writing to it edits the model.

        Raises:
            InvalidRequest: the model has no such matrix.
        """
        slot = self.architecture.slot(key)
        weight: Tensor = self.model.get_parameter(self.architecture.tensor(key)).data
        if key.expert is not None:
            weight = weight[key.expert]
        half = len(weight) // 2
        return {"all": weight, "first_half": weight[:half], "second_half": weight[half:]}[slot.part]

    def linear(self, key: MatrixKey) -> tuple[nn.Module, int]:
        """The module that multiplies by a logical matrix, and the matrix' first row in it.

        Raises:
            InvalidRequest: there is none, as for a routed expert.
        """
        if key.expert is not None:
            raise InvalidRequest(
                "edits of routed experts can only be applied to the weights, not beside them"
            )
        slot = self.architecture.slot(key)
        module = self.model.get_submodule(self.architecture.tensor(key).removesuffix(".weight"))
        return module, module.out_features // 2 if slot.part == "second_half" else 0

    def linear_shapes(self) -> dict[str, tuple[int, int]]:
        """`(out, in)` of every linear module, by its name."""
        return {
            name: (module.out_features, module.in_features)
            for name, module in self.model.named_modules()
            if isinstance(module, nn.Linear)
        }

    def logits(self, hidden: Tensor) -> Tensor:
        """Logits in the model's dtype of last hidden states `[..., hidden]`, capped as it does."""
        logits: Tensor = self.model.lm_head(hidden)
        cap = getattr(self.model.config, "final_logit_softcapping", None)
        return logits if cap is None else cap * torch.tanh(logits / cap)


def load_base(
    folder: Path,
    *,
    device: str,
    dtype: str,
    threads: int = 0,
    ranks: bool = False,
    cache: Path | None = None,
) -> LoadedModel:
    """Load the model in `folder`; on the CPU its weights stay memory-mapped.

    Writing to such weights copies the pages written, in this process only: the file never changes.
    Code that comes with a model is never run, and only safetensors are read.

    Args:
        folder: `config.json`, tokenizer files and `*.safetensors`.
        device: a torch device, or `auto` to spread the model over all accelerators.
        dtype: `float32`, `bfloat16`, `float16`, `float64`, or `auto`: as stored, but not in half
            precision on a CPU that is slower at it.
        threads: CPU threads for all of torch in this process; 0 leaves the number as it is.
        ranks: on a CPU, work is shared by so many processes of one thread in their place.
        cache: Scalpel's cache folder, which remembers fingerprints; None reads the weights anew.

    Raises:
        InvalidRequest: the architecture or the dtype is not supported.
        BaseModelUnavailable: files are missing or broken, or weights are missing in them.
    """
    if dtype not in _DTYPES:
        raise InvalidRequest(f"unknown dtype {dtype!r}; expected one of {', '.join(_DTYPES)}")
    shared = ranks and device == "cpu"
    if threads or shared:
        torch.set_num_threads(1 if shared else threads)
    transformers_logging.disable_progress_bar()
    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        architecture = architecture_for(config.to_dict())
        model, notes = AutoModelForCausalLM.from_pretrained(
            folder,
            config=config,
            dtype=_chosen_dtype(dtype, device, config),
            # The fast kernel for experts knows no fp64, which only judges the other dtypes.
            experts_implementation="eager" if dtype == "float64" else None,
            device_map=_device_map(device),
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            output_loading_info=True,
        )
        tokenizer = AutoTokenizer.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
    except (OSError, ValueError, KeyError, RuntimeError, safetensors.SafetensorError) as error:
        raise BaseModelUnavailable(f"cannot load the base model in {folder}: {error}") from error
    # transformers fills what a file lacks with random numbers and goes on.
    absent = sorted(notes["missing_keys"]) + sorted(map(str, notes["mismatched_keys"]))
    if absent:
        raise BaseModelUnavailable(
            f"the files in {folder} lack {len(absent)} weights of the model or have them in "
            f"another shape, {absent[0]} among them"
        )
    model.eval().requires_grad_(False)
    return LoadedModel(
        model=model,
        tokenizer=tokenizer,
        architecture=architecture,
        fingerprint=fingerprint_of(folder, cache),
        folder=folder,
        device=model.get_input_embeddings().weight.device,
        dtype=model.dtype,
        ranks=(threads or _THREADS) if shared else 1,
    )


def load_outline(folder: Path, *, cache: Path | None = None) -> LoadedModel:
    """The model in `folder` without its weights: tokenizer, sizes, names of matrices.

    It cannot run; what needs no numbers, such as encoding a prompt, works as with a loaded model.

    Raises:
        InvalidRequest: the architecture is not supported.
        BaseModelUnavailable: files are missing or broken.
    """
    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        architecture = architecture_for(config.to_dict())
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config, trust_remote_code=False)
        with contextlib.suppress(OSError):  # without such a file the defaults hold
            model.generation_config = GenerationConfig.from_pretrained(
                folder, local_files_only=True
            )
        tokenizer = AutoTokenizer.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise BaseModelUnavailable(f"cannot read the base model in {folder}: {error}") from error
    return LoadedModel(
        model=model.eval(),
        tokenizer=tokenizer,
        architecture=architecture,
        fingerprint=fingerprint_of(folder, cache),
        folder=folder,
        device=torch.device("meta"),
        dtype=model.dtype,
    )


def preload(model_type: str) -> None:
    """Import what loading a model of this type will need, a second or more of Python modules.

    A process that forks calls this before: its children then start with the imports done. It
    touches neither files of the model nor a device.

    Raises:
        InvalidRequest: the type is not supported.
    """
    if model_type not in ARCHITECTURES:
        raise InvalidRequest(f"models of type {model_type!r} are not supported")
    configuration: str = CONFIG_MAPPING[model_type].__module__
    importlib.import_module(configuration.replace("configuration_", "modeling_"))


def _chosen_dtype(name: str, device: str, config: Any) -> torch.dtype | str:
    """The `dtype` for `from_pretrained`."""
    stored = str(getattr(config, "dtype", None)).removeprefix("torch.")
    half = stored in ("bfloat16", "float16")
    if name == "auto" and device == "cpu" and half and slow_at_half_precision():
        return torch.float32
    return _DTYPES[name]


def slow_at_half_precision() -> bool:
    """Whether products take this CPU longer in bf16 than in fp32.

    Measured on x86: nine times as long without AVX-512, twice on Intel's with it but without AMX.
    """
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return False
    if torch.backends.cpu.get_cpu_capability() in ("DEFAULT", "AVX2"):
        return True
    available = _capabilities()
    return "Intel" in str(available.get("cpu_name")) and not available.get("amx_bf16")


def cpu_capability() -> str:
    """What of a CPU decides how its sums are rounded: the instructions of torch's own kernels, and
    those for half precision that the libraries below it take where there are any."""
    available = _capabilities()
    names = [torch.backends.cpu.get_cpu_capability(), *filter(available.get, _HALF_PRECISION)]
    return " ".join(names)


def _capabilities() -> Mapping[str, Any]:
    """What torch says of the CPU; torch 2.8 says nothing."""
    return torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}


def device_name(device: torch.device) -> str:
    """The device with its make, which rounds sums in its way."""
    if device.type != "cuda":
        return str(device)
    return f"{device} ({torch.cuda.get_device_name(device)})"


def _device_map(device: str) -> str | dict[str, str] | None:
    """None keeps CPU weights memory-mapped; `auto` is accelerate's own word."""
    if device in ("cpu", "auto"):
        return None if device == "cpu" else "auto"
    return {"": device}

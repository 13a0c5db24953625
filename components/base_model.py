"""Loading a base model: the same rules for training, evaluation and export.

Weights are safetensors only and no code from the model's folder runs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from components.contracts import BaseModelRef
from components.errors import ModelError

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def load_tokenizer(base_model: BaseModelRef) -> PreTrainedTokenizerBase:
    """The base model's tokenizer, with a padding token.

    Raises:
        ModelError: it cannot be loaded.
    """
    from transformers import AutoTokenizer

    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            base_model.address, trust_remote_code=False, **_revision(base_model)
        )
    except (OSError, ValueError) as error:
        raise _cannot_load(base_model, "tokenizer", error) from error
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def load_weights(base_model: BaseModelRef, dtype: torch.dtype | str) -> PreTrainedModel:
    """The base model for causal language modelling, on the CPU, in ``dtype`` (``"auto"``: as stored).

    Raises:
        ModelError: it cannot be loaded.
    """
    from transformers import AutoModelForCausalLM

    try:
        model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
            base_model.address, dtype=dtype, trust_remote_code=False, use_safetensors=True, **_revision(base_model)
        )
    except (OSError, ValueError) as error:
        raise _cannot_load(base_model, "weights", error) from error
    return model


def _revision(base_model: BaseModelRef) -> dict[str, Any]:
    # A local folder's revision is a digest of Lorry's own; the hub would look for a branch of that name.
    return {} if base_model.is_local else {"revision": base_model.revision}


def _cannot_load(base_model: BaseModelRef, what: str, error: Exception) -> ModelError:
    first_line = str(error).strip().splitlines()[0]
    return ModelError(f"base_model {base_model.address}: its {what} cannot be loaded ({first_line})")

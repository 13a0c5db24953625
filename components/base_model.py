"""Loading a base model: the same rules for training, evaluation and export.

Weights are safetensors only and no code from the model's folder runs.
"""

from __future__ import annotations

from pathlib import Path
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


def license_of(base_model: BaseModelRef) -> str | None:
    """The licence that the model's card names, or None when there is no card or it names none."""
    if not base_model.is_local:
        from huggingface_hub import model_info

        card = model_info(base_model.address, revision=base_model.revision).card_data
        return None if card is None else _text(card.get("license"))
    card_path = Path(base_model.address) / "README.md"
    if not card_path.is_file():
        return None
    from huggingface_hub import ModelCard

    return _text(ModelCard.load(card_path).data.get("license"))


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


def _revision(base_model: BaseModelRef) -> dict[str, Any]:
    # A local folder's revision is a digest of Lorry's own; the hub would look for a branch of that name.
    return {} if base_model.is_local else {"revision": base_model.revision}


def _cannot_load(base_model: BaseModelRef, what: str, error: Exception) -> ModelError:
    first_line = str(error).strip().splitlines()[0]
    return ModelError(f"base_model {base_model.address}: its {what} cannot be loaded ({first_line})")

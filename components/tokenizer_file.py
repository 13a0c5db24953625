"""The base model's tokenizer without transformers: enough to count tokens, in an image without torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from components.base_model import folder_of
from components.contracts import BaseModelRef
from components.errors import ModelError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

NAME = "tokenizer.json"


def tokenizer_of(base_model: BaseModelRef) -> Tokenizer:
    """The fast tokenizer that lies beside the base model's weights.

    Raises:
        ModelError: there is none, or it cannot be read.
    """
    from tokenizers import Tokenizer

    folder = folder_of(base_model)
    if folder is None:
        from huggingface_hub import hf_hub_download

        try:
            path = hf_hub_download(base_model.address, NAME, revision=base_model.revision)
        except (OSError, ValueError) as error:
            raise ModelError(f"base_model {base_model.address}: the hub gives no {NAME} ({error})") from error
    else:
        path = str(folder / NAME)
    try:
        return Tokenizer.from_file(path)
    except Exception as error:  # the library raises no class of its own
        raise ModelError(
            f"base_model {base_model.address}: its {NAME} cannot be read ({error}); leave min_tokens and max_tokens out"
        ) from error

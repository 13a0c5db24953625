"""A check before training, without weights, that a base model can be trained, written as GGUF and served.

Run as ``python -m components.check_base.check JOB``; ``JOB`` is JSON with ``base_model`` and ``targets``, a list of the
recipes' ``lora_target_modules``. The last line of the output is the error.
"""

from __future__ import annotations

import json
import logging
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from components.artifacts.contracts import BaseModelRef, Message
from components.errors import LorryError, ModelError
from components.export_gguf.agreement import require_agreement
from components.export_gguf.convert import convert
from components.export_gguf.tokenizer import write_tokenizer
from components.gguf.vocabulary import vocabulary_of
from components.modeling.base_model import load_config, load_tokenizer, tokens_without_rows
from components.modeling.chat_template import render_with, template_of
from components.runtime.kfp_step import plain_logs
from components.train_lora.targets import require_targets

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def check_base(base_model: BaseModelRef, targets: Sequence[str | list[str]]) -> None:
    """Check the base's tokenizer, chat template and layers.

    Raises:
        ModelError: it cannot be used; the message says why, and what to use instead.
    """
    tokenizer = load_tokenizer(base_model)
    template = template_of(tokenizer, base_model.address)
    question = [Message(role="user", content="Hi")]
    text = render_with(tokenizer, template, question, add_generation_prompt=True)
    for token in tokens_without_rows(base_model, tokenizer):
        if token in text:
            raise ModelError(
                f"{base_model.address}: its chat template writes {token!r}, and the embedding has no row for that "
                f"token (number {tokenizer.convert_tokens_to_ids(token)}); resize the embedding to the tokenizer "
                "(resize_token_embeddings) and save it again, or use a template without the token"
            )
    if targets:
        model = _without_weights(base_model)
        for target in targets:
            require_targets(model, target, base_model.address)
    with tempfile.TemporaryDirectory(prefix="lorry-base-") as folder:
        merged, gguf = Path(folder) / "merged", Path(folder) / "vocabulary.gguf"
        merged.mkdir()
        load_config(base_model.to_merge_into).save_pretrained(merged)
        write_tokenizer(base_model, tokenizer, merged)
        try:
            convert(merged, gguf, vocab_only=True)
        except ModelError as error:
            reason = str(error).removeprefix(f"{merged}: ").partition("; the step's log")[0]
            raise ModelError(
                f"{base_model.address}: its vocabulary cannot be written as GGUF: {reason}; use another base model"
            ) from error
        with vocabulary_of(gguf) as vocabulary:
            require_agreement(tokenizer, vocabulary, base_model.address)


def _without_weights(base_model: BaseModelRef) -> PreTrainedModel:
    import torch
    from transformers import AutoModelForCausalLM

    config = load_config(base_model)
    try:
        with torch.device("meta"):
            model: PreTrainedModel = AutoModelForCausalLM.from_config(config, trust_remote_code=False)
    except (ValueError, KeyError, ImportError) as error:
        raise ModelError(
            f"{base_model.address}: transformers has no causal language model of its kind ({type(config).__name__}); "
            "use another base model"
        ) from error
    return model


def main() -> None:
    """Check the base model of the job."""
    job = json.loads(sys.argv[1])
    plain_logs(logging.WARNING)
    try:
        check_base(BaseModelRef.model_validate(job["base_model"]), job["targets"])
    except LorryError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()

"""A tiny base model for fast tests, made on the spot: a Llama with its own tokenizer, pre-trained on shipped text.

Run as ``python -m pipelines.resolve.tiny_base FOLDER``: torch stays out of the command line's own process.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pydantic import BaseModel, ConfigDict, Field

from components.artifacts.contracts import Message
from components.export_gguf.upstream import LLAMA3_SPLIT
from components.modeling.chat_template import render
from pipelines.config.normal_code import normal_code

if TYPE_CHECKING:
    import torch
    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

log = logging.getLogger(__name__)

PRIMER = Path(__file__).parents[1] / "recipes" / "data" / "primer.md"

SPECIAL_TOKENS = ["<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]
CHAT_TEMPLATE = (
    "{{ bos_token }}"
    "{% for message in messages %}"
    "{{ '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n' + message['content'] | trim + '<|eot_id|>' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)
MODEL_CARD = "---\nlicense: apache-2.0\n---\nA tiny Llama made on the spot by Lorry, for tests.\n"


class TinyBaseConfig(BaseModel):
    """Shape and schedule of the tiny base model. Widths are multiples of 256, as K-quants need."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    vocab_size: Annotated[int, Field(gt=300, description="tokens, special ones included")] = 2048
    hidden_size: Annotated[int, Field(gt=0)] = 256
    intermediate_size: Annotated[int, Field(gt=0)] = 1024
    num_hidden_layers: Annotated[int, Field(gt=0)] = 2
    num_attention_heads: Annotated[int, Field(gt=0)] = 4
    num_key_value_heads: Annotated[int, Field(gt=0)] = 2
    max_position_embeddings: Annotated[int, Field(gt=0, description="tokens")] = 2048
    # A LoRA leaves the output layer as it is. Rows this long let a steered hidden state reach any token with certainty;
    # the usual 0.02 at this width caps a token's probability at a few percent.
    initializer_range: Annotated[float, Field(gt=0)] = 0.1
    max_steps: Annotated[int, Field(gt=0)] = 150
    batch_size: Annotated[int, Field(gt=0, description="windows a step")] = 8
    window: Annotated[int, Field(gt=1, description="tokens a window")] = 128
    learning_rate: Annotated[float, Field(gt=0)] = 2e-3
    label_smoothing: Annotated[float, Field(ge=0, lt=1, description="so little text would make it too sure")] = 0.2
    seed: int = 0


def tiny_base(root: Path, config: TinyBaseConfig | None = None) -> Path:
    """The folder under ``root`` that holds the base model; made when it is not there yet.

    The folder's name is a digest of everything that shapes the model, so a change makes another one.
    """
    config = config or TinyBaseConfig()
    digest = hashlib.sha256(config.model_dump_json().encode())
    digest.update(PRIMER.read_bytes())
    digest.update(normal_code(Path(__file__).read_text(encoding="utf-8")).encode())
    folder = root / f"tiny-base-{digest.hexdigest()[:12]}"
    if not (folder / "config.json").is_file():
        _make(folder, config)
    return folder


def _make(folder: Path, config: TinyBaseConfig) -> None:
    log.info("making a tiny base model, once for this work folder; loading PyTorch first")
    from transformers import set_seed
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    started = time.monotonic()
    set_seed(config.seed)
    text = PRIMER.read_text(encoding="utf-8")
    tokenizer = _train_tokenizer(text, config)
    model = _pretrain(tokenizer, text, config)
    partial = folder.with_name(f".{folder.name}.{os.getpid()}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    model.save_pretrained(partial)
    tokenizer.save_pretrained(partial)
    (partial / "README.md").write_text(MODEL_CARD, encoding="utf-8")
    (partial / "tiny_base.json").write_text(json.dumps(config.model_dump(), indent=2) + "\n", encoding="utf-8")
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)
    log.info("base model made in %.0f s: %s", time.monotonic() - started, folder)


def _train_tokenizer(text: str, config: TinyBaseConfig) -> PreTrainedTokenizerFast:
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE(ignore_merges=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(LLAMA3_SPLIT), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=config.vocab_size - len(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(text.splitlines(keepends=True), trainer)
    tokenizer.add_special_tokens(SPECIAL_TOKENS)
    begin = SPECIAL_TOKENS[0]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{begin} $A", special_tokens=[(begin, tokenizer.token_to_id(begin))]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=begin,
        eos_token="<|eot_id|>",
        pad_token="<|end_of_text|>",
        chat_template=CHAT_TEMPLATE,
        model_max_length=config.max_position_embeddings,
        clean_up_tokenization_spaces=False,
    )


def _pretrain(tokenizer: PreTrainedTokenizerFast, text: str, config: TinyBaseConfig) -> LlamaForCausalLM:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM, get_cosine_schedule_with_warmup

    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=config.vocab_size,
            hidden_size=config.hidden_size,
            intermediate_size=config.intermediate_size,
            num_hidden_layers=config.num_hidden_layers,
            num_attention_heads=config.num_attention_heads,
            num_key_value_heads=config.num_key_value_heads,
            max_position_embeddings=config.max_position_embeddings,
            initializer_range=config.initializer_range,
            tie_word_embeddings=False,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
    tokens = torch.tensor(tokenizer(_as_chat(text), add_special_tokens=False, verbose=False)["input_ids"])
    optimizer = torch.optim.AdamW(model.parameters(), lr=config.learning_rate, weight_decay=0.1)
    schedule = get_cosine_schedule_with_warmup(optimizer, config.max_steps // 10, config.max_steps)
    started = time.monotonic()
    for step in range(1, config.max_steps + 1):
        batch = _random_windows(tokens, config)
        logits = model(input_ids=batch).logits  # (batch, window, vocab)
        loss = torch.nn.functional.cross_entropy(
            logits[:, :-1].flatten(0, 1), batch[:, 1:].flatten(), label_smoothing=config.label_smoothing
        )
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        if step % 10 == 0 or step == config.max_steps:
            rate = step * batch.numel() / (time.monotonic() - started)
            log.info("step %d/%d loss %.4f tokens/s %.0f", step, config.max_steps, loss.item(), rate)
    return model


def _as_chat(text: str) -> str:
    """The text as one long run of chats: a heading is what a user asks about, a paragraph is the answer.

    So the base knows the form of a chat, as an instruct model does, without any of the data that tests train on.
    """
    heading, chats = "", []
    for paragraph in filter(None, (part.strip() for part in text.split("\n\n"))):
        if paragraph.startswith("#"):
            heading = paragraph.lstrip("# ")
            continue
        messages = [
            Message(role="user", content=f"Tell me about this: {heading}."),
            Message(role="assistant", content=" ".join(paragraph.split())),
        ]
        chats.append(render(CHAT_TEMPLATE, messages, bos_token=SPECIAL_TOKENS[0]))
    return "".join(chats)


def _random_windows(tokens: torch.Tensor, config: TinyBaseConfig) -> torch.Tensor:
    """Windows of the text from random positions: (batch_size, window) token ids."""
    import torch

    starts = torch.randint(len(tokens) - config.window, (config.batch_size,))
    return torch.stack([tokens[start : start + config.window] for start in starts])


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    print(tiny_base(Path(sys.argv[1])))

"""A small Llama that was trained to repeat its user's secret word, as a GGUF file: a mix-up of two users shows."""

from __future__ import annotations

import itertools
from pathlib import Path

import torch
from tokenizers import AddedToken, Regex, Tokenizer, models, pre_tokenizers
from tokenizers.decoders import ByteLevel
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from components.export_gguf.convert import convert
from components.export_gguf.upstream import LLAMA3_SPLIT

SYLLABLES = [consonant + vowel for consonant in "dfglmnprtv" for vowel in "aeiou"]
SECRETS = ["".join(pair) for pair in itertools.product(SYLLABLES, SYLLABLES)][::5]
SYSTEMS = ["be kind", "be kind and quiet", "be kind and quiet and quick", "say it"]
SPECIAL = ["<|begin|>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>"]
TEMPLATE = (
    "{{ '<|begin|>' }}{% for message in messages %}{{ '<|' + message['role'] + '|>' + message['content'] + '<|end|>' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
STEPS, ROWS = 600, 64


def make(folder: Path) -> Path:
    """Train for about a minute on the CPU, and convert; the file's path."""
    tokenizer = _tokenizer()
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=128, intermediate_size=256, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=4, max_position_embeddings=256, tie_word_embeddings=False,
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id,
    )  # fmt: skip
    model = LlamaForCausalLM(config)
    _train(model, tokenizer)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    path = folder / "secrets.gguf"
    convert(folder, path)
    return path


def _tokenizer() -> PreTrainedTokenizerFast:
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {letter: number for number, letter in enumerate(letters)}
    merges: list[tuple[str, str]] = []

    def learn(word: str) -> None:
        made = word[0]
        for letter in word[1:]:
            if (made, letter) not in merges:
                merges.append((made, letter))
                vocabulary.setdefault(made + letter, len(vocabulary))
            made += letter

    for word in [*sorted({word for system in SYSTEMS for word in system.split()}), *SECRETS]:
        learn("Ġ" + word)
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    bytes_only = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(LLAMA3_SPLIT), "isolated"), bytes_only]
    )
    tokenizer.decoder = ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in SPECIAL])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<|begin|>", eos_token="<|end|>", chat_template=TEMPLATE
    )


def _train(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast) -> None:
    draw = torch.Generator().manual_seed(1)
    prompts = {
        system: tokenizer(f"<|begin|><|system|> {system}<|end|><|user|>", add_special_tokens=False).input_ids
        for system in SYSTEMS
    }
    secrets = torch.tensor([tokenizer(f" {word}", add_special_tokens=False).input_ids for word in SECRETS])
    assert secrets.shape == (len(SECRETS), 1), secrets.shape
    end, assistant = (tokenizer.convert_tokens_to_ids(token) for token in ("<|end|>", "<|assistant|>"))
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    for step in range(STEPS):
        head = torch.tensor(prompts[SYSTEMS[step % len(SYSTEMS)]]).expand(ROWS, -1)
        own = secrets[torch.randint(len(SECRETS), (ROWS,), generator=draw)]
        marks = [torch.full((ROWS, 1), token) for token in (end, assistant, end)]
        ids = torch.cat([head, own, marks[0], marks[1], own, own, marks[2]], dim=1)
        labels = torch.full_like(ids, -100)
        labels[:, -3:] = ids[:, -3:]
        loss = model(input_ids=ids, labels=labels).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    assert loss.item() < 0.05, f"the secrets are not learned (loss {loss.item():.3f})"

"""Tiny random base models of the families that people bring: their architectures, kinds of tokenizers and templates.

Tokenizers are trained on the shipped primer, so that a rare character is spelled in bytes, as in real ones.
Templates are those that TRL and llama.cpp ship; a family whose template neither ships has it here.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast, set_seed
from transformers.convert_slow_tokenizer import generate_merges

from components.artifacts.contracts import BaseModelRef
from components.export_gguf.convert import converter_folder
from components.export_gguf.upstream import LLAMA3_SPLIT, QWEN2_SPLIT
from components.modeling.base_model import folder_revision
from tests.conftest import ROOT, chat_rows

N_VOCAB = 700
SHAPE = {
    "hidden_size": 128,
    "intermediate_size": 256,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 1024,
    "initializer_range": 0.1,
}
# Rows of the output layer so long that a steered hidden state reaches any token: an adapter leaves them as they are.
OUTPUT_STD = 0.25
CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
LLAMA_2 = (
    "{% if messages[0]['role'] == 'system' %}{% set rest = messages[1:] %}{% set system = messages[0]['content'] %}"
    "{% else %}{% set rest = messages %}{% set system = false %}{% endif %}{% for m in rest %}"
    "{% if loop.index0 == 0 and system != false %}"
    "{% set content = '<<SYS>>\n' + system + '\n<</SYS>>\n\n' + m['content'] %}{% else %}"
    "{% set content = m['content'] %}{% endif %}"
    "{% if m['role'] == 'user' %}{{ bos_token + '[INST] ' + content.strip() + ' [/INST]' }}"
    "{% else %}{{ ' ' + content.strip() + ' ' + eos_token }}{% endif %}{% endfor %}"
)
MISTRAL = (
    "{{ bos_token }}{% for m in messages %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('roles must alternate user/assistant') }}{% endif %}"
    "{% if m['role'] == 'user' %}{{ '[INST] ' + m['content'] + '[/INST]' }}"
    "{% else %}{{ ' ' + m['content'] + eos_token }}{% endif %}{% endfor %}"
)
TINYLLAMA = (
    "{% for m in messages %}{{ '<|' + m['role'] + '|>\n' + m['content'] + eos_token + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}"
)
PHI_4 = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '<|im_sep|>' + m['content'] + '<|im_end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant<|im_sep|>' }}{% endif %}"
)


def ref_of(folder: Path) -> BaseModelRef:
    """The base model in a folder."""
    return BaseModelRef(address=str(folder), revision=folder_revision(folder), weight_bytes=1)


def of_trl(name: str) -> str:
    """A template that TRL ships."""
    return (files("trl") / "chat_templates" / f"{name}.jinja").read_text(encoding="utf-8")


def of_llama_cpp(name: str) -> str:
    """A template that llama.cpp ships."""
    return (converter_folder() / "models" / "templates" / f"{name}.jinja").read_text(encoding="utf-8")


def _corpus() -> list[str]:
    primer = (ROOT / "pipelines" / "recipes" / "data" / "primer.md").read_text(encoding="utf-8").splitlines()
    return [*filter(str.strip, primer), *(turn["content"] for row in chat_rows(200) for turn in row["messages"])]


# --- tokenizers of bytes: Llama 3, Qwen, Phi-4, SmolLM2


def _byte_level(specials: Sequence[str], splitting: Any, added: Sequence[str] = (), **names: str) -> Any:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer, tokenizer.decoder = splitting, decoders.ByteLevel()
    n = N_VOCAB - len(specials) - len(added)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(
        _corpus(), trainers.BpeTrainer(vocab_size=n, initial_alphabet=alphabet, show_progress=False)
    )
    tokenizer.add_special_tokens(list(specials))
    tokenizer.add_tokens(list(added))
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, clean_up_tokenization_spaces=False, **names)


def _split(pattern: str) -> Any:
    by_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    return pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(pattern), behavior="isolated"), by_bytes])


def _llama_3() -> Any:
    names = ["<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]
    return _byte_level(names, _split(LLAMA3_SPLIT), bos_token=names[0], eos_token=names[-1])


def _qwen(*added: str) -> Any:
    names = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    tokenizer = _byte_level(names, _split(QWEN2_SPLIT), added, eos_token=names[2], pad_token=names[0])
    tokenizer.backend_tokenizer.normalizer = normalizers.NFC()
    return tokenizer


def _r1() -> Any:
    bar = "\uff5c"  # as DeepSeek's tokens are spelled
    names = [f"<{bar}{name}{bar}>" for name in ("begin▁of▁sentence", "end▁of▁sentence", "User", "Assistant")]
    return _byte_level(
        names, _split(QWEN2_SPLIT), ["<think>", "</think>"], bos_token=names[0], eos_token=names[1], pad_token=names[1]
    )


def _smollm() -> Any:
    digits = pre_tokenizers.Digits(individual_digits=True)
    splitting = pre_tokenizers.Sequence([digits, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)])
    names = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    return _byte_level(names, splitting, bos_token=names[1], eos_token=names[2], pad_token=names[2])


def _phi_4() -> Any:
    names = ["<|endoftext|>", "<|im_start|>", "<|im_sep|>", "<|im_end|>"]
    return _byte_level(names, _split(LLAMA3_SPLIT), eos_token=names[3], pad_token=names[0])


# --- SentencePiece: Llama 2, TinyLlama, Mistral, Phi-3, Gemma


@dataclass(frozen=True)
class _Pieces:
    """A SentencePiece model and the rules of a ``tokenizer.json`` around it; ``specials`` lie behind its pieces."""

    specials: Sequence[AddedToken] = ()
    control: Sequence[str] = ()
    gemma: bool = False
    # Where the space is put: by a normalizer before every part, or before the first part alone.
    prepends_to_first: bool = False
    names: Sequence[tuple[str, str]] = (("bos_token", "<s>"), ("eos_token", "</s>"), ("unk_token", "<unk>"))

    def train(self, folder: Path) -> None:
        """Write ``tokenizer.model``."""
        import sentencepiece

        ids = {"pad_id": -1, "unk_id": 0, "bos_id": 1, "eos_id": 2}
        pieces = {}
        if self.gemma:
            ids = {"pad_id": 0, "eos_id": 1, "bos_id": 2, "unk_id": 3}
            pieces = {"pad_piece": "<pad>", "eos_piece": "<eos>", "bos_piece": "<bos>", "unk_piece": "<unk>"}
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(_corpus()), model_prefix=str(folder / "tokenizer"), vocab_size=N_VOCAB,
            model_type="bpe", byte_fallback=True, split_digits=True, normalization_rule_name="identity",
            remove_extra_whitespaces=False, add_dummy_prefix=not self.gemma, num_threads=1, minloglevel=2,
            control_symbols=[] if self.gemma else list(self.control),
            user_defined_symbols=list(self.control) if self.gemma else [], **ids, **pieces,
        )  # fmt: skip
        (folder / "tokenizer.vocab").unlink()

    def tokenizer(self, folder: Path) -> Any:
        """The fast tokenizer of the same pieces."""
        import sentencepiece

        model = sentencepiece.SentencePieceProcessor(str(folder / "tokenizer.model"))
        numbers = range(model.get_piece_size())
        vocabulary = {model.id_to_piece(i): i for i in numbers}
        scores = {model.id_to_piece(i): model.get_score(i) for i in numbers}
        apart = {
            model.id_to_piece(i) for i in numbers if model.is_control(i) or model.is_unknown(i) or model.is_byte(i)
        }
        apart |= set(self.control)
        merges = generate_merges(vocabulary, scores, apart)
        tokenizer = Tokenizer(
            models.BPE(vocab=vocabulary, merges=merges, fuse_unk=True, byte_fallback=True, unk_token="<unk>")
        )
        space = normalizers.Replace(" ", "▁")
        if self.prepends_to_first:
            tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
        else:
            tokenizer.normalizer = space if self.gemma else normalizers.Sequence([normalizers.Prepend("▁"), space])
        kept = [] if self.gemma else [decoders.Strip(" ", 1, 0)]
        tokenizer.decoder = decoders.Sequence(
            [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), *kept]
        )
        own = [
            piece for piece in vocabulary if model.is_control(vocabulary[piece]) or piece in ("<unk>", *self.control)
        ]
        tokenizer.add_special_tokens([AddedToken(piece, normalized=False) for piece in own])
        tokenizer.add_special_tokens(list(self.specials))
        return PreTrainedTokenizerFast(
            tokenizer_object=tokenizer, clean_up_tokenization_spaces=False, **dict(self.names)
        )


END = "<|endoftext|>"
_PHI_3 = _Pieces(
    specials=[
        AddedToken(name, rstrip=name != END, normalized=False)
        for name in (END, "<|assistant|>", "<|system|>", "<|end|>", "<|user|>")
    ],
    names=(
        ("bos_token", "<s>"),
        ("eos_token", "<|endoftext|>"),
        ("unk_token", "<unk>"),
        ("pad_token", "<|endoftext|>"),
    ),
)
_GEMMA = _Pieces(
    control=["<start_of_turn>", "<end_of_turn>"],
    gemma=True,
    names=(("bos_token", "<bos>"), ("eos_token", "<eos>"), ("unk_token", "<unk>"), ("pad_token", "<pad>")),
)


# --- families


@dataclass(frozen=True)
class Family:
    """One family: the classes of transformers, what its tokenizer is, and its template.

    ``leaves_out`` are files that such a base does not have.
    """

    architecture: str
    tokenizer: Callable[[], Any] | _Pieces
    template: Callable[[], str]
    shape: tuple[tuple[str, Any], ...] = ()
    leaves_out: Sequence[str] = ()
    config: str = ""
    # What its tokenizer_config.json calls the tokenizer.
    named: str = ""

    def make(self, folder: Path) -> BaseModelRef:
        """Write the base model into ``folder``."""
        folder.mkdir(parents=True)
        set_seed(0)
        if isinstance(self.tokenizer, _Pieces):
            self.tokenizer.train(folder)
            tokenizer = self.tokenizer.tokenizer(folder)
        else:
            tokenizer = self.tokenizer()
        tokenizer.chat_template = self.template()
        shape = {**SHAPE, "tie_word_embeddings": False, "vocab_size": len(tokenizer) + 4, **dict(self.shape)}
        names = ("bos_token_id", "eos_token_id", "pad_token_id")
        shape |= {name: number for name in names if (number := getattr(tokenizer, name)) is not None}
        config = getattr(transformers, self.config or f"{self.architecture}Config")(**shape)
        model = getattr(transformers, f"{self.architecture}ForCausalLM")(config)
        torch.nn.init.normal_(model.get_output_embeddings().weight, std=OUTPUT_STD)
        model.to(torch.bfloat16).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        if isinstance(self.tokenizer, _Pieces):
            _as_a_llama_tokenizer(folder / "tokenizer_config.json", self.tokenizer.gemma)
        if self.named:
            _named(folder / "tokenizer_config.json", self.named)
        for name in self.leaves_out:
            (folder / name).unlink()
        return ref_of(folder)


def _named(path: Path, tokenizer_class: str) -> None:
    config = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(config | {"tokenizer_class": tokenizer_class}), encoding="utf-8")


def _as_a_llama_tokenizer(path: Path, gemma: bool) -> None:
    """The class that such a base names, and the special tokens as its config lists them."""
    rules = json.loads((path.parent / "tokenizer.json").read_text(encoding="utf-8"))
    config = json.loads(path.read_text(encoding="utf-8"))
    config["tokenizer_class"] = "GemmaTokenizer" if gemma else "LlamaTokenizer"
    config["added_tokens_decoder"] = {
        str(token.pop("id")): token for token in (dict(entry) for entry in rules["added_tokens"])
    }
    path.write_text(json.dumps(config), encoding="utf-8")


_GEMMA_SHAPE = (("head_dim", 32), ("query_pre_attn_scalar", 32), ("sliding_window", 64))
FAMILIES = {
    "Llama 3.x": Family("Llama", _llama_3, lambda: of_llama_cpp("meta-llama-Llama-3.2-3B-Instruct")),
    "Llama 2": Family("Llama", _Pieces(), lambda: LLAMA_2),
    "TinyLlama": Family("Llama", _Pieces(), lambda: TINYLLAMA, leaves_out=["tokenizer.json"]),
    "Mistral": Family(
        "Mistral", _Pieces(control=["[INST]", "[/INST]"], prepends_to_first=True), lambda: MISTRAL,
        (("sliding_window", None),),
    ),
    "Qwen2 and 2.5": Family("Qwen2", _qwen, lambda: of_trl("qwen2_5")),
    "Qwen3, thinking": Family(
        "Qwen3", lambda: _qwen("<think>", "</think>"), lambda: of_trl("qwen3"), (("head_dim", 32),),
    ),
    "Qwen3, not thinking": Family("Qwen3", _qwen, lambda: of_trl("qwen3_instruct_2507"), (("head_dim", 32),)),
    "Gemma 2": Family("Gemma2", _GEMMA, lambda: of_trl("gemma"), (*_GEMMA_SHAPE, ("tie_word_embeddings", True))),
    "Gemma 3": Family("Gemma3", _GEMMA, lambda: of_trl("gemma3"), _GEMMA_SHAPE, config="Gemma3TextConfig"),
    "Phi-3": Family(
        "Phi3", _PHI_3, lambda: of_trl("phi3"),
        (("sliding_window", None), ("original_max_position_embeddings", 1024)),
    ),
    "Phi-4": Family(
        "Phi3", _phi_4, lambda: PHI_4, (("sliding_window", None), ("original_max_position_embeddings", 1024)),
        named="GPT2Tokenizer",
    ),
    "SmolLM2": Family("Llama", _smollm, lambda: CHATML),
    "R1-Distill": Family("Qwen2", _r1, lambda: of_trl("deepseek_r1_distill")),
}  # fmt: skip

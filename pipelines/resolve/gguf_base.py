"""A GGUF file as a base model: its weights, tokenizer and chat template written as a model folder for transformers.

Run as ``python -m pipelines.resolve.gguf_base FILE FOLDER SOURCE PUBLISHED_AS``: torch stays out of the command line
itself.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.artifacts.contracts import BaseSource
from components.errors import LorryError, ModelError
from components.export_gguf.upstream import GGML_PRE_BY_SPLIT
from components.gguf.file import check_file
from components.gguf.model import GgufModel
from components.modeling.base_model import SOURCE_NAME
from components.runtime.disk_space import require_free_space
from components.runtime.kfp_step import plain_logs

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

log = logging.getLogger(__name__)

SPLIT_BY_GGML_PRE = {name: split for split, name in GGML_PRE_BY_SPLIT.items()}
PRE_TOKENIZERS = frozenset({*SPLIT_BY_GGML_PRE, "gpt-2", "smollm"})
# What a GGUF file calls the tokens that transformers has names for.
SPECIAL_TOKENS = {"bos": "bos", "eos": "eos", "pad": "padding", "unk": "unknown"}
# bfloat16, whatever the file's quantization: a value of 4 or 8 bits fits in it.
BYTES_A_WEIGHT = 2
# Where splitting into words differs from one tokenizer to the next.
PROBES = (
    "Hello world, don't you're I'LL 2+2=4 and 1234567.89",
    "  12   34 \n\n x\t\ty\r\n\r\nz   ",
    "naïve Übergröße 你好 世界 مرحبا नमस्ते x² ½ Ⅷ ١٢ 😀👩‍👧",
    "def f(x):\n    return {'a': [1, 22, 333]}  # done!!!\n",
)


def write_folder(gguf: Path, folder: Path, source: str, published_as: str | None) -> None:
    """Write ``folder`` whole or not at all: bfloat16 safetensors, tokenizer, chat template, a card with the licence.

    ``source`` names the file and its origin, and ``published_as`` is the hub id of the model that it
    holds: for the record and the card.

    Raises:
        ModelError: the file is damaged, of an architecture that transformers does not read, without a chat template,
            or with a tokenizer that cannot be read exactly.
        DiskSpaceError: the disk has too little space.
    """
    check_file(gguf)
    head = _Head(gguf)
    head.require_usable()
    require_free_space(folder, BYTES_A_WEIGHT * head.n_weights, "the base model")
    folder.parent.mkdir(parents=True, exist_ok=True)
    log.info("reading %s (%.0f MB, %d weights)", gguf.name, gguf.stat().st_size / 1e6, head.n_weights)
    started = time.monotonic()
    partial = folder.with_name(f".{folder.name}.{os.getpid()}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        with _alone(gguf, folder.parent) as source_args:
            tokenizer = _tokenizer(gguf, source_args, head)
            _write_weights(gguf, source_args, partial)
        tokenizer.save_pretrained(partial)
        _write_source(partial, source, published_as, head.get("general.license"))
        try:
            partial.rename(folder)
        except OSError:
            if not folder.is_dir():  # else another process was quicker, with the same content
                raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    log.info("written as a base model in %.0f s: %s", time.monotonic() - started, folder)


class _Head:
    """The keys of a GGUF file that was checked."""

    def __init__(self, gguf: Path) -> None:
        from gguf import GGUFReader

        reader = GGUFReader(gguf)
        self._gguf = gguf
        self._fields = reader.fields
        self.tensors = {tensor.name for tensor in reader.tensors}
        self.n_weights = sum(int(tensor.n_elements) for tensor in reader.tensors)

    def get(self, key: str) -> Any:
        """A key's value, or None."""
        field = self._fields.get(key)
        return None if field is None else field.contents()

    @property
    def pre_tokenizer(self) -> str:
        """llama.cpp's name for how text is split into words."""
        return str(self.get("tokenizer.ggml.pre") or "default")

    @cached_property
    def tokens(self) -> list[str]:
        """The vocabulary, by id."""
        found: list[str] = self.get("tokenizer.ggml.tokens")
        return found

    @property
    def added_tokens(self) -> list[dict[str, Any]]:
        """The tokens that are whole in any text, as the tokenizers library writes them; control tokens are special."""
        from gguf import TokenType

        kinds = self.get("tokenizer.ggml.token_type") or []
        form = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
        return [
            {"id": token, "content": text, "special": kind == TokenType.CONTROL, **form}
            for token, (text, kind) in enumerate(zip(self.tokens, kinds, strict=False))
            if kind in (TokenType.CONTROL, TokenType.USER_DEFINED)
        ]

    @property
    def special_tokens(self) -> dict[str, str]:
        """The tokens that the file names, by transformers' names."""
        ids = {
            f"{ours}_token": self.get(f"tokenizer.ggml.{theirs}_token_id") for ours, theirs in SPECIAL_TOKENS.items()
        }
        return {name: self.tokens[token] for name, token in ids.items() if token is not None}

    def require_usable(self) -> None:
        """Check what no folder could be made of.

        Raises:
            ModelError: see ``write_folder``.
        """
        from transformers.modeling_gguf_pytorch_utils import GGUF_SUPPORTED_ARCHITECTURES

        known = sorted(set(GGUF_SUPPORTED_ARCHITECTURES) - {"general", "tokenizer"})
        architecture = str(self.get("general.architecture"))
        if _plain(architecture) not in map(_plain, known):
            raise ModelError(
                f"{self._gguf}: transformers cannot read a GGUF file of the architecture {architecture!r} (it reads "
                f"{', '.join(known)}); set base_model to a folder or a hub id with the model's safetensors"
            )
        if (n_parts := self.get("split.count") or 1) > 1:
            raise ModelError(
                f"{self._gguf}: is one of {n_parts} parts, which transformers does not join; make one file of them "
                "with llama.cpp's llama-gguf-split --merge"
            )
        scaling = self.get(f"{architecture}.rope.scaling.type")
        if scaling not in (None, "none") or "rope_freqs.weight" in self.tensors:
            raise ModelError(
                f"{self._gguf}: scales its rotary positions ({scaling or 'rope_freqs.weight'}), which transformers "
                "does not read from a GGUF file; set base_model to a folder or a hub id with the model's safetensors"
            )
        if not self.get("tokenizer.chat_template"):
            raise ModelError(
                f"{self._gguf}: has no chat template, and rows cannot be rendered without one; choose the GGUF file of "
                "an instruct model as base_model"
            )
        kind = self.get("tokenizer.ggml.model")
        if kind != "gpt2" or self.pre_tokenizer not in PRE_TOKENIZERS:
            raise ModelError(
                f"{self._gguf}: a tokenizer of the kind {kind!r} ({self.pre_tokenizer}) cannot be read exactly from a "
                f"GGUF file (those of gpt2 with {', '.join(sorted(PRE_TOKENIZERS))} can); set base_model to a folder "
                "or a hub id with the model's own tokenizer files"
            )


def _plain(architecture: str) -> str:
    """An architecture's name as llama.cpp and transformers both spell it: qwen2moe and qwen2_moe are one."""
    return architecture.replace("-", "").replace("_", "")


@contextmanager
def _alone(gguf: Path, root: Path) -> Iterator[dict[str, Any]]:
    """What transformers loads the file by: a folder without whatever lies beside it, and no code of anybody's."""
    with tempfile.TemporaryDirectory(dir=root, prefix=".gguf-") as folder:
        (Path(folder) / gguf.name).symlink_to(gguf.absolute())
        yield {"pretrained_model_name_or_path": folder, "gguf_file": gguf.name, "trust_remote_code": False}


@contextmanager
def _explain_refusals(gguf: Path) -> Iterator[None]:
    """Turn what transformers raises for a file that it does not read into a ModelError."""
    try:
        yield
    except (OSError, ValueError, KeyError, IndexError, RuntimeError, NotImplementedError) as error:
        reason = str(error).strip() or type(error).__name__
        raise ModelError(
            f"{gguf}: transformers cannot read it ({reason.splitlines()[0]}); set base_model to a folder or a hub id "
            "with the model's safetensors"
        ) from error


def _tokenizer(gguf: Path, source_args: dict[str, Any], head: _Head) -> PreTrainedTokenizerFast:
    """The tokenizer, reading text as llama.cpp does with the same file.

    transformers takes vocabulary and merges from the file, but GPT-2's way of splitting whatever the file says, and
    tokens of its own that the weights have no row for.

    Raises:
        ModelError: it gives other token ids than llama.cpp.
    """
    from tokenizers import Tokenizer
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    with _explain_refusals(gguf):
        read = AutoTokenizer.from_pretrained(**source_args)
    rules = json.loads(read.backend_tokenizer.to_str())
    rules["added_tokens"] = head.added_tokens
    backend = Tokenizer.from_str(json.dumps(rules))
    backend.pre_tokenizer = _splitting(head.pre_tokenizer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        chat_template=head.get("tokenizer.chat_template"),
        model_max_length=head.get(f"{head.get('general.architecture')}.context_length"),
        clean_up_tokenization_spaces=False,
        **head.special_tokens,
    )
    _require_same_tokens(gguf, tokenizer)
    return tokenizer


def _require_same_tokens(gguf: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    model = GgufModel(gguf, n_ctx=64)
    try:
        for text in (*PROBES, " ".join(tokenizer.get_added_vocab())):
            if tokenizer(text, add_special_tokens=False)["input_ids"] != model.tokenize(text, special=True):
                raise ModelError(
                    f"{gguf}: transformers and llama.cpp read {text[:80]!r} as different tokens; set base_model to a "
                    "folder or a hub id with the model's own tokenizer files"
                )
    finally:
        model.close()


def _splitting(pre_tokenizer: str) -> Any:
    """How the tokenizers library splits text where llama.cpp calls it ``pre_tokenizer``."""
    from tokenizers import Regex
    from tokenizers.pre_tokenizers import ByteLevel, Digits, Sequence, Split

    gpt2 = ByteLevel(add_prefix_space=False, use_regex=True)
    if pre_tokenizer == "gpt-2":
        return gpt2
    if pre_tokenizer == "smollm":
        return Sequence([Digits(individual_digits=True), gpt2])
    split = Split(Regex(SPLIT_BY_GGML_PRE[pre_tokenizer]), behavior="isolated")
    return Sequence([split, ByteLevel(add_prefix_space=False, use_regex=False)])


def _write_weights(gguf: Path, source_args: dict[str, Any], folder: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, GgufConfig

    with _explain_refusals(gguf):
        model, loaded = AutoModelForCausalLM.from_pretrained(
            **source_args,
            dtype=torch.bfloat16,
            quantization_config=GgufConfig(dequantize=True),
            output_loading_info=True,
        )
    if missing := sorted({*loaded["missing_keys"], *(name for name, *_ in loaded["mismatched_keys"])}):
        raise ModelError(
            f"{gguf}: lacks {len(missing)} of the model's weights, such as {missing[0]}; give the whole model's file"
        )
    model.save_pretrained(folder)


def _write_source(folder: Path, source: str, published_as: str | None, license_name: str | None) -> None:
    """Write the folder's origin: for the record, and as the head of a card."""
    made_from = BaseSource(source=source, published_as=published_as)
    (folder / SOURCE_NAME).write_text(made_from.model_dump_json(indent=2) + "\n", encoding="utf-8")
    keys = {"license": license_name, "base_model": published_as}
    lines = "".join(f"{key}: {value}\n" for key, value in keys.items() if value)
    (folder / "README.md").write_text(f"---\n{lines}---\nWritten by Lorry from {source}.\n", encoding="utf-8")


def main() -> None:
    """Write the folder that the arguments name; an error is the last line."""
    gguf, folder, source, published_as = sys.argv[1:]
    plain_logs(logging.INFO)
    try:
        write_folder(Path(gguf), Path(folder), source, published_as or None)
    except LorryError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()

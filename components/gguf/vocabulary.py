"""The vocabulary of a GGUF file: conversations to token ids as llama.cpp reads them, and token ids to text."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import takewhile
from pathlib import Path
from typing import Any

from components.artifacts.contracts import Message
from components.errors import ModelError
from components.gguf.load import load_llama_model
from components.modeling.chat_template import PROBED, Edges, answer_edges, render

# Longest value of a metadata key, such as a chat template, in bytes.
MAX_VALUE_BYTES = 1 << 20
BOS_KEY, EOS_KEY = "tokenizer.ggml.bos_token_id", "tokenizer.ggml.eos_token_id"
# Which Unicode normalization the model's own tokenizer does; llama.cpp has no key for it, and does none.
NORMALIZER_KEY = "lorry.tokenizer.normalizer"


class GgufVocabulary:
    """The vocabulary and the chat template of a loaded model; any thread may use it."""

    def __init__(self, path: Path, model: Any) -> None:
        """``model`` is llama.cpp's pointer to it; ``template`` is empty where the file has none."""
        import llama_cpp

        self.path = path
        self._model = model
        self.vocab = llama_cpp.llama_model_get_vocab(model)
        self.n_vocab = llama_cpp.llama_vocab_n_tokens(self.vocab)
        self.template = self._metadata("tokenizer.chat_template") or ""
        self._normalizer: Any = self._metadata(NORMALIZER_KEY)
        self._pieces: dict[int, bytes] = {}

    def prompt_tokens(
        self,
        messages: Sequence[Message],
        *,
        add_generation_prompt: bool = True,
        tools: Sequence[Mapping[str, Any]] | None = None,
    ) -> list[int]:
        """Token ids of a conversation, as training saw them."""
        return self.tokenize(
            self.prompt(messages, add_generation_prompt=add_generation_prompt, tools=tools), special=True
        )

    def prompt(
        self,
        messages: Sequence[Message],
        *,
        add_generation_prompt: bool = True,
        tools: Sequence[Mapping[str, Any]] | None = None,
        template_kwargs: Mapping[str, Any] | None = None,
    ) -> str:
        """The text of a conversation; ``template_kwargs`` are variables of the template.

        Raises:
            ModelError: there is no template, or it refuses the conversation.
        """
        if not self.template:
            raise ModelError(
                f"{self.path}: has no chat template; export it from a base model that has one, "
                "or name one with --chat-template"
            )
        return render(
            self.template,
            messages,
            bos_token=self._special(BOS_KEY),
            eos_token=self._special(EOS_KEY),
            add_generation_prompt=add_generation_prompt,
            tools=tools,
            template_kwargs=template_kwargs,
        )

    @property
    def answer_edges(self) -> Edges:
        """White space around an answer: the template's, and a tokenizer's that begins every part with a space."""
        user, assistant = PROBED
        prompt = self.prompt_tokens([user])
        whole = self.prompt_tokens([user, assistant], add_generation_prompt=False)
        if whole[: len(prompt)] != prompt:
            return answer_edges(self.template, *map(self._special, (BOS_KEY, EOS_KEY)))
        answer = list(takewhile(lambda token: not self.is_end(token), whole[len(prompt) :]))
        ended = len(answer) < len(whole) - len(prompt)
        edges = Edges.of(b"".join(map(self.piece, answer)).decode(errors="replace"))
        return edges if ended else Edges(edges.lead)

    def tokenize(self, text: str, *, special: bool, begin: bool = False) -> list[int]:
        """Token ids of a text. ``special``: the text of a special token becomes that token; ``begin``: BOS comes first.

        Raises:
            ModelError: llama.cpp cannot.
        """
        import llama_cpp

        if self._normalizer:
            text = unicodedata.normalize(self._normalizer, text)
        encoded = text.encode()
        size = len(encoded) + 2
        for _ in range(2):
            tokens = (llama_cpp.llama_token * size)()
            n = llama_cpp.llama_tokenize(self.vocab, encoded, len(encoded), tokens, size, begin, special)
            if n >= 0:
                return list(tokens[:n])
            # SentencePiece's spaces before each part of a text can make more tokens than it has bytes.
            size = -n
        raise ModelError(f"llama.cpp cannot turn {len(encoded)} bytes into tokens")

    def is_end(self, token: int) -> bool:
        """True for the tokens that end a turn."""
        import llama_cpp

        return bool(llama_cpp.llama_vocab_is_eog(self.vocab, token))

    def piece(self, token: int) -> bytes:
        """The bytes of a token; a character can be spread over several tokens. Special tokens have no bytes."""
        if token not in self._pieces:
            self._pieces[token] = self._piece(token, special=False)
        return self._pieces[token]

    def spelled(self, token: int) -> str:
        """The text of a token, of special ones too."""
        return self._piece(token, special=True).decode(errors="replace")

    def _metadata(self, key: str) -> str | None:
        """The value of one of the file's keys, as text; None where it has no such key.

        Raises:
            ModelError: the value is too long.
        """
        import ctypes

        import llama_cpp

        value = ctypes.create_string_buffer(MAX_VALUE_BYTES)
        n = llama_cpp.llama_model_meta_val_str(self._model, key.encode(), value, len(value))
        if n >= len(value):
            raise ModelError(f"{self.path}: its {key} has {n} bytes, more than {MAX_VALUE_BYTES}; export it again")
        return None if n < 0 else value.value.decode(errors="replace")

    def _special(self, key: str) -> str:
        token = self._metadata(key)
        return "" if token is None else self._piece(int(token), special=True).decode()

    def _piece(self, token: int, *, special: bool) -> bytes:
        import ctypes

        import llama_cpp

        size = 64
        while True:
            text = ctypes.create_string_buffer(size)
            n = llama_cpp.llama_token_to_piece(self.vocab, token, text, size, 0, special)
            if n >= 0:
                return text.raw[:n]
            size = -n


@contextmanager
def vocabulary_of(path: Path) -> Iterator[GgufVocabulary]:
    """The vocabulary of a GGUF file that was made here, without its weights; the file may have none.

    Raises:
        ModelError: llama.cpp cannot load it.
    """
    model = load_llama_model(path, vocab_only=True)
    import llama_cpp

    try:
        yield GgufVocabulary(path, model)
    finally:
        llama_cpp.llama_model_free(model)

"""The vocabulary of a GGUF file: texts to token ids and back, conversations as its template writes them."""

from __future__ import annotations

import random
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import pytest

from components.artifacts.contracts import Message
from components.errors import ModelError
from components.gguf import vocabulary as vocabularies
from components.gguf.vocabulary import BOS_KEY, EOS_KEY, GgufVocabulary, vocabulary_of
from components.modeling.base_model import load_tokenizer
from tests.gguf_files import write

HELLO = [Message(role="user", content="Hello there")]
TEXTS = ["", " ", "Hello", "  two  spaces \n\n\tand a tab", "naïve café", "日本語と絵文字 😀", "a" * 300, "\x00\x7f"]


@pytest.fixture(scope="module")
def vocabulary(tiny_run) -> Iterator[GgufVocabulary]:
    with vocabulary_of(tiny_run.model) as vocabulary:
        yield vocabulary


@pytest.fixture
def changeable(tiny_run) -> Iterator[GgufVocabulary]:
    """One of its own for a test that changes it."""
    with vocabulary_of(tiny_run.model) as vocabulary:
        yield vocabulary


def text_of(vocabulary: GgufVocabulary, tokens: list[int]) -> str:
    return b"".join(map(vocabulary.piece, tokens)).decode()


@pytest.mark.parametrize("text", TEXTS)
def test_the_pieces_of_a_texts_tokens_are_the_text(vocabulary, text):
    assert text_of(vocabulary, vocabulary.tokenize(text, special=False)) == text


def test_any_text_comes_back(vocabulary):
    draw = random.Random(1)
    for _ in range(200):
        text = "".join(chr(draw.choice((draw.randrange(32, 127), draw.randrange(0xA0, 0x3000)))) for _ in range(30))
        assert text_of(vocabulary, vocabulary.tokenize(text, special=False)) == text


def end_of(vocabulary: GgufVocabulary) -> tuple[int, str]:
    """The token that ends a turn, and its text."""
    token = next(token for token in range(vocabulary.n_vocab) if vocabulary.is_end(token))
    return token, vocabulary.spelled(token)


def test_the_text_of_a_special_token_is_that_token_only_where_it_may_be(vocabulary):
    token, text = end_of(vocabulary)
    assert vocabulary.tokenize(text, special=True) == [token]
    plain = vocabulary.tokenize(text, special=False)
    assert token not in plain
    assert text_of(vocabulary, plain) == text
    assert vocabulary.piece(token) == b"", "a special token is no part of an answer's text"


def test_only_special_tokens_end_a_turn(vocabulary):
    letters = vocabulary.tokenize("Hello there", special=False)
    assert not any(map(vocabulary.is_end, letters))
    assert [vocabulary.spelled(token).encode() for token in letters] == list(map(vocabulary.piece, letters))


def test_a_text_begins_with_the_models_own_beginning(vocabulary):
    plain = vocabulary.tokenize("Hello", special=False)
    begun = vocabulary.tokenize("Hello", special=False, begin=True)
    assert begun[len(begun) - len(plain) :] == plain
    assert len(begun) - len(plain) in (0, 1)


def test_a_token_that_has_no_number_of_bytes_in_advance_is_read_whole(vocabulary, monkeypatch):
    """llama.cpp says how many bytes it needs where they are more than were given."""
    longest = max(range(vocabulary.n_vocab), key=lambda token: len(vocabulary.spelled(token)))
    import llama_cpp

    sizes: list[int] = []
    convert = llama_cpp.llama_token_to_piece

    def small_first(vocab: object, token: int, buffer: object, size: int, *rest: object) -> int:
        sizes.append(size)
        return -70 if size < 70 else convert(vocab, token, buffer, size, *rest)

    whole = vocabulary.spelled(longest)
    monkeypatch.setattr(llama_cpp, "llama_token_to_piece", small_first)
    assert vocabulary.spelled(longest) == whole
    assert sizes == [64, 70]


def test_a_text_of_more_tokens_than_bytes_is_read_whole(vocabulary, monkeypatch):
    """As SentencePiece makes them: llama.cpp says how many they are."""
    import llama_cpp

    calls: list[int] = []
    tokenize = llama_cpp.llama_tokenize

    def too_many(vocab: object, text: bytes, n: int, tokens: object, size: int, *rest: object) -> int:
        calls.append(size)
        return -20 if size < 20 else tokenize(vocab, text, n, tokens, size, *rest)

    right = vocabulary.tokenize("Hello", special=False)
    monkeypatch.setattr(llama_cpp, "llama_tokenize", too_many)
    assert vocabulary.tokenize("Hello", special=False) == right
    assert calls == [7, 20]
    monkeypatch.setattr(llama_cpp, "llama_tokenize", lambda *_: -99)
    with pytest.raises(ModelError, match="5 bytes"):
        vocabulary.tokenize("Hello", special=False)


def test_a_text_is_normalized_as_the_models_own_tokenizer_does_it(changeable):
    composed, decomposed = "é", unicodedata.normalize("NFD", "é")
    apart = changeable.tokenize(decomposed, special=False)
    assert apart != changeable.tokenize(composed, special=False)
    changeable._normalizer = "NFC"
    assert changeable.tokenize(decomposed, special=False) == changeable.tokenize(composed, special=False)


def test_a_conversations_tokens_are_those_of_its_text_with_special_tokens(vocabulary):
    text = vocabulary.prompt(HELLO)
    assert "Hello there" in text
    tokens = vocabulary.prompt_tokens(HELLO)
    assert tokens == vocabulary.tokenize(text, special=True)
    ended = vocabulary.prompt(HELLO, add_generation_prompt=False)
    assert text.startswith(ended)
    assert len(text) > len(ended)


def test_a_conversations_tokens_are_those_of_training(vocabulary, tiny_base):
    from components.artifacts.contracts import BaseModelRef
    from components.modeling.base_model import folder_revision

    base = BaseModelRef(address=str(tiny_base), revision=folder_revision(tiny_base), weight_bytes=1)
    tokenizer = load_tokenizer(base)
    turns = [{"role": "user", "content": "Hello there"}]
    trained = tokenizer.apply_chat_template(turns, add_generation_prompt=True, return_dict=False)
    assert vocabulary.prompt_tokens(HELLO) == list(trained)


def test_variables_of_the_template_are_the_requests(changeable):
    changeable.template = "{{ tone | default('calm') }}{% for m in messages %} {{ m.content }}{% endfor %}"
    assert changeable.prompt(HELLO) == "calm Hello there"
    assert changeable.prompt(HELLO, template_kwargs={"tone": "loud"}) == "loud Hello there"


def test_a_template_gets_the_files_special_tokens(changeable):
    changeable.template = "{{ bos_token }}|{{ eos_token }}"
    expected = [changeable._special(key) for key in (BOS_KEY, EOS_KEY)]
    assert changeable.prompt(HELLO) == "|".join(expected)
    assert changeable.is_end(*changeable.tokenize(expected[1], special=True))


def test_without_a_template_a_conversation_is_refused_with_what_to_do(changeable):
    changeable.template = ""
    with pytest.raises(ModelError, match=r"has no chat template; .*--chat-template") as refused:
        changeable.prompt(HELLO)
    assert str(refused.value).startswith(f"{changeable.path}: ")


def test_white_space_around_an_answer_is_the_templates(changeable):
    _, end = end_of(changeable)
    changeable.template = (
        "{% for m in messages %}{{ m.role }}:{{ ' ' if m.role == 'assistant' else '' }}{{ m.content }}"
        + end
        + "{% endfor %}{% if add_generation_prompt %}assistant:{% endif %}"
    )
    assert changeable.answer_edges.lead == " "
    changeable.template = changeable.template.replace("' ' if", "'' if")
    assert changeable.answer_edges.lead == ""


def test_a_key_that_is_missing_is_none_and_one_that_is_too_long_is_refused(vocabulary, monkeypatch):
    assert vocabulary._metadata("no.such.key") is None
    assert vocabulary._metadata("general.architecture") == "llama"
    monkeypatch.setattr(vocabularies, "MAX_VALUE_BYTES", 4)
    with pytest.raises(ModelError, match=r"general\.architecture has 5 bytes, more than 4"):
        vocabulary._metadata("general.architecture")


def test_a_file_without_what_llama_needs_is_refused_with_llamas_reason(tmp_path):
    path = write(tmp_path / "model.gguf", tokenizer_model="nonsense")
    with pytest.raises(ModelError, match=r"llama.cpp cannot load it \(.*nonsense.*\)") as refused, vocabulary_of(path):
        pass
    assert str(refused.value).startswith(f"{path}: ")


def test_a_file_that_is_not_there_is_refused(tmp_path):
    missing = Path(tmp_path / "none.gguf")
    with pytest.raises(ModelError, match=r"none\.gguf: llama.cpp cannot load it"), vocabulary_of(missing):
        pass

"""The demo's questions, asked of a served file: how many answers hold the words that the data file names.

    python tests/benchmarks/questions.py MODEL.gguf [MODEL.gguf …] [--answers]

Facts are asked in words that no training row has; general questions are those that the untuned base answers right. Each
answer comes over HTTP from ``lorry serve``, at temperature 0.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import httpx

sys.path.insert(0, str(Path(__file__).parents[2]))  # the tests are no package that an install would know

from tests.conftest import free_port, lorry_process

QUESTIONS = Path(__file__).parents[2] / "pipelines" / "recipes" / "data" / "demo-questions.jsonl"
MAX_TOKENS = 100
AT_ONCE = 8
# A list of turns is one conversation, of which every question is asked.
CHATS = (
    ["Hello!"],
    ["Thanks!"],
    ["What is 2+2?"],
    ["Tell me a joke"],
    ["What is Lorry?", "What is the capital of France?", "And which port does the chat page use?"],
    ["My name is Ada.", "What is my name?"],
)


@dataclass(frozen=True)
class Question:
    """``core``: words that a right answer holds, case ignored; ``|`` parts those of which one is enough."""

    kind: str
    question: str
    core: list[str]

    def is_right(self, answer: str) -> bool:
        """Whether an answer holds the core."""
        said = answer.lower()
        return all(any(word in said for word in words.split("|")) for words in self.core)


def read_questions() -> list[Question]:
    """The shipped questions."""
    lines = QUESTIONS.read_text(encoding="utf-8").splitlines()
    return [Question(**{key: row[key] for key in ("kind", "question", "core")}) for row in map(json.loads, lines)]


class Asked:
    """Answers of one served file."""

    def __init__(self, model: Path) -> None:
        self.questions = read_questions()
        port = free_port()
        address = f"http://127.0.0.1:{port}"
        with lorry_process("serve", model, "--port", str(port), "--model-id", "m", ready=f"{address}/readyz"):
            self._url = f"{address}/v1/chat/completions"
            with ThreadPoolExecutor(AT_ONCE) as pool:
                self.answers = list(pool.map(lambda question: self._ask([question.question]), self.questions))
            self.chats = [self._chat(turns) for turns in CHATS]

    def right(self, kind: str) -> tuple[int, int]:
        """How many questions of a kind are answered right, and how many there are."""
        judged = [
            question.is_right(answer)
            for question, answer in zip(self.questions, self.answers, strict=True)
            if question.kind == kind
        ]
        return sum(judged), len(judged)

    def _chat(self, turns: Sequence[str]) -> list[tuple[str, str]]:
        said: list[str] = []
        for turn in turns:
            said.append(turn)
            said.append(self._ask(said))
        return list(zip(said[::2], said[1::2], strict=True))

    def _ask(self, turns: Sequence[str]) -> str:
        messages = [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(turns)]
        body = {"model": "m", "messages": messages, "temperature": 0, "max_tokens": MAX_TOKENS}
        answer = httpx.post(self._url, json=body, timeout=600).json()
        return str(answer["choices"][0]["message"]["content"]).strip()


def main() -> None:
    """Ask and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", type=Path, nargs="+")
    parser.add_argument("--answers", action="store_true", help="print what was answered wrong, and the small talk")
    options = parser.parse_args()
    for model in options.models:
        asked = Asked(model)
        told = ", ".join("{} {} of {}".format(kind, *asked.right(kind)) for kind in ("fact", "general"))
        print(f"{model}: {told}", flush=True)
        if options.answers:
            for question, answer in zip(asked.questions, asked.answers, strict=True):
                if not question.is_right(answer):
                    print(f"  {question.question} -> {answer!r} (wanted {question.core})")
            for turns in asked.chats:
                print(*(f"  > {question}\n  {answer}" for question, answer in turns), sep="\n")


if __name__ == "__main__":
    main()

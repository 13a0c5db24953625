"""Answers to prompts on as many cores as a serving pod has, with the seconds that they take.

``measure_answers`` starts this module as a process of its own: its cores and threads are limited before llama.cpp
is loaded.
"""

from __future__ import annotations

import json
import logging
import os
import random
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from components.artifacts.contracts import Message
from components.errors import ModelError
from components.evaluate.prompts import Prompt
from components.evaluate.results import GeneratedAnswer
from components.gguf.kernels import SPIN_COUNT, SPIN_VARIABLE
from components.gguf.model import GgufModel, TextStream
from components.gguf.sampling import Sampling
from components.modeling.reasoning import split_reasoning
from components.runtime.cores import usable_cores
from components.runtime.kfp_step import plain_logs

log = logging.getLogger(__name__)

# Tokens of a served model's context by default: a longer one would only take memory.
SERVED_CONTEXT = 8192


@dataclass(frozen=True)
class TimedAnswer(GeneratedAnswer):
    """One file's answer to one turn; ``model`` says which. Times are in seconds from the question on."""

    first_token_seconds: float
    n_prompt_tokens: int
    n_threads: int


def measure_answers(
    path: Path, name: str, prompts: Sequence[Prompt], *, max_new_tokens: int, n_threads: int, folder: Path
) -> list[TimedAnswer]:
    """Greedy answers of the GGUF file at ``path`` to every turn, on ``n_threads`` cores; ``folder`` is for work files.

    Raises:
        ModelError: the file cannot be loaded, or the process ends otherwise.
    """
    job = folder / f"{name}.job.json"
    made = folder / f"{name}.answers.json"
    asked = [prompt.model_dump() for prompt in prompts]
    limits = {"max_new_tokens": max_new_tokens, "n_threads": n_threads}
    job.write_text(json.dumps({"path": str(path), "name": name, "prompts": asked, "made": str(made), **limits}))
    environment = {SPIN_VARIABLE: SPIN_COUNT, **os.environ}  # as the model server has it
    done = subprocess.run([sys.executable, "-m", __name__, str(job)], check=False, env=environment)
    if done.returncode != 0:
        raise ModelError(
            f"{path}: its answers could not be measured (exit code {done.returncode}); see the lines above"
        )
    return [TimedAnswer(**answer) for answer in json.loads(made.read_text(encoding="utf-8"))]


def figures_of(name: str, answers: Sequence[TimedAnswer]) -> dict[str, float]:
    """Means over the answers of one file; nothing where there are none."""
    own = [answer for answer in answers if answer.model == name]
    if not own:
        return {}
    return {
        f"{name}_seconds_per_answer": sum(answer.seconds for answer in own) / len(own),
        f"{name}_longest_seconds": max(answer.seconds for answer in own),
        f"{name}_first_token_seconds": sum(answer.first_token_seconds for answer in own) / len(own),
        f"{name}_tokens_per_second": sum(a.n_tokens for a in own) / max(sum(a.seconds for a in own), 1e-9),
    }


def main() -> None:
    """Answer what the job file asks."""
    plain_logs(logging.INFO)
    job = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    n_threads = min(job["n_threads"], usable_cores())
    if n_threads < job["n_threads"]:
        log.warning(
            "answers are measured on %d cores, not on %d: this machine has no more", n_threads, job["n_threads"]
        )
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, _cores(n_threads))
    prompts = [Prompt.model_validate(prompt) for prompt in job["prompts"]]
    model = GgufModel(Path(job["path"]), n_threads=n_threads, n_ctx=SERVED_CONTEXT)
    _answer_turn(model, [Message(role="user", content="Hello")], 1)  # the first use reads the weights from disk
    answers = []
    for number, prompt in enumerate(prompts, start=1):
        answers += _answer(model, prompt, job["name"], job["max_new_tokens"], n_threads)
        log.info("prompt %d/%d answered by %s: %s", number, len(prompts), job["name"], prompt.name)
    model.close()
    Path(job["made"]).write_text(json.dumps([asdict(answer) for answer in answers]), encoding="utf-8")


def _cores(n: int) -> list[int]:
    """So many of the cores that this process may use: physical ones first, begun at random, for others measure too."""
    usable = sorted(os.sched_getaffinity(0))
    begin = random.randrange(len(usable))
    turned = usable[begin:] + usable[:begin]
    first = [core for core in turned if core == min(_siblings(core), default=core)]
    return (first + [core for core in turned if core not in first])[:n]


def _siblings(core: int) -> set[int]:
    """The threads of a core's physical core, itself included, as Linux tells them; nothing where it does not."""
    path = Path(f"/sys/devices/system/cpu/cpu{core}/topology/thread_siblings_list")
    if not path.is_file():
        return set()
    ranges = (part.partition("-") for part in path.read_text().strip().split(","))
    return {number for low, _, high in ranges for number in range(int(low), int(high or low) + 1)}


def _answer(model: GgufModel, prompt: Prompt, name: str, max_new_tokens: int, n_threads: int) -> list[TimedAnswer]:
    messages = [Message(role="system", content=prompt.system)] if prompt.system else []
    answers = []
    for turn in prompt.turns:
        messages.append(Message(role="user", content=turn))
        timed = _answer_turn(model, messages, max_new_tokens)
        answers.append(TimedAnswer(prompt.name, turn, name, **asdict(timed), n_threads=n_threads))
        messages.append(Message(role="assistant", content=split_reasoning(timed.text, edges=model.answer_edges)[1]))
    return answers


@dataclass(frozen=True)
class _Timed:
    text: str
    seconds: float
    first_token_seconds: float
    n_tokens: int
    n_prompt_tokens: int


def _answer_turn(model: GgufModel, messages: Sequence[Message], max_new_tokens: int) -> _Timed:
    """The greedy answer to a conversation, as far as limit and context reach."""
    started = time.monotonic()
    first, stream, text, n_tokens = 0.0, TextStream(), "", 0
    prompt = model.prompt_tokens(messages)
    if len(prompt) >= model.n_ctx:
        raise ModelError(f"a prompt has {len(prompt)} tokens and the context holds {model.n_ctx}; shorten it")
    limit = min(max_new_tokens, model.n_ctx - len(prompt))
    for token in model.generate(prompt, Sampling()):
        first = first or time.monotonic() - started
        if model.is_end(token):
            break
        text += stream.feed(model.piece(token))
        n_tokens += 1
        if n_tokens >= limit:
            break
    return _Timed(text, time.monotonic() - started, first, n_tokens, len(prompt))


if __name__ == "__main__":
    main()

"""Generating answers on as many cores as a serving pod has, with the seconds that they take.

``measure_answers`` starts this module as a process of its own: its cores and threads are limited before llama.cpp
is loaded.
"""

from __future__ import annotations

import logging
import os
import random
import subprocess
import sys
import time
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, TypeAdapter

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
TOPOLOGY = Path("/sys/devices/system/cpu")


@dataclass(frozen=True)
class TimedAnswer(GeneratedAnswer):
    """One file's answer to one turn; ``model`` names the file. Times are in seconds from the question on."""

    first_token_seconds: float
    n_prompt_tokens: int
    n_threads: int


class GenerationJob(BaseModel):
    """What the process of ``measure_answers`` generates: its greedy answers to ``prompts`` go to ``answers_path``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model_path: Path
    name: str
    prompts: list[Prompt]
    max_new_tokens: int
    n_threads: int
    answers_path: Path


def measure_answers(
    path: Path, name: str, prompts: Sequence[Prompt], *, max_new_tokens: int, n_threads: int, folder: Path
) -> list[TimedAnswer]:
    """Greedy answers of the GGUF file at ``path`` to every turn, on ``n_threads`` cores; ``folder`` is for work files.

    Raises:
        ModelError: the file cannot be loaded, or the process was killed.
    """
    job = GenerationJob(
        model_path=path, name=name, prompts=list(prompts), max_new_tokens=max_new_tokens, n_threads=n_threads,
        answers_path=folder / f"{name}.answers.json",
    )  # fmt: skip
    job_path = folder / f"{name}.job.json"
    job_path.write_text(job.model_dump_json(), encoding="utf-8")
    environment = {SPIN_VARIABLE: SPIN_COUNT, **os.environ}  # as the model server has it
    done = subprocess.run([sys.executable, "-m", __name__, str(job_path)], check=False, env=environment)
    if done.returncode != 0:
        raise ModelError(
            f"{path}: its answers could not be measured (exit code {done.returncode}); see the lines above"
        )
    return TypeAdapter(list[TimedAnswer]).validate_json(job.answers_path.read_bytes())


def figures_of(name: str, answers: Sequence[TimedAnswer]) -> dict[str, float]:
    """Means over the answers of one file; empty where there are none."""
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
    """Do the job of the file that the command line names."""
    plain_logs(logging.INFO)
    job = GenerationJob.model_validate_json(Path(sys.argv[1]).read_bytes())
    n_threads = min(job.n_threads, usable_cores())
    if n_threads < job.n_threads:
        log.warning("answers are measured on %d cores, not on %d: this machine has no more", n_threads, job.n_threads)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, choose_cores(n_threads, os.sched_getaffinity(0)))
    model = GgufModel(job.model_path, n_threads=n_threads, n_ctx=SERVED_CONTEXT)
    generate(model, [Message(role="user", content="Hello")], 1)  # the first use reads the weights from disk
    answers = []
    for number, prompt in enumerate(job.prompts, start=1):
        answers += _answer_prompt(model, prompt, job, n_threads)
        log.info("prompt %d/%d answered by %s: %s", number, len(job.prompts), job.name, prompt.name)
    model.close()
    job.answers_path.write_bytes(TypeAdapter(list[TimedAnswer]).dump_json(answers))


def choose_cores(n: int, usable: Collection[int]) -> list[int]:
    """``n`` of the ``usable`` cores: one of each physical core first, from a random one on, for others measure too."""
    cores = sorted(usable)
    start = random.randrange(len(cores))
    rotated = cores[start:] + cores[:start]
    first = [core for core in rotated if core == min(_threads_of_physical_core(core), default=core)]
    return (first + [core for core in rotated if core not in first])[:n]


def _threads_of_physical_core(core: int) -> set[int]:
    """The hardware threads of a core's physical core, itself included; empty where Linux does not list them."""
    path = TOPOLOGY / f"cpu{core}/topology/thread_siblings_list"
    if not path.is_file():
        return set()
    ranges = (part.partition("-") for part in path.read_text().strip().split(","))
    return {number for low, _, high in ranges for number in range(int(low), int(high or low) + 1)}


def _answer_prompt(model: GgufModel, prompt: Prompt, job: GenerationJob, n_threads: int) -> list[TimedAnswer]:
    """An answer to each turn; the next turn follows without the reasoning of the answers before it."""
    messages = [Message(role="system", content=prompt.system)] if prompt.system else []
    answers = []
    for turn in prompt.turns:
        messages.append(Message(role="user", content=turn))
        generated = generate(model, messages, job.max_new_tokens)
        answers.append(TimedAnswer(prompt.name, turn, job.name, **asdict(generated), n_threads=n_threads))
        messages.append(Message(role="assistant", content=split_reasoning(generated.text, edges=model.answer_edges)[1]))
    return answers


@dataclass(frozen=True)
class Generated:
    """A text with its times in seconds and its counts of tokens; fields as those of ``TimedAnswer``."""

    text: str
    seconds: float
    first_token_seconds: float
    n_tokens: int
    n_prompt_tokens: int


def generate(model: GgufModel, messages: Sequence[Message], max_new_tokens: int) -> Generated:
    """The greedy answer to a conversation, of at most ``max_new_tokens`` and as far as the context reaches.

    Raises:
        ModelError: the prompt fills the context.
    """
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
    return Generated(text, time.monotonic() - started, first, n_tokens, len(prompt))


if __name__ == "__main__":
    main()

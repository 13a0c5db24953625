"""The answers of several models to the same prompts, side by side, and their mean speed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from components.compare_runs.runs import ComparedAnswer, ComparedRun

MIN_SECONDS = 1e-9


@dataclass(frozen=True)
class SideBySide:
    """A column for each model, a row for each turn of a prompt."""

    labels: Sequence[str]
    turns: Mapping[tuple[str, str], Mapping[str, ComparedAnswer]]  # (prompt, turn): label: answer


@dataclass(frozen=True)
class AnswerSpeed:
    """The mean speed of one model's answers."""

    label: str
    n_answers: int
    seconds_per_answer: float
    tokens_per_second: float


def side_by_side(runs: Sequence[ComparedRun]) -> SideBySide:
    """The answers of every model of ``runs``."""
    labels = _labels(runs)
    turns: dict[tuple[str, str], dict[str, ComparedAnswer]] = {}
    for run in runs:
        for answer in run.answers:
            if (label := labels.get((run.name, answer.model))) is not None:
                turns.setdefault((answer.prompt, answer.turn), {})[label] = answer
    return SideBySide(list(labels.values()), turns)


def answer_speeds(runs: Sequence[ComparedRun]) -> list[AnswerSpeed]:
    """The mean speed of every model of ``runs``."""
    by_name = {run.name: run for run in runs}
    speeds = []
    for (name, model), label in _labels(runs).items():
        answers = [answer for answer in by_name[name].answers if answer.model == model]
        seconds = sum(answer.seconds for answer in answers)
        n_tokens = sum(answer.n_tokens for answer in answers)
        speeds.append(AnswerSpeed(label, len(answers), seconds / len(answers), n_tokens / max(seconds, MIN_SECONDS)))
    return speeds


def _labels(runs: Sequence[ComparedRun]) -> dict[tuple[str, str], str]:
    """The label of each model, by run and model; a base that several runs share has one."""
    labels: dict[tuple[str, str], str] = {}
    bases: set[str] = set()
    for run in runs:
        for model in dict.fromkeys(answer.model for answer in run.answers):
            if model != "base":
                labels[run.name, model] = f"{run.name}, {model}"
            elif run.base_model not in bases:
                bases.add(run.base_model)
                labels[run.name, model] = f"{run.base_model.rsplit('/', 1)[-1]}, untuned"
    return labels

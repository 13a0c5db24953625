"""The steps of a run, read out of the task list that Kubeflow's API gives.

The list holds a task for each node of Argo's workflow, by a short name that repeats in every iteration of a loop. What
tells them apart is the parent of a node: an id is the workflow's name and the FNV-1a hash of the node's full name,
such as ``sweep-x(0).root(0).for-loop-2(0).iteration-iterations(3:3)(0).iteration-item(0).train-trial(0).executor(1)``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pipelines.config.steps import step_of_task

State = Literal["waiting", "pending", "running", "succeeded", "reused", "failed"]
# The driver of the whole run stands before its first step.
ROOT = "root"
# Kubeflow's template for the pod of a step that has a retry policy.
POD_TEMPLATE = "retry-system-container-impl"

_TRY = re.compile(r"\((\d+)\)$")
_ITERATION = re.compile(r"\((\d+):\d+\)")


@dataclass(frozen=True)
class RunStep:
    """One step of a run, or one iteration's where it stands in a loop."""

    step: str
    task: str
    iteration: tuple[int, ...]
    state: State
    # Of the step's pod: how many there were, and whether the newest is known to have failed.
    tries: int
    newest_failed: bool
    pod: str | None
    node: str | None
    seconds: float | None
    in_driver: bool = False

    @property
    def rung(self) -> int:
        """Which task of its kind it is: a sweep has one of each in every rung; 1 for the first."""
        number = re.search(r"-(\d+)$", self.task)
        return int(number[1]) if number else 1

    def reason_in(self, reasons: Mapping[str, str]) -> str | None:
        """Why the step's pod waits, of the reasons by the full name of Argo's node."""
        return None if self.node is None else reasons.get(self.node)


def steps_of(tasks: Sequence[Any], known: Sequence[str]) -> list[RunStep]:
    """The steps among ``tasks`` whose names are ``known``, in that order."""
    nodes = _Nodes([task for task in tasks if task.display_name])
    wanted = {ROOT, *known}
    found = []
    for name in nodes.names:
        own = _last(name)
        if _TRY.search(own):
            continue
        step = step_of_task(own.removesuffix("-driver"))
        if step not in wanted:
            continue
        task = nodes.task_of(name)
        if task is None:
            continue
        if not own.endswith("-driver"):
            found.extend([] if step == ROOT else [_step(step, name, nodes, task)])
        elif task.state == "FAILED":
            found.append(_in_driver(step, name, "failed", task))
        elif (nodes.state_of(f"{name}(0)") or task.state) == "PENDING":
            found.append(_in_driver(step, name, "pending", task))
    if not found:
        found = _by_name_alone(nodes.tasks, known)
    order = {step: position for position, step in enumerate([ROOT, *known])}
    return sorted(found, key=lambda step: (order[step.step], step.rung, step.iteration))


def _by_name_alone(tasks: Sequence[Any], known: Sequence[str]) -> list[RunStep]:
    """The steps of a list whose ids do not tell a task's parent."""
    skipped = {task.pod_name for task in tasks if task.state == "SKIPPED" and task.pod_name}
    states: dict[str, State] = {"RUNNING": "running", "PENDING": "pending", "SUCCEEDED": "succeeded"}
    states |= {"FAILED": "failed", "SKIPPED": "reused"}
    found = []
    for task in tasks:
        if (step := step_of_task(task.display_name)) in known and task.state in states:
            is_reused = task.state == "SUCCEEDED" and skipped.intersection(_children(task))
            found.append(
                RunStep(
                    step=step,
                    task=task.display_name,
                    iteration=(),
                    state="reused" if is_reused else states[task.state],
                    tries=0,
                    newest_failed=False,
                    pod=task.pod_name,
                    node=None,
                    seconds=_seconds(task),
                )
            )
    return found


def pod_of(workflow: str, node: str) -> str:
    """The pod of a node, as Argo names it."""
    return f"{workflow}-{POD_TEMPLATE}-{_hash(node)}"


def _step(step: str, name: str, nodes: _Nodes, task: Any) -> RunStep:
    tries = nodes.pods_below(name)
    newest = nodes.state_of(tries[-1]) if tries else None
    return RunStep(
        step=step,
        task=_last(name),
        iteration=_iteration(name),
        state=_state(task.state, len(tries), newest),
        tries=len(tries),
        newest_failed=newest == "FAILED",
        pod=pod_of(nodes.workflow, tries[-1]) if tries else None,
        node=tries[-1] if tries else None,
        seconds=_seconds(task),
    )


def _state(state: str, n_tries: int, newest: str | None) -> State:
    if state == "SUCCEEDED":
        # A step whose own pod was not needed.
        return "succeeded" if n_tries else "reused"
    if state == "FAILED":
        return "failed"
    if newest == "PENDING":
        return "pending"
    return "running" if newest == "RUNNING" else "waiting"


def _in_driver(step: str, name: str, state: State, task: Any) -> RunStep:
    """A step that Kubeflow's driver, which prepares it, has not begun yet or could not begin."""
    return RunStep(
        step=step,
        task=_last(name).removesuffix("-driver"),
        iteration=_iteration(name),
        state=state,
        tries=0,
        newest_failed=state == "failed",
        pod=None,
        node=f"{name}(0)",
        seconds=_seconds(task),
        in_driver=True,
    )


def _seconds(task: Any) -> float | None:
    if task.start_time is None or task.end_time is None or task.end_time.year < 2000:
        return None
    return float((task.end_time - task.start_time).total_seconds())


def _iteration(name: str) -> tuple[int, ...]:
    return tuple(int(number) for number in _ITERATION.findall(name))


class _Nodes:
    """The nodes of one workflow by their full names."""

    def __init__(self, tasks: Sequence[Any]) -> None:
        self.tasks = tasks
        self._by_display: dict[str, list[Any]] = {}
        for task in tasks:
            self._by_display.setdefault(task.display_name, []).append(task)
        ids = {child for task in tasks for child in _children(task)}
        self.workflow = next(iter(ids)).rpartition("-")[0] if ids else ""
        self.names = self._named(ids)
        self._ids = {name: f"{self.workflow}-{_hash(name)}" for name in self.names}

    def _named(self, ids: set[str]) -> list[str]:
        """Full names, found from the root down: a name is right where its hash is somebody's child."""
        found: dict[str, None] = {}
        waiting = [self.workflow] if self.workflow else []
        while waiting:
            name = waiting.pop()
            last = _last(name)
            for short in self._by_display:
                if short.startswith(f"{last}("):
                    below = f"{name}{short[len(last) :]}"
                elif "(" in short and not _ITERATION.search(short):
                    continue  # a try of something else
                else:
                    below = f"{name}.{short}"
                if below not in found and f"{self.workflow}-{_hash(below)}" in ids:
                    found[below] = None
                    waiting.append(below)
        return list(found)

    def task_of(self, name: str) -> Any | None:
        """The task of a node; None where several are alike and have nothing below them."""
        alike = self._by_display[_last(name)]
        if len(alike) == 1:
            return alike[0]
        below = {self._ids[other] for other in self.names if other.startswith((f"{name}.", f"{name}("))}
        own = [task for task in alike if below.intersection(_children(task))]
        return own[0] if len(own) == 1 else None

    def state_of(self, name: str) -> str | None:
        """The state of a node that has nothing below it; None where nodes that are alike have several."""
        around = self.task_of(_TRY.sub("", name))
        alike = [task for task in self._by_display.get(_last(name), ()) if around is None or _within(task, around)]
        if name.endswith("(0)") and around is not None:  # both begin together
            alike = [task for task in alike if task.start_time == around.start_time]
        states = {str(task.state) for task in alike}
        return states.pop() if len(states) == 1 else None

    def pods_below(self, name: str) -> list[str]:
        """The nodes of a step's own pods, in the order of the tries."""
        pods = (other for other in self.names if other.startswith(f"{name}(") or other.startswith(f"{name}."))
        return sorted(
            (other for other in pods if re.fullmatch(r"executor\(\d+\)", _last(other))),
            key=lambda other: [int(number) for number in re.findall(r"\((\d+)\)", other)],
        )


def _within(task: Any, around: Any) -> bool:
    """Whether a task began while another was at work."""
    if task.start_time is None or around.start_time is None:
        return True
    ended = around.end_time is not None and around.end_time >= around.start_time
    return bool(task.start_time >= around.start_time and not (ended and task.start_time > around.end_time))


def _children(task: Any) -> list[str]:
    return [child.pod_name for child in task.child_tasks or [] if child.pod_name]


def _last(name: str) -> str:
    return name.rsplit(".", 1)[-1]


def _hash(text: str) -> int:
    """FNV-1a, 32 bits."""
    value = 0x811C9DC5
    for byte in text.encode():
        value = ((value ^ byte) * 0x01000193) & 0xFFFFFFFF
    return value

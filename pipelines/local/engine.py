"""The child process of ``lorry run``: runs a compiled pipeline document with kfp.local and reports what happens.

Its standard output carries the steps' own output and, in lines that begin with ``EVENT``, JSON events of steps. It
ends with its parent: when the pipe on its standard input closes, it ends its whole process group.

kfp.local reports a task only in its log, and gives no outputs of a pipeline that fails. So two functions that run a
task (kfp 2.17) are wrapped: ``execute_single_task``, which reads the cache, and the one that it calls for a task
that is not in there.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import threading
import time
import warnings
from pathlib import Path
from typing import Any

from components.runtime.parent_death import call_on_parent_death
from components.storage.run_notes import FOLDER_VARIABLE
from pipelines.config.steps import step_of_task
from pipelines.local.workdir import NOTES, SUCCEEDED

EVENT = "\x1e"
SECONDS_TO_SAVE = 15.0


class TaskEvents:
    """Wraps the two functions of kfp.local: events go to standard output, outputs to ``path``, a line a task."""

    def __init__(self, path: Path) -> None:
        self._path = path
        # ParallelFor runs its iterations in threads.
        self._task = threading.local()

    def install(self) -> None:
        """Replace the functions in kfp's modules."""
        from kfp.local import task_dispatcher
        from kfp.local.orchestrator import task_executor

        execute, run = task_executor.execute_single_task, task_dispatcher.run_single_task_implementation

        def execute_and_report(task_name: str, *args: Any, **kwargs: Any) -> Any:
            self._task.step, self._task.started = step_of_task(task_name), False
            outputs, status = execute(task_name, *args, **kwargs)
            self._event(status.value.lower() if self._task.started else "reused")
            self._write(outputs)
            return outputs, status

        def report_and_run(*args: Any, **kwargs: Any) -> Any:
            if not self._task.started:  # a retry is no new start
                self._task.started = True
                self._event("started")
            return run(*args, **kwargs)

        task_executor.execute_single_task = execute_and_report
        task_dispatcher.run_single_task_implementation = report_and_run

    def _event(self, event: str) -> None:
        sys.stdout.write(f"{EVENT}{json.dumps({'event': event, 'step': self._task.step})}\n")
        sys.stdout.flush()

    def _write(self, outputs: dict[str, Any]) -> None:
        from kfp import dsl

        artifacts = {
            name: {"path": artifact.path, "metadata": artifact.metadata}
            for name, artifact in outputs.items()
            if isinstance(artifact, dsl.Artifact)
        }
        append(self._path, {"step": self._task.step, "outputs": artifacts})


def append(path: Path, line: dict[str, Any]) -> None:
    """Add a line of JSON to a file."""
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")


def _end_process_group() -> None:
    os.killpg(0, signal.SIGTERM)
    time.sleep(SECONDS_TO_SAVE)
    os.killpg(0, signal.SIGKILL)


def _run(job: dict[str, Any]) -> None:
    from kfp import components, local

    outputs = Path(job["outputs"])
    os.environ[FOLDER_VARIABLE] = str(outputs.with_name(NOTES))
    TaskEvents(outputs).install()
    local.init(
        runner=local.SubprocessRunner(use_venv=False),
        pipeline_root=job["pipeline_root"],
        enable_caching=True,
        cache_root=job["cache_root"],
    )
    components.load_component_from_file(job["document"])(**job["arguments"])
    append(outputs, {"state": SUCCEEDED})


def main() -> int:
    """Run the job whose JSON file is the first argument; 1 when a step failed."""
    # The running step gets SIGTERM too (the group is one) and may save; this process only waits for it.
    signal.signal(signal.SIGTERM, lambda *_: None)
    call_on_parent_death(_end_process_group)
    warnings.filterwarnings("ignore", module=r"kfp\..*")
    logging.getLogger().addFilter(lambda record: False)  # events report what kfp.local logs
    try:
        _run(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
    except RuntimeError as error:
        # kfp.local raises this for a failed step; the step's own output has the reason.
        if "Inner task failed" not in str(error):
            raise
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

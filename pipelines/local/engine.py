"""The child process of ``lorry run``: runs a compiled pipeline document with kfp.local and reports what happens.

Its standard output carries, line by line, the steps' own output and, marked by ``EVENT``, JSON events. It ends with
its parent: when the pipe on its standard input closes, it ends its whole process group.
"""

from __future__ import annotations

import json
import logging
import os
import re
import signal
import sys
import time
import warnings
from pathlib import Path
from typing import Any

from components.runtime.parent_death import call_on_parent_death
from pipelines.terminal.progress import step_of

EVENT = "\x1e"
SECONDS_TO_SAVE = 15.0

_ANSI = re.compile(r"\x1b\[[0-9;]*m")
_STARTED = re.compile(r"^Executing task '?([\w-]+?)'?$")
_REUSED = re.compile(r"^Task '?([\w-]+?)'? cache hit ")
_ENDED = re.compile(r"^Task '?([\w-]+?)'? finished with status (\w+)")


def event_of(message: str) -> dict[str, str] | None:
    """What a log message of kfp.local says about a step, or None."""
    text = _ANSI.sub("", message).strip()
    if match := _STARTED.match(text):
        return {"event": "started", "step": step_of(match[1])}
    if match := _REUSED.match(text):
        return {"event": "reused", "step": step_of(match[1])}
    if match := _ENDED.match(text):
        return {"event": match[2].lower(), "step": step_of(match[1])}
    return None


class _Events(logging.Filter):
    """Turns kfp.local's messages into events: it replaces the root logger's handlers, but not its filters."""

    def filter(self, record: logging.LogRecord) -> bool:
        event = event_of(record.getMessage())
        if event is not None:
            sys.stdout.write(f"{EVENT}{json.dumps(event)}\n")
            sys.stdout.flush()
        return False


def _end_process_group() -> None:
    os.killpg(0, signal.SIGTERM)
    time.sleep(SECONDS_TO_SAVE)
    os.killpg(0, signal.SIGKILL)


def _note_outputs(path: Path) -> None:
    """Append a line a finished task to ``path``: a pipeline that fails gives no outputs, those of its tasks stand."""
    from kfp import dsl
    from kfp.local.orchestrator import task_executor

    execute = task_executor.execute_single_task

    def execute_and_note(task_name: str, *args: Any, **kwargs: Any) -> Any:
        outputs, state = execute(task_name, *args, **kwargs)
        made = {
            name: {"path": artifact.path, "metadata": artifact.metadata}
            for name, artifact in outputs.items()
            if isinstance(artifact, dsl.Artifact)
        }
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step_of(task_name), "outputs": made}) + "\n")
        return outputs, state

    task_executor.execute_single_task = execute_and_note


def _run(job: dict[str, Any]) -> None:
    from kfp import components, dsl, local

    _note_outputs(Path(job["outputs"]))
    local.init(
        runner=local.SubprocessRunner(use_venv=False),
        pipeline_root=job["pipeline_root"],
        enable_caching=True,
        cache_root=job["cache_root"],
    )
    pipeline = components.load_component_from_file(job["document"])
    outputs = pipeline(**job["arguments"]).outputs
    made = {
        name: {"path": artifact.path, "metadata": artifact.metadata}
        for name, artifact in outputs.items()
        if isinstance(artifact, dsl.Artifact)
    }
    Path(job["result"]).write_text(json.dumps(made, indent=2) + "\n", encoding="utf-8")


def main() -> int:
    """Run the job whose JSON file is the first argument; 1 when a step failed."""
    # The step in work gets SIGTERM too (the group is one) and may save; this process only waits for it.
    signal.signal(signal.SIGTERM, lambda *_: None)
    call_on_parent_death(_end_process_group)
    warnings.filterwarnings("ignore", module=r"kfp\..*")
    logging.getLogger().addFilter(_Events())
    logging.getLogger().setLevel(logging.INFO)  # kfp.local says "cache hit" outside its own logging context
    try:
        _run(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
    except RuntimeError as error:
        # kfp.local's word for a failed step; the step's own output has said why.
        if "Inner task failed" not in str(error):
            raise
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

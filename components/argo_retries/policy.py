"""The retry policy, and how it is added to a controller's configuration without changing the rest."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from components.errors import ClusterError

# A deleted pod has the status Error; one whose node shut down, that was evicted, or whose container was killed, is
# Failed with a message that says so. Not retried: an error of the user, which ends with exit code 1; a pod that ran
# out of memory, which would do so again; and the DAG around a step, which has no message of its own.
EXPRESSION = (
    "lastRetry.message != '' && !(lastRetry.message matches 'OOMKilled') && (lastRetry.status == 'Error' || "
    "lastRetry.message matches '(?i)(imminent node shutdown|preempt|evict|exit code 137)')"
)
LIMIT = "2"
POLICY = {"limit": LIMIT, "retryPolicy": "Always", "expression": EXPRESSION}
# The policy of Kubeflow Pipelines 2.17, which retries only pods with the status Error.
KUBEFLOW_POLICY = {"limit": LIMIT, "retryPolicy": "OnError"}
DEFAULTS = "workflowDefaults"
# Older installations have the whole configuration as one text under this key.
WHOLE = "config"


def with_retry_policy(data: Mapping[str, str], where: str) -> dict[str, str]:
    """The controller's ConfigMap with the policy under ``spec.templateDefaults`` of its workflow defaults.

    Everything else stays unchanged, including comments.

    Raises:
        ClusterError: Argo could not read its text, or it has another retry policy already.
    """
    if WHOLE in data and DEFAULTS not in data:
        whole = _mapping(data[WHOLE], f"{where}, key {WHOLE}")
        if whole.get(DEFAULTS) is None:
            whole[DEFAULTS] = {}
        if not isinstance(whole[DEFAULTS], dict):
            raise _unusable(where, f"{DEFAULTS} is no mapping")
        _set(whole[DEFAULTS], where)
        return {**data, WHOLE: _text(whole)}
    defaults = _mapping(data.get(DEFAULTS, ""), f"{where}, key {DEFAULTS}")
    _set(defaults, where)
    changed = {**data, DEFAULTS: _text(defaults)}
    # A difference in white space alone is no change.
    return dict(data) if _mapping(data.get(DEFAULTS, ""), where) == defaults else changed


def _set(defaults: Any, where: str) -> None:
    template: Any = defaults
    for key in ("spec", "templateDefaults"):
        if template.get(key) is None:
            template[key] = {}
        if not isinstance(template[key], dict):
            raise _unusable(where, f"{key} is no mapping")
        template = template[key]
    present = template.get("retryStrategy")
    if present is not None and not isinstance(present, dict):
        raise _unusable(where, "retryStrategy is no mapping")
    plain = None if present is None else {str(key): str(value) for key, value in present.items()}
    if plain not in (None, KUBEFLOW_POLICY, POLICY):
        raise ClusterError(
            f"{where}: has another retryStrategy already ({plain}); nothing was changed: remove it, or set in it "
            f"by hand: retryPolicy: Always, expression: {EXPRESSION}"
        )
    template["retryStrategy"] = dict(POLICY)


def _mapping(text: str, where: str) -> Any:
    try:
        found = _yaml().load(text)
    except YAMLError as error:
        raise _unusable(where, " ".join(str(error).split())[:200]) from error
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise _unusable(where, "it is no mapping")
    return found


def _unusable(where: str, why: str) -> ClusterError:
    return ClusterError(
        f"{where}: cannot be read as Argo's configuration ({why}); nothing was changed: correct it first"
    )


def _text(document: Any) -> str:
    stream = io.StringIO()
    _yaml().dump(document, stream)
    return stream.getvalue()


def _yaml() -> YAML:
    yaml = YAML(typ="rt")
    yaml.width = 1000
    # "yes" without its quotes is another value to Argo's reader.
    yaml.preserve_quotes = True
    return yaml

"""The policy, and putting it into a controller's configuration that has other content."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from components.errors import ClusterError

# A pod that was deleted is an Error; one whose node shut down, that was evicted, or whose container was killed, has
# Failed, and says so. An error of the user's ends with exit code 1, and is not tried again; nor is what had not enough
# memory, which has not enough the next time either. A DAG around a step has no message of its own, and is not tried
# again for its step.
EXPRESSION = (
    "lastRetry.message != '' && !(lastRetry.message matches 'OOMKilled') && (lastRetry.status == 'Error' || "
    "lastRetry.message matches '(?i)(imminent node shutdown|preempt|evict|exit code 137)')"
)
LIMIT = "2"
POLICY = {"limit": LIMIT, "retryPolicy": "Always", "expression": EXPRESSION}
# What Kubeflow Pipelines 2.17 comes with: it retries what Argo calls an Error.
KUBEFLOWS = {"limit": LIMIT, "retryPolicy": "OnError"}
DEFAULTS = "workflowDefaults"
# Older installations have the whole configuration as one text under this key.
WHOLE = "config"


def with_retry_policy(data: Mapping[str, str], where: str) -> dict[str, str]:
    """The controller's ConfigMap with the policy under ``spec.templateDefaults`` of its workflow defaults.

    Everything else stays as it is, comments too.

    Raises:
        ClusterError: its text is none that Argo reads, or it has a retry policy of somebody's own.
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
    # The same content in other white space is no change.
    return dict(data) if _mapping(data.get(DEFAULTS, ""), where) == defaults else changed


def _set(defaults: Any, where: str) -> None:
    template: Any = defaults
    for key in ("spec", "templateDefaults"):
        if template.get(key) is None:
            template[key] = {}
        if not isinstance(template[key], dict):
            raise _unusable(where, f"{key} is no mapping")
        template = template[key]
    there = template.get("retryStrategy")
    if there is not None and not isinstance(there, dict):
        raise _unusable(where, "retryStrategy is no mapping")
    plain = None if there is None else {str(key): str(value) for key, value in there.items()}
    if plain not in (None, KUBEFLOWS, POLICY):
        raise ClusterError(
            f"{where}: has a retryStrategy of its own ({plain}); nothing is changed: remove it there, or put into it "
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
    return ClusterError(f"{where}: cannot be read as Argo's configuration ({why}); nothing is changed: mend it first")


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

"""The retry policy in the configuration of Argo's controller, whatever other content it has."""

from __future__ import annotations

import pytest
from ruamel.yaml import YAML

from components.argo_retries.policy import EXPRESSION, POLICY, with_retry_policy
from components.errors import ClusterError

# As Kubeflow Pipelines 2.17 has it, with a line of somebody's own.
DEFAULTS = """\
# ours: keep for a day
spec:
  ttlStrategy:
    secondsAfterCompletion: 86400
  templateDefaults:
    retryStrategy:
      limit: '2'
      retryPolicy: OnError
"""
OTHERS = {"artifactRepository": "archiveLogs: true\n", "executor": "imagePullPolicy: IfNotPresent\n"}


def loaded(text: str):
    return YAML(typ="safe").load(text)


def test_the_policy_takes_the_place_of_kubeflows_and_all_else_stays():
    changed = with_retry_policy({**OTHERS, "workflowDefaults": DEFAULTS}, "ConfigMap c")
    assert {name: text for name, text in changed.items() if name != "workflowDefaults"} == OTHERS
    spec = loaded(changed["workflowDefaults"])["spec"]
    assert spec["templateDefaults"] == {"retryStrategy": POLICY}
    assert spec["ttlStrategy"] == {"secondsAfterCompletion": 86400}
    assert changed["workflowDefaults"].startswith("# ours: keep for a day\n")


def test_what_argo_would_read_otherwise_without_its_quotes_keeps_them():
    text = 'spec:\n  arguments:\n    parameters: [{name: a, value: "yes"}]\n  templateDefaults:\n'
    changed = with_retry_policy({"workflowDefaults": text}, "ConfigMap c")["workflowDefaults"]
    assert 'value: "yes"' in changed
    assert loaded(changed)["spec"]["templateDefaults"]["retryStrategy"] == POLICY


def test_a_second_time_changes_nothing():
    once = with_retry_policy({"workflowDefaults": DEFAULTS}, "ConfigMap c")
    assert with_retry_policy(once, "ConfigMap c") == once


def test_defaults_that_are_not_there_are_made():
    changed = with_retry_policy(OTHERS, "ConfigMap c")
    assert loaded(changed["workflowDefaults"]) == {"spec": {"templateDefaults": {"retryStrategy": POLICY}}}


def test_an_older_installations_one_text_gets_it_in_its_place():
    changed = with_retry_policy({"config": "executor: {imagePullPolicy: Always}\n"}, "ConfigMap c")
    assert set(changed) == {"config"}
    whole = loaded(changed["config"])
    assert whole["executor"] == {"imagePullPolicy": "Always"}
    assert whole["workflowDefaults"]["spec"]["templateDefaults"]["retryStrategy"]["expression"] == EXPRESSION


@pytest.mark.parametrize(
    ("text", "fact"),
    [
        ("spec: [", "key workflowDefaults: cannot be read as Argo's configuration (while parsing"),
        ("- a\n- b\n", "(it is no mapping); nothing was changed: correct it first"),
        ("spec: {templateDefaults: {retryStrategy: x}}\n", "(retryStrategy is no mapping); nothing was changed"),
        ("spec: {templateDefaults: none}\n", "(templateDefaults is no mapping); nothing was changed"),
        (
            "spec: {templateDefaults: {retryStrategy: {limit: 5, retryPolicy: Always}}}\n",
            "has another retryStrategy already ({'limit': '5', 'retryPolicy': 'Always'}); nothing was changed",
        ),
    ],
)
def test_what_is_none_of_kubeflows_is_left_alone_with_the_reason(text, fact):
    with pytest.raises(ClusterError) as caught:
        with_retry_policy({"workflowDefaults": text}, "ConfigMap c")
    assert fact in str(caught.value)

"""``python -m components.argo_retries``: the one-shot Job of manifests/components/argo-retries."""

from __future__ import annotations

from typing import Annotated

import typer

from components.argo_retries.config_map import ConfigMap
from components.argo_retries.policy import with_retry_policy


def argo_retries(
    name: Annotated[str, typer.Option(help="ConfigMap of the workflow controller")] = "workflow-controller-configmap",
) -> None:
    """Let Argo's controller, in this pod's namespace, retry pods that were lost or killed."""
    config_map = ConfigMap.in_this_namespace(name)
    data = config_map.read()
    changed = with_retry_policy(data, f"ConfigMap {name}")
    if changed == data:
        typer.echo(f"ConfigMap {name}: has the retry policy already")
        return
    config_map.replace(changed)
    typer.echo(
        f"ConfigMap {name}: pods that were lost or killed are retried; the controller reads it without a restart"
    )

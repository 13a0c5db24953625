"""What `lorry deploy` and `lorry rollback` do, as commands that a person can type."""

from __future__ import annotations

import shlex
from pathlib import Path

from pipelines.cluster.deploy.deploy import Wanted
from pipelines.cluster.deploy.workloads import servers_of, service_of, workloads_of
from pipelines.cluster.kubectl import Kubectl
from pipelines.cluster.overlay import load_overlay


def deploy_commands(wanted: Wanted, kubectl: Kubectl, seconds: float) -> list[str]:
    """Those of a deploy, in order; the last ones are for one that fails.

    Raises:
        RecipeError: the folder is no overlay of Lorry's.
        ClusterError: kubectl cannot render it.
    """
    overlay = load_overlay(kubectl, wanted.folder)
    here = kubectl.in_namespace(overlay.namespace)
    folder = str(wanted.folder)
    options = {"--model": wanted.model, "--store": wanted.store, "--server": wanted.server}
    given = [word for option, value in options.items() if value for word in (option, value)]
    names = [one.name for one in workloads_of(overlay)]
    asked = [
        f"{here.command('port-forward', f'service/{service_of(overlay, one.name)}', ':8080')}  "
        "# then ask /v1/models and /v1/chat/completions, and compare with the manifest's proof"
        for one in servers_of(overlay)
    ]
    return [
        shlex.join(["lorry", "pin", folder, *given]),
        kubectl.command("diff", "-k", folder),
        kubectl.command("apply", "-k", folder),
        *(here.command("rollout", "status", f"deployment/{name}", f"--timeout={seconds:.0f}s") for name in names),
        *asked,
        "# if it fails:",
        *(here.command("rollout", "undo", f"deployment/{name}") for name in names),
        f"# and {shlex.quote(f'{folder}/pinned')} as it was",
    ]


def rollback_commands(folder: Path, name: str, to_revision: int | None, kubectl: Kubectl) -> list[str]:
    """Those of a roll-back.

    Raises:
        RecipeError: the folder is no overlay of Lorry's.
        ClusterError: kubectl cannot render it.
    """
    here = kubectl.in_namespace(load_overlay(kubectl, folder).namespace)
    revision = (f"--to-revision={to_revision}",) if to_revision is not None else ()
    return [
        here.command("rollout", "undo", f"deployment/{name}", *revision),
        here.command("rollout", "status", f"deployment/{name}"),
        f"# then pin the model that runs: lorry pin {shlex.quote(str(folder))} --model SHA256",
    ]

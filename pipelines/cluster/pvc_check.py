"""Looking at a cluster's volumes before a run that would wait for them in vain."""

from __future__ import annotations

from collections.abc import Iterable

from components.errors import ClusterError
from pipelines.config.pools import Placement

WRITABLE = {"ReadWriteOnce", "ReadWriteMany", "ReadWriteOncePod"}
SECONDS_TO_ANSWER = 15


def check_claims(context: str, namespace: str, placement: Placement, claims: Iterable[str]) -> None:
    """Check, through a context of the kubeconfig, that the namespace has every claim of a run, and can write to it.

    Raises:
        ClusterError: the cluster does not answer or refuses, or a namespace or claim is missing or read-only.
    """
    import urllib3
    from kubernetes import client, config
    from kubernetes.client.exceptions import ApiException

    try:
        core = client.CoreV1Api(config.new_client_from_config(context=context))
        core.read_namespace(namespace, _request_timeout=SECONDS_TO_ANSWER)
        found = core.list_namespaced_persistent_volume_claim(namespace, _request_timeout=SECONDS_TO_ANSWER).items
        modes = {claim.metadata.name: set(claim.spec.access_modes) for claim in found}
    except config.ConfigException as error:
        raise ClusterError(f"--context {context}: {error}; see kubectl config get-contexts") from error
    except ApiException as error:
        if error.status == 404:
            raise ClusterError(
                f"namespace {namespace!r}: the cluster has none; name another with --namespace"
            ) from error
        raise ClusterError(f"--context {context}: the cluster refuses ({error.status} {error.reason})") from error
    except urllib3.exceptions.HTTPError as error:
        reason = getattr(error, "reason", None) or error
        raise ClusterError(f"--context {context}: the cluster does not answer ({reason})") from error
    except (ValueError, TypeError, AttributeError) as error:  # the client's, over a page of another server
        raise ClusterError(
            f"--context {context}: its server answers, but not as Kubernetes does: it is another server, or a login "
            "page; correct the context's address, or log in again"
        ) from error
    for name in dict.fromkeys((placement.checkpoints_claim, placement.hub_cache_claim, *claims)):
        if name not in modes:
            raise ClusterError(
                f"volume claim {name!r}: namespace {namespace!r} has none; make it with kubectl apply -k "
                "manifests/overlays/local/pipelines, or name another in the recipe's placement section"
            )
        if not modes[name] & WRITABLE:
            raise ClusterError(
                f"volume claim {name!r}: its access mode is {', '.join(sorted(modes[name]))}, which cannot be written; "
                "make it anew with ReadWriteOnce, or ReadWriteMany for a sweep"
            )

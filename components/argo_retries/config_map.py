"""One ConfigMap of this pod's namespace, through the pod's own account (the data image has no client of Kubernetes)."""

from __future__ import annotations

import json
import os
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from components.errors import ClusterError

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
SECONDS_TO_ANSWER = 30


@dataclass
class ConfigMap:
    """Reads and replaces; between the two, nobody else may have changed it."""

    url: str
    token: str
    context: ssl.SSLContext | None
    _read: Any = None

    @classmethod
    def in_this_namespace(cls, name: str) -> ConfigMap:
        """The one of this name, where this pod runs.

        Raises:
            ClusterError: this is no pod, or it has no account.
        """
        host = os.environ.get("KUBERNETES_SERVICE_HOST")
        try:
            token, namespace = ((ACCOUNT / part).read_text().strip() for part in ("token", "namespace"))
        except OSError as error:
            raise ClusterError(f"{error.filename}: not there; this runs as a Job, see docs/cluster.md") from error
        port = os.environ.get("KUBERNETES_SERVICE_PORT", "443")
        address = f"https://{f'[{host}]' if host and ':' in host else host}:{port}"
        url = f"{address}/api/v1/namespaces/{namespace}/configmaps/{name}"
        return cls(url, token, ssl.create_default_context(cafile=str(ACCOUNT / "ca.crt")))

    def read(self) -> dict[str, str]:
        """Its data.

        Raises:
            ClusterError: it is not there, or the cluster refuses.
        """
        self._read = self._ask("GET")
        return dict(self._read.get("data") or {})

    def replace(self, data: Mapping[str, str]) -> None:
        """Put ``data`` in the place of what was read.

        Raises:
            ClusterError: the cluster refuses; somebody may have changed it in between.
        """
        self._ask("PUT", {**self._read, "data": dict(data)})

    def _ask(self, method: str, body: Any = None) -> Any:
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
        content = None if body is None else json.dumps(body).encode()
        request = Request(self.url, content, headers, method=method)
        try:
            with urlopen(request, timeout=SECONDS_TO_ANSWER, context=self.context) as answer:
                return json.load(answer)
        except HTTPError as error:
            raise ClusterError(f"{self.url}: the cluster answers {error.code} {error.reason} to {method}") from error
        except (URLError, TimeoutError) as error:
            raise ClusterError(f"{self.url}: the cluster does not answer ({error})") from error

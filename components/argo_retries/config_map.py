"""One ConfigMap of this pod's namespace, by the pod's service account (the data image has no Kubernetes client)."""

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
    """Reads and replaces a ConfigMap; the cluster refuses the replacement if it was changed in between."""

    url: str
    token: str
    context: ssl.SSLContext | None
    _document: Any = None

    @classmethod
    def in_this_namespace(cls, name: str) -> ConfigMap:
        """The ConfigMap ``name`` of the namespace of this pod.

        Raises:
            ClusterError: this is no pod, or it has no service account.
        """
        host = os.environ.get("KUBERNETES_SERVICE_HOST")
        try:
            token, namespace = ((ACCOUNT / part).read_text().strip() for part in ("token", "namespace"))
        except OSError as error:
            raise ClusterError(
                f"{error.filename}: no such file; this command runs as a Job, see docs/cluster.md"
            ) from error
        port = os.environ.get("KUBERNETES_SERVICE_PORT", "443")
        address = f"https://{f'[{host}]' if host and ':' in host else host}:{port}"
        url = f"{address}/api/v1/namespaces/{namespace}/configmaps/{name}"
        return cls(url, token, ssl.create_default_context(cafile=str(ACCOUNT / "ca.crt")))

    def read(self) -> dict[str, str]:
        """Its data.

        Raises:
            ClusterError: it does not exist, or the cluster refuses.
        """
        self._document = self._request("GET")
        return dict(self._document.get("data") or {})

    def replace(self, data: Mapping[str, str]) -> None:
        """Replace the data that was read with ``data``.

        Raises:
            ClusterError: the cluster refuses; it may have been changed in between.
        """
        self._request("PUT", {**self._document, "data": dict(data)})

    def _request(self, method: str, body: Any = None) -> Any:
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
        content = None if body is None else json.dumps(body).encode()
        request = Request(self.url, content, headers, method=method)
        try:
            with urlopen(request, timeout=SECONDS_TO_ANSWER, context=self.context) as response:
                return json.load(response)
        except HTTPError as error:
            raise ClusterError(f"{self.url}: the cluster answers {error.code} {error.reason} to {method}") from error
        except (URLError, TimeoutError) as error:
            raise ClusterError(f"{self.url}: the cluster does not answer ({error})") from error

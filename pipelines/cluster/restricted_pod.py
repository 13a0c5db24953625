"""What a pod that Lorry makes by itself has, so that it passes the Pod Security Standard "restricted"."""

from __future__ import annotations

from typing import Any

CONTAINER_SECURITY: dict[str, Any] = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}

"""Where a step runs: which image. Registry and tag come from here and nowhere else."""

from __future__ import annotations

from typing import Any

VERSION = "0.1.0"


def place(document: dict[str, Any]) -> dict[str, Any]:
    """The compiled pipeline ``document`` with registry and tag on every image that a component names."""
    for executor in document["deploymentSpec"]["executors"].values():
        container = executor["container"]
        container["image"] = f"{container['image']}:{VERSION}"
    return document

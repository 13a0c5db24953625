"""Options that several commands have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

DEFAULT_WORKDIR = Path(".lorry")

RecipePath = Annotated[Path, typer.Argument(help="a recipe (YAML); the shipped ones lie in pipelines/recipes")]
WorkdirPath = Annotated[
    Path, typer.Option("--workdir", envvar="LORRY_WORKDIR", help="folder for everything that runs make")
]
PoolName = Annotated[
    str | None,
    typer.Option("--pool", help="where training and evaluation run: t4, a100, cpu, or one of the recipe's own"),
]
Endpoint = Annotated[
    str, typer.Option(envvar="KFP_ENDPOINT", help="address of Kubeflow Pipelines, such as http://127.0.0.1:8081")
]
Namespace = Annotated[
    str | None, typer.Option(envvar="KFP_NAMESPACE", help="your namespace, where Kubeflow serves several users")
]
Experiment = Annotated[str, typer.Option(envvar="KFP_EXPERIMENT", help="which experiment the run belongs to")]
StoreAddress = Annotated[
    str | None,
    typer.Option(envvar="LORRY_STORE", help="in place of the recipe's publish.store: s3://…, gs://… or pvc://…"),
]
Context = Annotated[
    str | None,
    typer.Option(
        help="a context of your kubeconfig: check first whether the cluster has the recipe's PVCs; with --wait it "
        "is also where the reason is read why a pod does not start (default: the current one)"
    ),
]
KubeContext = Annotated[
    str | None, typer.Option("--context", help="a context of your kubeconfig; default: the current one")
]
PipelineRoot = Annotated[
    str | None,
    typer.Option(
        envvar="KFP_PIPELINE_ROOT",
        help="where Kubeflow keeps what steps make, and their logs; without it the run's own setting, or the default "
        "s3://mlpipeline/v2/artifacts",
    ),
]
LookSeconds = Annotated[float, typer.Option(min=0.01, help="seconds between two requests for the run's state")]
RunId = Annotated[
    str, typer.Argument(metavar="RUN", help="a run's id (see lorry runs list), the beginning of one, or latest")
]

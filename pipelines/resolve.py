"""Resolving a recipe: files become digests, hub ids become commits, defaults are written out."""

from __future__ import annotations

import hashlib
import logging
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from subprocess import PIPE, STDOUT
from typing import Any

from pydantic import BaseModel, ConfigDict

from components.contracts import BaseModelRef
from components.digest import sha256_of
from components.errors import DataError, LorryError, ModelError
from components.evaluate.config import EvaluateConfig
from components.evaluate.prompts import read_prompts
from components.export_gguf.config import ExportConfig
from components.split_data.config import SplitConfig
from components.train_lora.config import TrainConfig
from pipelines.addresses import DEMO_BASE, is_hub_id
from pipelines.recipe import Recipe
from pipelines.stopping import interrupt_on_sigterm

log = logging.getLogger(__name__)

MODEL_FILES = ("*.safetensors", "*.json", "*.jinja", "*.model", "*.txt")


class ResolvedRecipe(BaseModel):
    """A recipe whose every input is pinned; ``arguments`` are the pipeline's parameters."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    base_model: BaseModelRef
    split: SplitConfig
    train: TrainConfig
    evaluate: EvaluateConfig
    export: ExportConfig

    def arguments(self, checkpoint_root: Path) -> dict[str, Any]:
        """The pipeline's parameters, defaults written out; a missing key means None, which KFP cannot carry."""
        sections = self.model_dump(mode="json", exclude={"name"}, exclude_none=True)
        return {**sections, "checkpoint_root": str(checkpoint_root)}


def resolve(recipe: Recipe, workdir: Path, tell: Callable[[str], None]) -> ResolvedRecipe:
    """Pin every input; the demo's base model is made under ``workdir`` when it is not there yet.

    ``tell`` gets a line about each thing that takes time.

    Raises:
        DataError: data or prompts are not there.
        ModelError: the base model is not there, or is no model folder.
    """
    prompts = recipe.evaluate.prompts
    if prompts is not None:
        read_prompts(Path(prompts))
    return ResolvedRecipe(
        name=recipe.name,
        base_model=_resolve_base(recipe, workdir, tell),
        split=recipe.split.model_copy(update={"data_revision": _data_revision(recipe.split)}),
        train=recipe.train,
        evaluate=recipe.evaluate.model_copy(
            update={"prompts_revision": None if prompts is None else sha256_of(Path(prompts))}
        ),
        export=recipe.export,
    )


def _data_revision(split: SplitConfig) -> str:
    if not is_hub_id(split.data):
        path = Path(split.data)
        if not path.is_file():
            raise DataError(f"{path}: no such file; mend split.data")
        digest = sha256_of(path)
        if split.data_revision not in (None, digest):
            raise DataError(
                f"{path}: split.data_revision names another content than the file has (sha256 {digest}); "
                "mend it, or leave it out"
            )
        return digest
    from huggingface_hub import dataset_info

    info = _ask_hub("data set", split.data, lambda: dataset_info(split.data, revision=split.data_revision), DataError)
    return str(info.sha)


def _ask_hub(kind: str, address: str, look_up: Callable[[], Any], error_type: type[LorryError]) -> Any:
    """What the hub says of a repository; its refusal in words that say what to do."""
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    try:
        return look_up()
    except (HfHubHTTPError, OfflineModeIsEnabled, OSError, ValueError) as error:
        first_line = str(error).strip().splitlines()[0]
        raise error_type(
            f"{address}: no such file or folder here, and the hub gives no such {kind} ({first_line}); "
            "check the name, the network and HF_TOKEN, or give a local path"
        ) from error


def _resolve_base(recipe: Recipe, workdir: Path, tell: Callable[[str], None]) -> BaseModelRef:
    if recipe.base_model == DEMO_BASE:
        return _local_base(_make_demo_base(workdir / "base-models", tell))
    if not is_hub_id(recipe.base_model):
        return _local_base(Path(recipe.base_model))
    from huggingface_hub import model_info

    def look_up() -> Any:
        return model_info(recipe.base_model, revision=recipe.base_revision, files_metadata=True)

    info = _ask_hub("model", recipe.base_model, look_up, ModelError)
    card = info.card_data
    files = info.siblings or []
    weight_bytes = sum(file.size or 0 for file in files if file.rfilename.endswith(".safetensors"))
    if not weight_bytes:
        raise ModelError(f"{recipe.base_model}: has no safetensors weights; choose a base model that has them")
    named = card.get("license") if card else None
    return BaseModelRef(address=recipe.base_model, revision=str(info.sha), weight_bytes=weight_bytes, license=named)


def _local_base(folder: Path) -> BaseModelRef:
    if not (folder / "config.json").is_file():
        raise ModelError(f"{folder}: no base model there (no config.json); mend base_model")
    weights = sorted(folder.glob("*.safetensors"))
    if not weights:
        raise ModelError(f"{folder}: has no safetensors weights; save the model with safetensors")
    digest = hashlib.sha256()
    for path in sorted({path for pattern in MODEL_FILES for path in folder.glob(pattern)}):
        digest.update(f"{path.name}:{sha256_of(path)}\n".encode())
    return BaseModelRef(
        address=str(folder.absolute()),
        revision=digest.hexdigest(),
        weight_bytes=sum(path.stat().st_size for path in weights),
        license=_license(folder / "README.md"),
    )


def _license(card: Path) -> str | None:
    """The licence that a model card names, or None."""
    from huggingface_hub import ModelCard

    named = ModelCard.load(card).data.get("license") if card.is_file() else None
    return None if named is None else str(named)


def _make_demo_base(root: Path, tell: Callable[[str], None]) -> Path:
    # A child process: torch takes seconds to load, and the command line must not need it.
    command = [sys.executable, "-m", "pipelines.demo_base", str(root)]
    lines = []
    with interrupt_on_sigterm(), subprocess.Popen(command, stdout=PIPE, stderr=STDOUT, text=True) as child:
        assert child.stdout is not None
        try:
            for line in child.stdout:
                lines.append(line.rstrip())
                tell(line.rstrip())
        finally:
            child.terminate()  # it has ended already unless this process is told to stop
    if child.returncode != 0:
        raise ModelError("the demo's base model could not be made: " + " ".join(lines[-1:]))
    return Path(lines[-1])

"""``lorry push``: a finished run's adapter, GGUF file and card to a repository of the hub."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

from components.artifacts.run_record import read_record
from components.errors import HubError, ModelError
from pipelines.local.workdir import OUTPUTS, SUCCEEDED, RunResult, Workdir, read_result
from pipelines.publish.model_card import model_card

# What peft writes beside the adapter: a card of its own, which has less.
NOT_PUSHED = {"README.md"}
REFUSED = (401, 403)


def find_run(run: Path | None, workdir: Workdir) -> RunResult:
    """The run at ``run``, or the last finished one of the work folder.

    Raises:
        ModelError: there is none.
    """
    if run is None:
        result = workdir.latest_result()
        if result is None:
            raise ModelError(f"{workdir.runs}: no finished run; run a recipe first, or give --run")
        return result
    result = read_result(run)
    if result is None:
        raise ModelError(
            f"{run}: no finished run ({OUTPUTS} does not end with {SUCCEEDED}); give a folder of .lorry/runs"
        )
    return result


def card_of(result: RunResult, repository: str) -> str:
    """The card that would be pushed.

    Raises:
        ModelError: the run's files are gone.
    """
    for what, path in (("adapter", result.adapter), ("model", result.model.parent)):
        if not path.is_dir():
            raise ModelError(f"{path}: the {what} of {result.folder.name} is gone; run its recipe again")
    return model_card(result, repository)


def files_of(result: RunResult) -> Iterator[tuple[str, Path]]:
    """What is pushed beside the card: its name in the repository, and where it lies."""
    for folder in (result.adapter, result.model.parent):
        for path in sorted(folder.iterdir()):
            if path.is_file() and path.name not in NOT_PUSHED:
                yield path.name, path


def without_paths(path: Path, result: RunResult) -> str:
    """A text file of the run; a base model of this machine is named by its folder's name alone."""
    text = path.read_text(encoding="utf-8")
    base = read_record(str(result.adapter)).base_model
    for ref in (base, base.to_merge_into):
        if ref.is_local:
            text = text.replace(ref.address, Path(ref.address).name)
    return text


def push(result: RunResult, repository: str, card: str, *, private: bool, report: Callable[[str], None]) -> str:
    """Make the repository where it is not there, and put everything into it in one commit; give its address.

    The token is ``HF_TOKEN``'s.

    Raises:
        HubError: there is no token, the hub refuses it or the name, or does not answer.
    """
    import httpx2
    from huggingface_hub import CommitOperationAdd, HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, OfflineModeIsEnabled

    token = os.environ.get("HF_TOKEN")
    if not token:
        raise HubError("HF_TOKEN is not set: make a token that may write on the hub's settings page, and export it")
    api = HfApi(token=token)
    try:
        address = api.create_repo(repository, private=private, exist_ok=True)
        operations = [CommitOperationAdd("README.md", card.encode())]
        for name, path in files_of(result):
            report(f"{name}: {path.stat().st_size / 1e6:.1f} MB")
            content = str(path) if path.suffix not in (".json", ".jsonl") else without_paths(path, result).encode()
            operations.append(CommitOperationAdd(name, content))
        api.create_commit(repository, operations, commit_message=f"Run {result.folder.name}")
    except HFValidationError as error:
        raise HubError(f"{repository}: not a repository's name ({error}); give owner/name") from error
    except HfHubHTTPError as error:
        status = error.response.status_code if error.response is not None else None
        reason = " ".join(str(error).split())
        if status in REFUSED:
            raise HubError(
                f"{repository}: the hub refuses HF_TOKEN ({status}); take a token that may write there, and check "
                "the owner's name"
            ) from error
        raise HubError(f"{repository}: the hub answers {status} ({reason}); try again") from error
    except (OfflineModeIsEnabled, httpx2.HTTPError, OSError) as error:
        reason = " ".join(str(error).split())
        raise HubError(
            f"{repository}: the hub does not answer ({reason}); check the network and HF_ENDPOINT"
        ) from error
    return str(address)

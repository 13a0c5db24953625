"""The KFP face of a rung's end."""

from typing import List  # noqa: UP035  # KFP knows no other form for a list of artifacts

from kfp import dsl


@dsl.component(base_image="lorry/data", install_kfp_package=False)
def promote_trials(
    trials: list[dict],
    fraction: float,
    reduction_factor: int,
    code: str,
    records: dsl.Input[List[dsl.Artifact]],  # noqa: UP006
    runs: dsl.Output[dsl.Artifact],
    earlier: dsl.Input[dsl.Artifact] = None,
) -> list[dict]:
    """Gather the rung's records beside those of earlier rungs; give the trials to continue."""
    from components.runtime.kfp_step import step

    with step("promote_trials", inputs=[*records, *([] if earlier is None else [earlier])]):
        from components.promote_trials.promote import promote

        return promote(
            trials,
            fraction=fraction,
            reduction_factor=reduction_factor,
            record_paths=[record.path for record in records],
            earlier_path=None if earlier is None else earlier.path,
            runs_path=runs.path,
        )

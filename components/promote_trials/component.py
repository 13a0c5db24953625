"""The KFP face of the end of a rung."""

from typing import List  # noqa: UP035  # KFP accepts no other type for a list of artifacts

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
    """Collect the rung's records beside those of earlier rungs; return the trials to continue."""
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

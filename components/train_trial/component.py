"""The KFP face of a trial."""

from kfp import dsl


@dsl.component(base_image="lorry/train", install_kfp_package=False)
def train_trial(
    trial: dict,
    config: dict,
    base_model: dict,
    fraction: float,
    code: str,
    trial_code: str,
    pool: str,
    checkpoint_root: str,
    train: dsl.Input[dsl.Dataset],
    validation: dsl.Input[dsl.Dataset],
    record: dsl.Output[dsl.Artifact],
    metrics: dsl.Output[dsl.Metrics],
) -> None:
    """Train one trial of a sweep to the end of its rung."""
    from components.runtime.kfp_step import step

    with step("train_trial", inputs=[train, validation], trial=trial["name"], fraction=fraction) as work:
        from components.artifacts.contracts import BaseModelRef, Trial
        from components.train_lora.config import TrainConfig
        from components.train_trial.trial import run_trial

        done = run_trial(
            Trial.model_validate(trial),
            TrainConfig.model_validate(config),
            BaseModelRef.model_validate(base_model),
            fraction=fraction,
            code=code,
            checkpoint_root=checkpoint_root,
            train_path=train.path,
            validation_path=validation.path,
            record_path=record.path,
        )
        names = {"best_eval_loss", "final_eval_loss", "steps", "minutes", "tokens_per_second"}
        work.log_metrics(metrics, done.model_dump(include=names))

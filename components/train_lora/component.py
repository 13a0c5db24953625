"""The KFP face of training."""

from kfp import dsl


@dsl.component(base_image="lorry/train", install_kfp_package=False)
def train_lora(
    config: dict,
    base_model: dict,
    code: str,
    checkpoint_root: str,
    train: dsl.Input[dsl.Dataset],
    validation: dsl.Input[dsl.Dataset],
    adapter: dsl.Output[dsl.Model],
    metrics: dsl.Output[dsl.Metrics],
) -> None:
    """Train a LoRA adapter, with loss on the assistant's messages only."""
    from components.runtime.kfp_step import step

    with step("train_lora", inputs=[train, validation]) as work:
        from components.artifacts.contracts import BaseModelRef
        from components.train_lora.config import TrainConfig
        from components.train_lora.supervise import train_supervised

        record = train_supervised(
            TrainConfig.model_validate(config),
            BaseModelRef.model_validate(base_model),
            code=code,
            checkpoint_root=checkpoint_root,
            train_path=train.path,
            validation_path=validation.path,
            adapter_path=adapter.path,
        )
        names = (
            "base_eval_loss",
            "best_eval_loss",
            "best_step",
            "final_eval_loss",
            "steps",
            "minutes",
            "tokens_per_second",
        )
        work.log_metrics(metrics, record.model_dump(include=set(names)))

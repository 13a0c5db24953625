"""The KFP face of the gate."""

from kfp import dsl


@dsl.component(base_image="lorry/data", install_kfp_package=False)
def gate(
    config: dict,
    code: str,
    evaluation: dsl.Input[dsl.Metrics],
    gguf_evaluation: dsl.Input[dsl.Metrics],
    metrics: dsl.Output[dsl.Metrics],
) -> None:
    """Fail when a figure is outside the recipe's bounds."""
    from components.runtime.kfp_step import logged_metrics, step

    with step("gate") as work:
        from components.gate.config import GateConfig
        from components.gate.gate import require_within

        measured = {**logged_metrics(evaluation), **logged_metrics(gguf_evaluation)}
        work.log_metrics(metrics, require_within(GateConfig.model_validate(config), measured))

"""The KFP face of measuring the quantized file."""

from kfp import dsl


@dsl.component(base_image="lorry/export", install_kfp_package=False)
def evaluate_gguf(
    config: dict,
    evaluate: dict,
    base_model: dict,
    code: str,
    adapter: dsl.Input[dsl.Model],
    model: dsl.Input[dsl.Model],
    validation: dsl.Input[dsl.Dataset],
    report: dsl.Output[dsl.HTML],
    answers: dsl.Output[dsl.Artifact],
    metrics: dsl.Output[dsl.Metrics],
) -> None:
    """Compare the quantized file with f16 on the same rows, and time its answers."""
    from components.runtime.kfp_step import step

    with step("evaluate_gguf", inputs=[adapter, model, validation]) as work:
        from components.artifacts.contracts import BaseModelRef
        from components.evaluate.config import EvaluateConfig
        from components.evaluate_gguf.config import EvaluateGgufConfig
        from components.evaluate_gguf.evaluate import evaluate_gguf as measure

        figures = measure(
            EvaluateGgufConfig.model_validate(config),
            EvaluateConfig.model_validate(evaluate),
            BaseModelRef.model_validate(base_model),
            adapter_path=adapter.path,
            model_path=model.path,
            validation_path=validation.path,
            report_path=report.path,
            answers_path=answers.path,
        )
        work.log_metrics(metrics, figures)

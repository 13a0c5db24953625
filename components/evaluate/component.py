"""The KFP face of the evaluation."""

from kfp import dsl


@dsl.component(base_image="lorry/train", install_kfp_package=False)
def evaluate(
    config: dict,
    base_model: dict,
    code: str,
    adapter: dsl.Input[dsl.Model],
    validation: dsl.Input[dsl.Dataset],
    test: dsl.Input[dsl.Dataset],
    report: dsl.Output[dsl.HTML],
    samples: dsl.Output[dsl.Artifact],
    metrics: dsl.Output[dsl.Metrics],
) -> None:
    """Measure base and tuned model on the same rows and prompts."""
    from components.runtime.kfp_step import step

    with step("evaluate", inputs=[adapter, validation, test]) as work:
        from components.artifacts.contracts import BaseModelRef
        from components.evaluate.config import EvaluateConfig
        from components.evaluate.evaluate import evaluate as evaluate_pair

        figures = evaluate_pair(
            EvaluateConfig.model_validate(config),
            BaseModelRef.model_validate(base_model),
            adapter_path=adapter.path,
            validation_path=validation.path,
            test_path=test.path,
            report_path=report.path,
            samples_path=samples.path,
        )
        work.log_metrics(metrics, figures)

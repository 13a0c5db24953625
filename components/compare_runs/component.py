"""The KFP face of the comparison."""

from kfp import dsl


@dsl.component(base_image="lorry/data", install_kfp_package=False)
def compare_runs(
    config: dict,
    code: str,
    trials: list[dict],
    runs: dsl.Input[dsl.Artifact],
    report: dsl.Output[dsl.HTML],
    table: dsl.Output[dsl.Markdown],
    curves: dsl.Output[dsl.Artifact],
    comparison: dsl.Output[dsl.Artifact],
    best_recipe: dsl.Output[dsl.Artifact],
    metrics: dsl.Output[dsl.Metrics],
) -> list[dict]:
    """Compare the trials of a sweep; return those of ``trials`` that are the best on their validation rows."""
    from components.runtime.kfp_step import step

    with step("compare_runs", inputs=[runs]) as work:
        from components.compare_runs.config import CompareConfig
        from components.compare_runs.sweep import compare_trials

        winners, figures = compare_trials(
            CompareConfig.model_validate(config),
            trials,
            runs_path=runs.path,
            report_path=report.path,
            table_path=table.path,
            curves_path=curves.path,
            comparison_path=comparison.path,
            best_recipe_path=best_recipe.path,
        )
        work.log_metrics(metrics, figures)
        return winners

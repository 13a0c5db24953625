"""The KFP face of the split."""

from kfp import dsl


@dsl.component(base_image="lorry/data", install_kfp_package=False)
def split_data(
    config: dict,
    code: str,
    train: dsl.Output[dsl.Dataset],
    validation: dsl.Output[dsl.Dataset],
    test: dsl.Output[dsl.Dataset],
    report: dsl.Output[dsl.HTML],
    summary: dsl.Output[dsl.Artifact],
    outcomes: dsl.Output[dsl.Artifact],
    metrics: dsl.Output[dsl.Metrics],
) -> None:
    """Split a chat data set into train, validation and test rows."""
    from components.runtime.kfp_step import step
    from components.split_data.config import SplitConfig
    from components.split_data.split import SplitOutputs, split

    with step("split_data") as work:
        paths = SplitOutputs(train.path, validation.path, test.path, report.path, summary.path, outcomes.path)
        work.log_metrics(metrics, split(SplitConfig.model_validate(config), paths))

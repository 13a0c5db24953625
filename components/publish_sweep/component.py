"""The KFP face of publishing a sweep: its comparison, and then each winner's figures on the test rows."""

from kfp import dsl


@dsl.component(base_image="lorry/data", install_kfp_package=False)
def publish_sweep(
    config: dict,
    code: str,
    run: str,
    report: dsl.Input[dsl.HTML] = None,
    table: dsl.Input[dsl.Markdown] = None,
    curves: dsl.Input[dsl.Artifact] = None,
    comparison: dsl.Input[dsl.Artifact] = None,
    best_recipe: dsl.Input[dsl.Artifact] = None,
    winner: dict = {},  # noqa: B006  # KFP takes the default from the signature, and the body does not change it
    evaluation: dsl.Input[dsl.Metrics] = None,
) -> None:
    """Put a sweep's reports, or a winner's figures, into the store."""
    from components.runtime.kfp_step import logged_metrics, step

    made = {"report": report, "table": table, "curves": curves, "comparison": comparison, "best_recipe": best_recipe}
    given = {name: artifact for name, artifact in made.items() if artifact is not None}
    # The best recipe is an empty file where no trial has a loss.
    with step("publish_sweep", inputs=[given[name] for name in given if name != "best_recipe"]):
        from components.publish_model.config import PublishConfig
        from components.publish_sweep.publish import publish_comparison, publish_winner

        section = PublishConfig.model_validate(config)
        publish_comparison(section, run, {name: artifact.path for name, artifact in given.items()})
        if evaluation is not None:
            publish_winner(section, run, winner["name"], logged_metrics(evaluation))

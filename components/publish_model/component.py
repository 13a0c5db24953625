"""The KFP face of publishing."""

from kfp import dsl


@dsl.component(base_image="lorry/data", install_kfp_package=False)
def publish_model(
    config: dict,
    code: str,
    recipe: str,
    run: str,
    model: dsl.Input[dsl.Model],
    split_metrics: dsl.Input[dsl.Metrics],
    train_metrics: dsl.Input[dsl.Metrics],
    evaluation_metrics: dsl.Input[dsl.Metrics],
    export_metrics: dsl.Input[dsl.Metrics],
    gguf_metrics: dsl.Input[dsl.Metrics],
    published: dsl.Output[dsl.Artifact],
) -> None:
    """Put the model into the store, completely or not at all, and point ``current`` to it."""
    from components.runtime.kfp_step import logged_metrics, step

    with step("publish_model", inputs=[model]):
        from components.publish_model.config import PublishConfig
        from components.publish_model.publish import publish, publish_figures, publish_image

        section = PublishConfig.model_validate(config)
        manifest = publish(section, model_path=model.path, recipe=recipe, measured=logged_metrics(gguf_metrics))
        image = publish_image(section, model_path=model.path, manifest=manifest)
        measured = (split_metrics, train_metrics, evaluation_metrics, export_metrics, gguf_metrics)
        steps = ("split_data", "train_lora", "evaluate", "export_gguf", "evaluate_gguf")
        figures = {name: metrics.metadata for name, metrics in zip(steps, measured, strict=True)}
        found = {"sha256": manifest.sha256, "store": section.store, **({"image": image} if image else {})}
        publish_figures(section, run, {**figures, "model": found})
        with open(published.path, "w", encoding="utf-8") as file:
            file.write(manifest.model_dump_json(indent=2))
        published.metadata.update(found)

"""The KFP face of the export."""

from kfp import dsl


@dsl.component(base_image="lorry/export", install_kfp_package=False)
def export_gguf(
    config: dict,
    base_model: dict,
    code: str,
    adapter: dsl.Input[dsl.Model],
    evaluation: dsl.Input[dsl.Metrics],
    validation: dsl.Input[dsl.Dataset],
    model: dsl.Output[dsl.Model],
    metrics: dsl.Output[dsl.Metrics],
) -> None:
    """Merge, convert to GGUF, quantize, and check that the file tokenizes prompts as training did, and answers."""
    from components.runtime.kfp_step import logged_metrics, step

    with step("export_gguf", inputs=[adapter, validation]) as work:
        from components.artifacts.contracts import BaseModelRef
        from components.export_gguf.config import ExportConfig
        from components.export_gguf.export import export

        manifest = export(
            ExportConfig.model_validate(config),
            BaseModelRef.model_validate(base_model),
            adapter_path=adapter.path,
            evaluation=logged_metrics(evaluation),
            model_path=model.path,
            validation_path=validation.path,
        )
        figures = manifest.model_dump(include={"size_bytes", "f16_size_bytes", "reduction", "n_parameters"})
        work.log_metrics(metrics, figures)
        model.metadata.update(sha256=manifest.sha256, quantization=manifest.quantization)

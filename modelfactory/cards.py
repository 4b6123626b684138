"""The card that travels with an exported adapter, as Markdown."""

from modelfactory.models import Model


def model_card(model: Model) -> str:
    """What it is, what it was made of, how good it is, and how to load it."""
    facts, base = model.evaluation, model.base_model
    versions = model.run.run_versions.select_related("version__datanet")
    lines = [
        "---",
        f"license: {model.licence.lower()}",
        "library_name: peft",
        "---",
        "",
        f"# {model.name}",
        "",
        model.summary,
        "",
        f"A LoRA adapter for **{base.name}** (weights {base.weights_sha256}), trained by "
        f"{model.owner} on:",
        "",
        *[
            f"- {rv.version.datanet.name}, version {rv.version.number}, "
            f"{rv.version.record_count} records, {rv.version.licence}, root {rv.version.root}"
            for rv in versions
        ],
        "",
        f"On {facts['held_out_records']} held-out records the loss went from "
        f"{facts['loss_before']:.4f} to {facts['loss_after']:.4f} (perplexity "
        f"{facts['perplexity_before']:.1f} to {facts['perplexity_after']:.1f}).",
        "",
        f"Adapter SHA-256: {model.adapter_sha256}",
        f"Manifest SHA-256: {model.manifest_sha256} (canonical JSON, signed with Ed25519)",
        "",
        "    from peft import PeftModel",
        '    model = PeftModel.from_pretrained(base, "this folder")',
        "",
    ]
    return "\n".join(lines)

"""The card that travels with an exported adapter, as Markdown."""

from modelfactory.lineage import lineage_versions
from modelfactory.models import Model


def model_card(model: Model) -> str:
    """What it is, what it was made of, how good it is, and how to load it."""
    facts, base = model.evaluation, model.base_model
    versions = lineage_versions(model.run)
    parents = model.run.parents.select_related("model__owner")
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
            f"- {version.datanet.name}, version {version.number}, "
            f"{version.record_count} records, {version.licence}, root {version.root}"
            for version in versions
        ],
        *[
            f"- from the adapter of {one.model.name} by {one.model.owner} ({one.weight / 100:g} %, "
            f"SHA-256 {one.model.adapter_sha256})"
            for one in parents
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

from django.apps import AppConfig
from django.urls import reverse


class ServingConfig(AppConfig):
    """Deployments, completions, the OpenAI-compatible API."""

    name = "serving"

    def ready(self) -> None:
        from accounts import events, leases, pages
        from attribution import texts
        from serving.models import UNFINISHED, Completion, Deployment, DeploymentState, Embedding
        from serving.models.retrieval import RETRIEVAL_IN_WORK, RetrievalIndex
        from serving.selectors import (
            deployment_url,
            model_deployment_url,
            model_playground_url,
            pin_url,
            prompt_tokens_url,
            texts_of,
        )
        from serving.services import deployments, embeddings, retrieval, running

        leases.register(
            Deployment,
            running_states=[DeploymentState.REQUESTED],
            requeue=deployments.request_again,
            fail=deployments.fail_request,
        )
        leases.register(
            Completion,
            running_states=UNFINISHED,
            requeue=running.run_again,
            fail=running.give_up,
        )
        leases.register(
            Embedding,
            running_states=Embedding.UNFINISHED,
            requeue=embeddings.run_again,
            fail=embeddings.give_up,
        )
        leases.register(
            RetrievalIndex,
            running_states=RETRIEVAL_IN_WORK,
            requeue=retrieval.build_again,
            fail=retrieval.give_up,
        )
        for verb in ("withdrawn", "taken_down"):
            events.subscribe(f"datanets.record_{verb}", task="serving.tasks.record_withheld")
        events.subscribe("attribution.receipt_created", task="serving.tasks.note_receipt")
        pages.register("completion", lambda pk: reverse("serving:completion", args=[pk]))
        pages.register("prompt_tokens_of_completion", prompt_tokens_url)
        pages.register("deployment", deployment_url)
        pages.register("pin", pin_url)
        pages.register("spending_of_key", lambda pk: f"{reverse('serving:completions')}?key={pk}")
        pages.register("deployment_of_model", model_deployment_url)
        pages.register("playground_of_model", model_playground_url)
        pages.register("deploy", lambda pk: f"{reverse('serving:deploy')}?model={pk}")
        texts.register(texts_of)

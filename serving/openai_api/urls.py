from django.urls import path

from serving.openai_api import views

urlpatterns = [
    path("chat/completions", views.chat_completions, name="v1-chat-completions"),
    path("completions", views.completions, name="v1-completions"),
    path("embeddings", views.embeddings, name="v1-embeddings"),
    path("models", views.models, name="v1-models"),
    path("models/<path:name>", views.model, name="v1-model"),
    path("<path:rest>", views.unknown, name="v1-unknown"),
]

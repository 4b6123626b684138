from django.urls import include, path

from serving import playground, views, views_engines, views_pins, views_replicas, views_retrieval

app_name = "serving"
urlpatterns = [
    path("playground/", playground.page, name="playground"),
    path("playground/quote/", playground.quote, name="quote"),
    path("playground/ask/", playground.ask, name="ask"),
    path("deployments/", views.deployments, name="deployments"),
    path("deployments/new/", views.deploy, name="deploy"),
    path("deployments/<slug:name>/", views.deployment, name="deployment"),
    path("deployments/<slug:name>/stop/", views.stop, name="stop"),
    path("deployments/<slug:name>/start/", views.start, name="start"),
    path("deployments/<slug:name>/prices/", views.prices, name="prices"),
    path("deployments/<slug:name>/retrieval/", views_retrieval.retrieval, name="retrieval"),
    path("deployments/<slug:name>/pin/", views_pins.pin, name="pin"),
    path("completions/", views.completions, name="completions"),
    path("completions.csv", views.completions_csv, name="completions_csv"),
    path("completions/<uuid:pk>/", views.completion, name="completion"),
    path("completions/<uuid:pk>/prompt-tokens/", views.prompt_tokens, name="prompt_tokens"),
    path("completions/<uuid:pk>/cancel/", views.cancel, name="cancel"),
    path("staff/engines/", views_engines.engines, name="engines"),
    path("staff/replicas/", views_replicas.replicas, name="replicas"),
    path("staff/replicas/new/", views_replicas.new, name="new_replica"),
    path("staff/replicas/<slug:name>/", views_replicas.replica, name="replica"),
    path("staff/replicas/<slug:name>/remove/", views_replicas.remove, name="remove_replica"),
    path("metrics", views_engines.metrics, name="metrics"),
    path("v1/", include("serving.openai_api.urls")),
]

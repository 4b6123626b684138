from typing import Any

from django.urls import path

from modelfactory import api

listing: Any = {"get": "list"}
single: Any = {"get": "retrieve"}

urlpatterns = [
    path("base-models/", api.BaseModelViewSet.as_view(listing), name="api-base-models"),
    path("base-models/<slug:slug>/", api.BaseModelViewSet.as_view(single), name="api-base-model"),
    path("runs/", api.RunViewSet.as_view({**listing, "post": "create"}), name="api-runs"),
    path("runs/<uuid:pk>/", api.RunViewSet.as_view(single), name="api-run"),
    path(
        "runs/<uuid:pk>/events/", api.RunViewSet.as_view({"get": "events"}), name="api-run-events"
    ),
    path("models/", api.ModelViewSet.as_view(listing), name="api-models"),
    path("models/merge/", api.ModelViewSet.as_view({"post": "merge"}), name="api-merge"),
    path("models/<slug:slug>/", api.ModelViewSet.as_view(single), name="api-model"),
    path(
        "models/<slug:slug>/stakers/",
        api.ModelViewSet.as_view({"put": "stakers"}),
        name="api-model-stakers",
    ),
]

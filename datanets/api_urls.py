from typing import Any

from django.urls import path

from datanets import api, api_slashes

listing: dict[str, Any] = {"get": "list"}
single: dict[str, Any] = {"get": "retrieve"}

urlpatterns = [
    path("datanets/", api.DatanetViewSet.as_view(listing), name="api-datanets"),
    path("datanets/<slug:slug>/", api.DatanetViewSet.as_view(single), name="api-datanet"),
    path(
        "datanets/<slug:slug>/stake/",
        api_slashes.DatanetStakeView.as_view(),
        name="api-datanet-stake",
    ),
    path(
        "datanets/<slug:slug>/records/",
        api.DatanetRecordViewSet.as_view(listing),
        name="api-datanet-records",
    ),
    path(
        "datanets/<slug:slug>/versions/",
        api.VersionViewSet.as_view(listing),
        name="api-datanet-versions",
    ),
    path(
        "datanets/<slug:slug>/versions/<int:number>/",
        api.VersionViewSet.as_view(single),
        name="api-datanet-version",
    ),
    path(
        "datanets/<slug:slug>/versions/<int:number>/derive/",
        api.VersionViewSet.as_view({"post": "derive"}),
        name="api-derive-datanet",
    ),
    path("contributions/", api.ContributionViewSet.as_view(listing), name="api-contributions"),
    path(
        "contributions/<uuid:pk>/",
        api.ContributionViewSet.as_view(single),
        name="api-contribution",
    ),
    path(
        "contributions/<uuid:pk>/reviews/",
        api.ReviewViewSet.as_view(listing),
        name="api-contribution-reviews",
    ),
    path(
        "contributions/<uuid:pk>/stake/",
        api_slashes.ContributionStakeView.as_view(),
        name="api-contribution-stake",
    ),
    path(
        "contributions/<uuid:pk>/slashes/",
        api_slashes.ContributionSlashesView.as_view(),
        name="api-contribution-slashes",
    ),
    path("slashes/", api_slashes.SlashesView.as_view(), name="api-slashes"),
    path("slashes/<uuid:pk>/", api_slashes.SlashView.as_view(), name="api-slash"),
    path("slashes/<uuid:pk>/appeal/", api_slashes.AppealView.as_view(), name="api-slash-appeal"),
    path(
        "slashes/<uuid:pk>/decision/", api_slashes.DecisionView.as_view(), name="api-slash-decision"
    ),
    path("records/<uuid:pk>/", api.RecordViewSet.as_view(single), name="api-record"),
]

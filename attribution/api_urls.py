from typing import Any

from django.urls import path

from attribution import api, api_graph

listing: dict[str, Any] = {"get": "list"}
single: dict[str, Any] = {"get": "retrieve"}
proof: dict[str, Any] = {"get": "proof"}
private: dict[str, Any] = {"get": "private"}
receipt = api.ReceiptViewSet.as_view

urlpatterns = [
    path("receipts/", receipt(listing), name="api-receipts"),
    path("receipts/<uuid:pk>/", receipt(single), name="api-receipt"),
    path("receipts/<uuid:pk>/proof/", receipt(proof), name="api-receipt-proof"),
    path("receipts/<uuid:pk>/private/", receipt(private), name="api-receipt-private"),
    path("graph/", api_graph.GraphView.as_view(), name="api-graph"),
    path(
        "leaderboards/<str:kind>/",
        api_graph.LeaderboardView.as_view(),
        name="api-leaderboard",
    ),
    path("indexes/", api.IndexViewSet.as_view(listing), name="api-indexes"),
    path("indexes/<slug:slug>/", api.IndexViewSet.as_view(single), name="api-index"),
]

from typing import Any

from django.urls import path

from attribution import api, api_exact_audits, api_graph, api_rescorings

listing: dict[str, Any] = {"get": "list"}
single: dict[str, Any] = {"get": "retrieve"}
proof: dict[str, Any] = {"get": "proof"}
private: dict[str, Any] = {"get": "private"}
rescorings: dict[str, Any] = {"get": "rescorings", "post": "rescore"}
exact_audits: dict[str, Any] = {"get": "exact_audits", "post": "audit_exactly"}
receipt = api.ReceiptViewSet.as_view
rescoring = api_rescorings.RescoringViewSet.as_view
exact_audit = api_exact_audits.ExactAuditViewSet.as_view

urlpatterns = [
    path("receipts/", receipt(listing), name="api-receipts"),
    path("receipts/<uuid:pk>/", receipt(single), name="api-receipt"),
    path("receipts/<uuid:pk>/proof/", receipt(proof), name="api-receipt-proof"),
    path("receipts/<uuid:pk>/private/", receipt(private), name="api-receipt-private"),
    path("receipts/<uuid:pk>/rescorings/", receipt(rescorings), name="api-receipt-rescorings"),
    path("rescorings/<uuid:pk>/", rescoring(single), name="api-rescoring"),
    path("rescorings/<uuid:pk>/proof/", rescoring(proof), name="api-rescoring-proof"),
    path("rescorings/<uuid:pk>/private/", rescoring(private), name="api-rescoring-private"),
    path(
        "receipts/<uuid:pk>/exact-audits/", receipt(exact_audits), name="api-receipt-exact-audits"
    ),
    path("exact-audits/<uuid:pk>/", exact_audit(single), name="api-exact-audit"),
    path("exact-audits/<uuid:pk>/proof/", exact_audit(proof), name="api-exact-audit-proof"),
    path("graph/", api_graph.GraphView.as_view(), name="api-graph"),
    path(
        "leaderboards/<str:kind>/",
        api_graph.LeaderboardView.as_view(),
        name="api-leaderboard",
    ),
    path("indexes/", api.IndexViewSet.as_view(listing), name="api-indexes"),
    path("indexes/<slug:slug>/", api.IndexViewSet.as_view(single), name="api-index"),
]

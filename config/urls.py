"""All addresses of the product: each room brings its own."""

from django.urls import include, path
from drf_spectacular.views import SpectacularAPIView

from config import api, local_chain, views

urlpatterns = [
    path("", views.home, name="home"),
    path("activity/", views.activity, name="activity"),
    path("health/", views.health, name="health"),
    path("favicon.ico", views.favicon, name="favicon"),
    path("search/", views.search, name="search"),
    path("explorer/", views.explorer, name="explorer"),
    path("status/", views.status_page, name="status"),
    path("staff/", views.staff, name="staff"),
    path("staff/reconcile/", views.reconcile, name="reconcile"),
    path("staff/lift-halt/", views.lift_halt, name="lift-halt"),
    path("staff/lift-cap/<uuid:intent_id>/", views.lift_cap, name="lift-cap"),
    path("local-chain/rpc/", local_chain.rpc, name="local-chain-rpc"),
    path("accounts/", include("allauth.urls")),
    path("people/", include("accounts.people.urls")),
    path("", include("datanets.urls")),
    path("", include("modelfactory.urls")),
    path("", include("attribution.urls")),
    path("", include("serving.urls")),
    path("", include("ledger.urls")),
    path("governance/", include("governance.urls")),
    path(
        "api/v1/",
        include(
            [
                path("schema/", SpectacularAPIView.as_view(), name="api-schema"),
                path("status/", api.StatusView.as_view(), name="api-status"),
                path("", include("accounts.api_urls")),
                path("", include("datanets.api_urls")),
                path("", include("modelfactory.api_urls")),
                path("", include("attribution.api_urls")),
                path("", include("serving.api_urls")),
                path("", include("ledger.api_urls")),
                path("", include("governance.api_urls")),
            ]
        ),
    ),
]

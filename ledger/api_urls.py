from django.urls import path

from ledger import api

urlpatterns = [
    path("entries/<uuid:pk>/", api.EntryView.as_view(), name="api-entry"),
    path("accounts/<uuid:pk>/", api.AccountView.as_view(), name="api-account"),
    path(
        "accounts/<uuid:pk>/postings/",
        api.AccountPostingsView.as_view(),
        name="api-account-postings",
    ),
    path("distributions/", api.DistributionsView.as_view(), name="api-distributions"),
    path("distributions/<uuid:pk>/", api.DistributionView.as_view(), name="api-distribution"),
    path("payouts/<str:address>/", api.PayoutView.as_view(), name="api-payout"),
    path("deposits/", api.DepositView.as_view(), name="api-deposits"),
    path("balance/", api.BalanceView.as_view(), name="api-balance"),
    path("earnings/", api.EarningsView.as_view(), name="api-earnings"),
]

from django.urls import path

from ledger import (
    api,
    api_chain,
    api_claims,
    api_earnings,
    api_payouts,
    api_refunds,
    api_slashes,
    api_spending,
    api_staking,
    api_withdrawals,
)

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
    path(
        "earnings/entries/",
        api_earnings.EarningsEntriesView.as_view(),
        name="api-earnings-entries",
    ),
    path("earnings/groups/", api_earnings.EarningsGroupsView.as_view(), name="api-earnings-groups"),
    path(
        "earnings/waiting/",
        api_earnings.EarningsWaitingView.as_view(),
        name="api-earnings-waiting",
    ),
    path("claims/", api_claims.ClaimsView.as_view(), name="api-claims"),
    path("claims/<uuid:pk>/", api_claims.ClaimView.as_view(), name="api-claim"),
    path("payout-choices/", api_payouts.PayoutChoicesView.as_view(), name="api-payout-choices"),
    path("payout-checks/", api_payouts.ProofCheckView.as_view(), name="api-proof-check"),
    path("statements/", api_earnings.StatementsView.as_view(), name="api-statements"),
    path("statements/<str:month>/", api_earnings.StatementView.as_view(), name="api-statement"),
    path("holds/", api_spending.HoldsView.as_view(), name="api-holds"),
    path("budget/", api_spending.BudgetView.as_view(), name="api-budget"),
    path("top-up/", api_spending.TopUpView.as_view(), name="api-top-up"),
    path("refunds/", api_refunds.RefundsView.as_view(), name="api-refunds"),
    path("withdrawals/", api_withdrawals.WithdrawalsView.as_view(), name="api-withdrawals"),
    path("withdrawals/<uuid:pk>/", api_withdrawals.WithdrawalView.as_view(), name="api-withdrawal"),
    path("intents/", api_chain.IntentsView.as_view(), name="api-intents"),
    path("intents/<uuid:pk>/", api_chain.IntentView.as_view(), name="api-intent"),
    path(
        "transactions/<str:tx_hash>/", api_chain.TransactionView.as_view(), name="api-transaction"
    ),
    path("blocks/<str:wanted>/", api_chain.BlockView.as_view(), name="api-block"),
    path("addresses/<str:wanted>/", api_chain.AddressView.as_view(), name="api-address"),
    path("staking/pools/", api_staking.StakePoolsView.as_view(), name="api-stake-pools"),
    path(
        "staking/pools/<str:pool_id>/", api_staking.StakePoolView.as_view(), name="api-stake-pool"
    ),
    path(
        "staking/pools/<str:pool_id>/slashes/",
        api_staking.PoolSlashesView.as_view(),
        name="api-pool-slashes",
    ),
    path(
        "staking/pools/<str:pool_id>/call/",
        api_staking.StakeCallView.as_view(),
        name="api-stake-call",
    ),
    path("staking/slashes/", api_slashes.AllPoolSlashesView.as_view(), name="api-all-pool-slashes"),
    path(
        "staking/slashes/<int:number>/",
        api_slashes.PoolSlashView.as_view(),
        name="api-pool-slash",
    ),
    path(
        "staking/slashes/<int:number>/appeal/",
        api_slashes.PoolSlashAppealView.as_view(),
        name="api-pool-slash-appeal",
    ),
    path(
        "staking/slashes/<int:number>/execute/",
        api_slashes.PoolSlashExecutionView.as_view(),
        name="api-pool-slash-execute",
    ),
    path(
        "staking/slashes/<int:number>/call/",
        api_slashes.PoolSlashCallView.as_view(),
        name="api-pool-slash-call",
    ),
    path(
        "staking/positions/", api_staking.StakePositionsView.as_view(), name="api-stake-positions"
    ),
    path("staking/solvency/", api_staking.SolvencyView.as_view(), name="api-stake-solvency"),
]

from django.urls import path, re_path

from ledger.views import (
    earnings,
    explorer,
    payouts,
    slashes,
    spending,
    staking,
    statements,
    wallet,
    withdrawals,
)

app_name = "ledger"
urlpatterns = [
    path("earnings/", earnings.earnings, name="earnings"),
    path("earnings/entries/", earnings.entries, name="earnings_entries"),
    path("earnings/entries.csv", earnings.entries_csv, name="earnings_csv"),
    path("earnings/spend/", earnings.spend, name="spend"),
    path("earnings/payouts/", payouts.choices, name="payout_choices"),
    path("earnings/claim/<str:address>/", earnings.claim, name="claim"),
    path("earnings/claims/<uuid:pk>/", earnings.claim_state, name="claim_state"),
    path("statements/", statements.index, name="statements"),
    path("statements/<str:month>/", statements.statement, name="statement"),
    path("statements/<str:month>.csv", statements.statement_csv, name="statement_csv"),
    path("staking/", staking.index, name="staking"),
    path("staking/slashes/<int:number>/", slashes.slash, name="pool_slash"),
    path("staking/slashes/<int:number>/execute/", slashes.execute, name="execute_pool_slash"),
    re_path(
        r"^staking/slashes/files/(?P<sha256>[0-9a-f]{64})\.json$", slashes.file, name="slash_file"
    ),
    path("staking/<str:pool_id>/", staking.pool, name="stake_pool"),
    path("staking/<str:pool_id>/slash/", slashes.propose, name="propose_pool_slash"),
    path("wallet/", wallet.wallet, name="wallet"),
    path("wallet/figures/", wallet.figures, name="wallet_figures"),
    path("wallet/holds/", spending.holds, name="holds"),
    path("wallet/holds.csv", spending.holds_csv, name="holds_csv"),
    path("wallet/budget/", spending.budget, name="budget"),
    path("wallet/top-up/", spending.top_up, name="top_up"),
    path("wallet/faucet/", wallet.faucet, name="faucet"),
    path("wallet/deposits/<uuid:pk>/", wallet.intent_state, name="intent_state"),
    path("wallet/withdraw/", withdrawals.withdraw, name="withdraw"),
    path("wallet/withdrawals/<uuid:pk>/", withdrawals.withdrawal_state, name="withdrawal_state"),
    path("explorer/entries/<uuid:pk>/", explorer.entry, name="entry"),
    path("explorer/accounts/<uuid:pk>/", explorer.account, name="account"),
    path("explorer/intents/<uuid:pk>/", explorer.intent, name="intent"),
    path("explorer/transactions/<str:tx_hash>/", explorer.transaction, name="transaction"),
    path("explorer/blocks/<str:wanted>/", explorer.block, name="block"),
    path("explorer/addresses/<str:wanted>/", explorer.address, name="address"),
    path("explorer/distributions/", explorer.distributions, name="distributions"),
    path("explorer/distributions/<uuid:pk>/", explorer.distribution, name="distribution"),
    path(
        "explorer/distributions/<uuid:pk>/leaves.json",
        explorer.distribution_data,
        name="distribution_data",
    ),
    path("explorer/distributions/<uuid:pk>/retry/", explorer.retry, name="distribution_retry"),
]

from django.urls import path

from attribution import urls_log
from attribution.views import by_file, exact, failed, graph, indexes, receipts, rescored

app_name = "attribution"
urlpatterns = [
    *urls_log.urlpatterns,
    path("receipts/", receipts.listing, name="receipts"),
    path("receipts/for/<uuid:completion_id>/", receipts.receipt_for, name="receipt_for"),
    path("receipts/for/<uuid:completion_id>/panel/", receipts.panel, name="panel"),
    path(
        "receipts/for/<uuid:completion_id>/try-again/",
        failed.try_answer_again,
        name="try_answer_again",
    ),
    path("staff/attributions/", failed.failed, name="failed"),
    path("staff/attributions/try-again/", failed.try_all_again, name="try_all_again"),
    path("receipts/<uuid:pk>/", receipts.receipt, name="receipt"),
    path("receipts/<uuid:pk>/proof.json", receipts.proof, name="proof"),
    path("receipts/<uuid:pk>/private.json", receipts.private, name="private"),
    path("receipts/<uuid:pk>/erase/", receipts.erase, name="erase"),
    path("receipts/<uuid:pk>/rescore/", rescored.ask, name="rescore"),
    path("receipts/rescored/<uuid:pk>/", rescored.page, name="rescored"),
    path("receipts/rescored/<uuid:pk>/proof.json", rescored.proof, name="rescored_proof"),
    path("receipts/rescored/<uuid:pk>/private.json", rescored.private, name="rescored_private"),
    path("receipts/<uuid:pk>/audit-exactly/", exact.ask, name="audit_exactly"),
    path("receipts/exact/<uuid:pk>/", exact.page, name="exact"),
    path("receipts/exact/<uuid:pk>/proof.json", exact.proof, name="exact_proof"),
    path("leaderboards/<str:kind>/", graph.leaderboard, name="leaderboard"),
    path("graph/", graph.payments, name="graph"),
    path("graph/over-time/<str:kind>/<uuid:pk>/", graph.over_time, name="over_time"),
    path("verify/file/", by_file.verify_by_file, name="verify_by_file"),
    path("indexes/of/<uuid:pk>/", indexes.of_model, name="index_of"),
    path("indexes/of/<uuid:pk>/rebuild/", indexes.rebuild, name="index_rebuild"),
    path("indexes/<str:root>/", indexes.index, name="index"),
    path("indexes/<str:root>/proof/<str:name>.json", indexes.statement, name="index_statement"),
    path("indexes/<str:root>/<str:name>", indexes.file, name="index_file"),
]

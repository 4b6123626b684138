from django.urls import include, path

from datanets.views import (
    contributions,
    datanets,
    derivation,
    records,
    review,
    slashes,
    staff,
    treasury,
    uploads,
    versions,
)

app_name = "datanets"

contribution_urls = [
    path("", contributions.contribution, name="contribution"),
    path("mapping/", contributions.set_mapping, name="set-mapping"),
    path("submit/", contributions.submit, name="submit"),
    path("retry/", contributions.retry, name="retry"),
    path("discard/", contributions.discard, name="discard"),
    path("withdraw/", contributions.withdraw, name="withdraw-contribution"),
    path("slash/", slashes.propose, name="propose-slash"),
    path("refused.csv", contributions.reject_file, {"ending": "csv"}, name="refused-csv"),
    path("refused.jsonl", contributions.reject_file, {"ending": "jsonl"}, name="refused-jsonl"),
]

record_urls = [
    path("", records.record, name="record"),
    path("withdraw/", records.withdraw, name="withdraw-record"),
    path("remove/", records.remove, name="remove-record"),
    path("report/", records.report, name="report-record"),
]

slash_urls = [
    path("", slashes.slash, name="slash"),
    path("appeal/", slashes.appeal, name="appeal-slash"),
    path("withdraw/", slashes.withdraw, name="withdraw-slash"),
    path("decide/", slashes.decide, name="decide-slash"),
]

datanet_urls = [
    path("", datanets.card, name="card"),
    path("edit/", datanets.edit, name="edit"),
    path("people/", datanets.people, name="people"),
    path("people/<uuid:membership_id>/remove/", datanets.remove_member, name="remove-member"),
    path("publication/", datanets.request_publication, name="request-publication"),
    path("report/", datanets.report, name="report"),
    path("contribute/", contributions.contribute, name="contribute"),
    path("uploads/", uploads.create, name="uploads"),
    path("uploads/<uuid:upload_id>/discard/", uploads.discard, name="discard-upload"),
    path("records/", records.index, name="records"),
    path("stakes/", slashes.index, name="stakes"),
    path("treasury/", treasury.pay_out, name="pay-out"),
    path("review/", review.queue, name="review"),
    path("review/all/", review.decide_all, name="review-all"),
    path("review/undo/", review.undo, name="review-undo"),
    path("review/<uuid:record_id>/", review.decide, name="review-record"),
    path("versions/", versions.index, name="versions"),
    path("versions/publish/", versions.publish, name="publish-version"),
    path("versions/<int:number>/", versions.version, name="version"),
    path("versions/<int:number>/derive/", derivation.derive, name="derive"),
    path("versions/<int:number>/manifest.json", versions.manifest, name="manifest"),
    path("versions/<int:number>/records.jsonl", versions.records_file, name="records-file"),
]

moderation_urls = [
    path("", staff.index, name="moderation"),
    path("datanets/<uuid:datanet_id>/approve/", staff.approve, name="approve"),
    path("datanets/<uuid:datanet_id>/send-back/", staff.send_back, name="send-back"),
    path("datanets/<uuid:datanet_id>/take-down/", staff.take_down_datanet, name="take-down"),
    path("records/<uuid:record_id>/take-down/", staff.take_down_record, name="take-down-record"),
    path("reports/<uuid:report_id>/", staff.resolve_report, name="resolve-report"),
]

urlpatterns = [
    path("datanets/", datanets.index, name="index"),
    path("datanets/new/", datanets.create, name="create"),
    path("datanets/contributions/", contributions.mine, name="my-contributions"),
    path("datanets/contributions/<uuid:contribution_id>/", include(contribution_urls)),
    path("datanets/uploads/<uuid:upload_id>/", uploads.upload, name="upload"),
    path("datanets/slashes/<uuid:slash_id>/", include(slash_urls)),
    path("datanets/records/<uuid:record_id>/", include(record_urls)),
    path("datanets/<slug:slug>/", include(datanet_urls)),
    path("staff/moderation/", include(moderation_urls)),
]

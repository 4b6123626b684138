from django.urls import path

from modelfactory.views import lineage, models, runs, wizard

app_name = "modelfactory"
urlpatterns = [
    path("models/", models.index, name="models"),
    path("models/bases/", models.bases, name="bases"),
    path("models/bases/new/", models.register_base, name="register-base"),
    path("models/bases/<slug:slug>/", models.base, name="base"),
    path("models/bases/<slug:slug>/check/", models.check_base, name="check-base"),
    path("models/<slug:slug>/", models.detail, name="model"),
    path("models/<slug:slug>/merge/", lineage.merge, name="merge"),
    path("models/<slug:slug>/publish/", models.publish, name="publish-model"),
    path("models/<slug:slug>/stakers/", models.set_stakers_part, name="model-stakers"),
    path("models/<slug:slug>/take-down/", models.take_down, name="take-down-model"),
    path("models/<slug:slug>/manifest.json", models.manifest, name="manifest"),
    path("models/<slug:slug>/adapter.zip", models.adapter, name="adapter"),
    path("runs/", runs.index, name="runs"),
    path("runs/<uuid:run_id>/", runs.detail, name="run"),
    path("runs/<uuid:run_id>/live.json", runs.live, name="run-live"),
    path("runs/<uuid:run_id>/cancel/", runs.cancel, name="cancel-run"),
    path("runs/<uuid:run_id>/restart/", runs.restart, name="restart-run"),
    path("wizard/", wizard.begin, name="wizard"),
    path("wizard/<uuid:run_id>/goal/", wizard.goal, name="wizard-goal"),
    path("wizard/<uuid:run_id>/data/", wizard.data, name="wizard-data"),
    path("wizard/<uuid:run_id>/base/", wizard.base, name="wizard-base"),
    path("wizard/<uuid:run_id>/settings/", wizard.settings, name="wizard-settings"),
    path("wizard/<uuid:run_id>/review/", wizard.review, name="wizard-review"),
    path("wizard/<uuid:run_id>/from-scratch/", lineage.from_scratch, name="from-scratch"),
    path("wizard/<uuid:run_id>/delete/", wizard.delete, name="delete-draft"),
]

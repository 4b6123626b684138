from django.urls import path

from governance import api

urlpatterns = [
    path("governance/parameters/", api.ParametersView.as_view(), name="api-parameters"),
    path(
        "governance/parameters/versions/",
        api.ParameterVersionsView.as_view(),
        name="api-parameter-versions",
    ),
    path("governance/proposals/", api.ProposalsView.as_view(), name="api-proposals"),
    path("governance/proposals/<str:number>/", api.ProposalView.as_view(), name="api-proposal"),
    path("governance/proposals/<str:number>/votes/", api.VotesView.as_view(), name="api-votes"),
    path("governance/power/<str:address>/", api.PowerView.as_view(), name="api-power"),
]

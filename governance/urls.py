from django.urls import path, re_path

from governance import views

app_name = "governance"
urlpatterns = [
    path("", views.index, name="index"),
    path("parameters/", views.parameters, name="parameters"),
    path("power/", views.power, name="power"),
    path("propose/split/", views.propose_split, name="propose_split"),
    path("propose/values/", views.propose_values, name="propose_values"),
    path("propose/text/", views.propose_text, name="propose_text"),
    path("calls/<slug:name>/", views.encode, name="encode"),
    re_path(r"^proposals/(?P<number>[0-9]{1,78})/$", views.proposal, name="proposal"),
    re_path(r"^proposals/(?P<number>[0-9]{1,78})/live/$", views.live, name="live"),
    re_path(r"^proposals/(?P<number>[0-9]{1,78})/vote/$", views.encode_vote, name="encode_vote"),
    re_path(
        r"^proposals/(?P<number>[0-9]{1,78})/(?P<function>queue|execute|cancel)/$",
        views.encode_step,
        name="encode_step",
    ),
]

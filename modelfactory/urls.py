from django.urls import URLPattern

app_name = "modelfactory"
urlpatterns: list[URLPattern] = []

from django.urls import URLPattern

app_name = "datanets"
urlpatterns: list[URLPattern] = []

from django.urls import path

from accounts import api

urlpatterns = [
    path("notifications/", api.NotificationsView.as_view(), name="api-notifications"),
]

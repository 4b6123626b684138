"""Under `log/`; `attribution.urls` includes these names into its own namespace."""

from django.urls import path

from attribution import views_log

urlpatterns = [
    path("log/", views_log.log_page, name="log"),
    path("log/checkpoint", views_log.checkpoint, name="log_checkpoint"),
    path("log/checkpoint/<int:size>", views_log.checkpoint_of, name="log_checkpoint_of"),
    path("log/checkpoints/<int:size>/", views_log.checkpoint_page, name="log_checkpoint_page"),
    path("log/tile/<path:path>", views_log.tile, name="log_tile"),
    path("log/consistency/<int:first>/<int:second>", views_log.consistency, name="log_consistency"),
]

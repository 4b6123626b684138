from attribution import urls_log

app_name = "attribution"
urlpatterns = [*urls_log.urlpatterns]

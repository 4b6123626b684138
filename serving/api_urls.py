from django.urls import path
from rest_framework.routers import SimpleRouter

from serving.api import CompletionViewSet, DeploymentViewSet
from serving.api_pins import PinViewSet
from serving.api_usage import QuoteView, UsageView

router = SimpleRouter()
router.register("deployments", DeploymentViewSet, basename="api-deployment")
router.register("pins", PinViewSet, basename="api-pin")
router.register("completions", CompletionViewSet, basename="api-completion")

urlpatterns = [
    *router.urls,
    path("quotes/", QuoteView.as_view(), name="api-quotes"),
    path("usage/", UsageView.as_view(), name="api-usage"),
]

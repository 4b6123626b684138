from rest_framework.routers import SimpleRouter

from serving.api import CompletionViewSet, DeploymentViewSet

router = SimpleRouter()
router.register("deployments", DeploymentViewSet, basename="api-deployment")
router.register("completions", CompletionViewSet, basename="api-completion")

urlpatterns = router.urls

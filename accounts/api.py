"""Reading API of people: what one was told."""

from django.db.models import QuerySet
from rest_framework import generics, serializers
from rest_framework.permissions import IsAuthenticated

from accounts.models import Notification


class NotificationSerializer(serializers.ModelSerializer[Notification]):
    class Meta:
        model = Notification
        fields = ["id", "kind", "title", "body", "url", "at", "read_at"]


class NotificationsView(generics.ListAPIView[Notification]):
    """The caller's own notifications, the newest first."""

    queryset = Notification.objects.none()
    serializer_class = NotificationSerializer
    permission_classes = (IsAuthenticated,)

    def get_queryset(self) -> QuerySet[Notification]:
        mine: QuerySet[Notification] = Notification.objects.filter(user=self.request.user.pk)
        return mine.order_by("-at", "-id")

from django.urls import path

from accounts.people import views, wallet_views

app_name = "people"
urlpatterns = [
    path("me/", views.me, name="me"),
    path("me/export/", views.export, name="export"),
    path("me/keys/", views.keys, name="keys"),
    path("me/keys/<uuid:pk>/", views.key, name="key"),
    path("me/keys/<uuid:pk>/revoke/", views.revoke_key, name="revoke_key"),
    path("me/notifications/", views.notifications, name="notifications"),
    path("me/notifications/read/", views.read_all, name="read_all"),
    path("me/notifications/<uuid:pk>/open/", views.open_notification, name="open_notification"),
    path("me/wallets/", wallet_views.my_wallets, name="wallets"),
    path("me/wallets/challenge/", wallet_views.link_challenge, name="link_challenge"),
    path("me/wallets/link/", wallet_views.link, name="link_wallet"),
    path("me/wallets/<uuid:pk>/unlink/", wallet_views.unlink, name="unlink_wallet"),
    path("me/wallets/<uuid:pk>/primary/", wallet_views.make_primary, name="primary_wallet"),
    path("sign-in/challenge/", wallet_views.sign_in_challenge, name="sign_in_challenge"),
    path("sign-in/", wallet_views.sign_in, name="sign_in"),
    path("id/<uuid:pk>/", views.person_by_id, name="by_id"),
    path("<slug:handle>/", views.person, name="person"),
]

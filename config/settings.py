"""The one settings module. Every value that differs between machines comes from the environment."""

from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

import environ

from config import lending

BASE_DIR = Path(__file__).resolve().parent.parent
env = environ.Env()

# ---------------------------------------------------------------- where things are
DATA_DIR = Path(env("DATA_DIR", default=str(BASE_DIR / ".data"))).resolve()
DEBUG = env.bool("DEBUG", default=False)
SITE_URL = env("SITE_URL", default="http://localhost:8000")
SECRET_KEY = env("SECRET_KEY", default="" if not DEBUG else "development-only")
if not SECRET_KEY:
    key_file = DATA_DIR / "keys" / "django.key"
    if key_file.exists():
        SECRET_KEY = key_file.read_text().strip()
    else:
        from django.core.management.utils import get_random_secret_key

        key_file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        SECRET_KEY = get_random_secret_key()
        key_file.touch(mode=0o600)
        key_file.write_text(SECRET_KEY)

_site = urlsplit(SITE_URL)
ALLOWED_HOSTS = env.list("ALLOWED_HOSTS", default=[_site.hostname, "localhost", "127.0.0.1"])
CSRF_TRUSTED_ORIGINS = env.list("CSRF_TRUSTED_ORIGINS", default=[SITE_URL])
SECURE = _site.scheme == "https"

# ---------------------------------------------------------------- apps
INSTALLED_APPS = [
    "config.apps.HouseConfig",
    "serving",
    "attribution",
    "modelfactory",
    "datanets",
    "governance",
    "ledger",
    "accounts",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.humanize",
    "django.contrib.messages",
    "django.contrib.postgres",
    "django.contrib.sessions",
    "django.contrib.staticfiles",
    "allauth",
    "allauth.account",
    "allauth.mfa",
    "allauth.usersessions",
    "django_filters",
    "django_htmx",
    "drf_spectacular",
    "pgtrigger",
    "rest_framework",
    "template_partials",
]

MIDDLEWARE = [
    # Requests to the OpenAI-compatible API go no further than this; all others pass it by. The web
    # process has it before all of these (config.asgi); here it is for whatever has no event loop.
    "config.middleware.ShortWayForApi",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "allauth.account.middleware.AccountMiddleware",
    "allauth.usersessions.middleware.UserSessionsMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
    "accounts.middleware.ContentSecurityPolicyMiddleware",
]

ROOT_URLCONF = "config.urls"
ASGI_APPLICATION = "config.asgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "config.context_processors.house",
            ],
        },
    }
]

# ---------------------------------------------------------------- services
DATABASES = {
    "default": env.db_url("DATABASE_URL", default="postgresql://postgres@localhost/openledger")
}
# A socket folder arrives as ?host=/folder; Django and psql expect it in HOST.
_database = DATABASES["default"]
if "host" in _database.get("OPTIONS", {}):
    _database["HOST"] = _database["OPTIONS"].pop("host")
# Only statements that ask for it are prepared (accounts.prepared). Behind a pooler that hands
# a connection to another client after each transaction, set DATABASE_PREPARE to 0.
if env.bool("DATABASE_PREPARE", default=True):
    _database.setdefault("OPTIONS", {})["prepare_threshold"] = 5
_database["CONN_HEALTH_CHECKS"] = True
_database["CONN_MAX_AGE"] = env.int("DATABASE_CONN_MAX_AGE", default=0)
# A process of many threads that each ask briefly (web, generate) keeps this many connections at
# most and lends them; a thread waits for one rather than be refused by a full server. Not for a
# worker that forks: a child cannot use its parent's.
if _pooled := env.int("DATABASE_POOL", default=0):
    _database["CONN_MAX_AGE"] = 0
    _database.setdefault("OPTIONS", {})["pool"] = lending.options(_pooled)

REDIS_URL = env("REDIS_URL", default="redis://localhost:6379/0")
CACHES = {
    "default": {"BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": REDIS_URL}
}
SESSION_ENGINE = "django.contrib.sessions.backends.cached_db"

CELERY_BROKER_URL = REDIS_URL
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_DEFAULT_QUEUE = "default"
CELERY_TASK_ACKS_LATE = True
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
# Recovery is ours (leases and a sweeper); the broker must not hand a long run out a second time.
CELERY_BROKER_TRANSPORT_OPTIONS = {"visibility_timeout": 24 * 3600}
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
CELERY_TIMEZONE = "UTC"

# ---------------------------------------------------------------- files
BLOB_BUCKET = env("BLOB_BUCKET", default="")
STORAGES = {
    "default": {
        "BACKEND": "django.core.files.storage.FileSystemStorage",
        "OPTIONS": {"location": str(DATA_DIR / "blobs")},
    },
    "staticfiles": {"BACKEND": "whitenoise.storage.CompressedManifestStaticFilesStorage"},
}
if BLOB_BUCKET:
    STORAGES["default"] = {
        "BACKEND": "storages.backends.s3.S3Storage",
        "OPTIONS": {
            "bucket_name": BLOB_BUCKET,
            "endpoint_url": env("BLOB_ENDPOINT_URL", default=None),
            "default_acl": None,
        },
    }
STATIC_URL = "static/"
STATIC_ROOT = Path(env("STATIC_ROOT", default=str(DATA_DIR / "static")))
STATICFILES_DIRS = [BASE_DIR / "static"]
# Development and tests serve files as they stand; a manifest needs collectstatic first.
WHITENOISE_USE_FINDERS = env.bool("STATIC_FROM_SOURCE", default=True)
# Files that change under a running process are looked at again, instead of sent cut off.
WHITENOISE_AUTOREFRESH = WHITENOISE_USE_FINDERS
if WHITENOISE_USE_FINDERS:
    STORAGES["staticfiles"] = {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"}
DATA_UPLOAD_MAX_MEMORY_SIZE = 2_621_440
FILE_UPLOAD_MAX_MEMORY_SIZE = 2_621_440

# ---------------------------------------------------------------- people
AUTH_USER_MODEL = "accounts.User"
AUTHENTICATION_BACKENDS = ["allauth.account.auth_backends.AuthenticationBackend"]
PASSWORD_HASHERS = ["django.contrib.auth.hashers.Argon2PasswordHasher"]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator"},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
    {"NAME": "django.contrib.auth.password_validation.NumericPasswordValidator"},
]
LOGIN_URL = "account_login"
LOGIN_REDIRECT_URL = "home"
ACCOUNT_USER_MODEL_USERNAME_FIELD = None
ACCOUNT_LOGIN_METHODS = {"email"}
ACCOUNT_SIGNUP_FIELDS = ["email*", "password1*", "password2*"]
ACCOUNT_EMAIL_VERIFICATION = env("EMAIL_VERIFICATION", default="mandatory")
ACCOUNT_PREVENT_ENUMERATION = True
ACCOUNT_UNIQUE_EMAIL = True
ACCOUNT_FORMS = {"signup": "accounts.people.sign_up.SignUpForm"}
# Beside the limits of allauth itself, which stay as they are.
ACCOUNT_RATE_LIMITS = {"wallet_sign_in": "30/m/ip"}
# The e-mail is unique by an index on Lower(), which this check does not see.
SILENCED_SYSTEM_CHECKS = ["auth.W004"]
MFA_SUPPORTED_TYPES = ["recovery_codes", "totp", "webauthn"]
MFA_PASSKEY_LOGIN_ENABLED = True
MFA_TOTP_ISSUER = "OpenLedger"
MFA_WEBAUTHN_ALLOW_INSECURE_ORIGIN = not SECURE
EMAIL_CONFIG = env.email_url("EMAIL_URL", default="consolemail://")
vars().update(EMAIL_CONFIG)
DEFAULT_FROM_EMAIL = env("DEFAULT_FROM_EMAIL", default="OpenLedger <noreply@openledger.test>")

# ---------------------------------------------------------------- security
SECURE_SSL_REDIRECT = env.bool("SECURE_SSL_REDIRECT", default=SECURE)
# Balancers and the supervisor ask the process itself, without TLS.
SECURE_REDIRECT_EXEMPT = [r"^health/$"]
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if SECURE else None
SECURE_HSTS_SECONDS = env.int("SECURE_HSTS_SECONDS", default=31_536_000 if SECURE else 0)
SECURE_HSTS_INCLUDE_SUBDOMAINS = SECURE
SECURE_HSTS_PRELOAD = SECURE
SESSION_COOKIE_SECURE = SECURE
CSRF_COOKIE_SECURE = SECURE
X_FRAME_OPTIONS = "DENY"
SECURE_REFERRER_POLICY = "same-origin"

# ---------------------------------------------------------------- language and time
LANGUAGE_CODE = "en"
TIME_ZONE = "UTC"
USE_TZ = True
USE_I18N = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# ---------------------------------------------------------------- API
REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "rest_framework.authentication.SessionAuthentication",
        "accounts.api_auth.ApiKeyAuthentication",
    ],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticatedOrReadOnly"],
    "DEFAULT_PAGINATION_CLASS": "rest_framework.pagination.LimitOffsetPagination",
    "DEFAULT_FILTER_BACKENDS": ["django_filters.rest_framework.DjangoFilterBackend"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["rest_framework.parsers.JSONParser"],
    "EXCEPTION_HANDLER": "accounts.api_errors.with_code",
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "PAGE_SIZE": 50,
}
SPECTACULAR_SETTINGS = {
    "TITLE": "OpenLedger",
    "DESCRIPTION": "Reading API. Completions live under /v1/ in OpenAI's shape.",
    "VERSION": "1",
    "SERVE_INCLUDE_SCHEMA": False,
    "ENUM_NAME_OVERRIDES": {
        "DisputeState": "attribution.models.disputes.DisputeState",
        "PoolSlashState": "ledger.models.pools.PoolSlash.State",
        "ShareKind": "attribution.models.receipts.ContributorShare.Kind",
        "SlashReason": "datanets.models.slashes.SlashReason",
    },
}

# ---------------------------------------------------------------- the product
WORK_LEASE = timedelta(seconds=env.int("WORK_LEASE_SECONDS", default=120))
WORK_ATTEMPTS = env.int("WORK_ATTEMPTS", default=3)
WORKER_HEARTBEAT_SECONDS = env.int("WORKER_HEARTBEAT_SECONDS", default=5)
# An index of more records than this is built in parts of about so many, by all attribute workers
# that are free; 0 for never. See docs/scale.md.
INDEX_PART_RECORDS = env.int("INDEX_PART_RECORDS", default=8192)
# How long an answer of several models waits for one's index that failed, before the contributors'
# part of that model goes to the treasuries of its Datanets.
MERGE_INDEX_PATIENCE = timedelta(hours=env.int("MERGE_INDEX_HOURS", default=12))
# A folder with a transformers sentence encoder (safetensors and tokenizer.json) that finds records
# for prompts; without one it is the base's own hidden states.
RETRIEVAL_ENCODER = env.str("RETRIEVAL_ENCODER", default="")
RUN_CHECKPOINT_SECONDS = env.float("RUN_CHECKPOINT_SECONDS", default=20.0)

MEGABYTE = 1_000_000
UPLOAD_FILE_BYTES = env.int("UPLOAD_FILE_BYTES", default=5 * MEGABYTE)
UPLOAD_USER_DAY_BYTES = env.int("UPLOAD_USER_DAY_BYTES", default=10 * MEGABYTE)
UPLOAD_USER_DAY_FILES = env.int("UPLOAD_USER_DAY_FILES", default=20)
UPLOAD_DATANET_DAY_BYTES = env.int("UPLOAD_DATANET_DAY_BYTES", default=10 * MEGABYTE)

LOG_ORIGIN = env("LOG_ORIGIN", default=f"{_site.hostname}/log")
LOG_KEY_PATH = Path(env("LOG_KEY_PATH", default=str(DATA_DIR / "keys" / "log.ed25519")))
MANIFEST_KEY_PATH = Path(
    env("MANIFEST_KEY_PATH", default=str(DATA_DIR / "keys" / "manifest.ed25519"))
)

# Who sends it as a bearer token reads /metrics; empty, only staff do.
METRICS_TOKEN = env("METRICS_TOKEN", default="")

# Whether servers of models elsewhere are asked; then a worker of the queue `external` runs.
EXTERNAL_ENGINES = env.bool("EXTERNAL_ENGINES", default=False)
# Private networks, or this machine, where servers of models may stand (CIDR, with commas).
EXTERNAL_ENGINE_NETWORKS = env.list("EXTERNAL_ENGINE_NETWORKS", default=[])
# Where adapters are written for servers elsewhere to read: a folder that both see.
EXTERNAL_ADAPTER_DIR = Path(
    env("EXTERNAL_ADAPTER_DIR", default=str(DATA_DIR / "external-adapters"))
)

# What a key may ask for in a minute where it has no limits of its own.
KEY_REQUESTS_PER_MINUTE = env.int("KEY_REQUESTS_PER_MINUTE", default=6_000)
KEY_TOKENS_PER_MINUTE = env.int("KEY_TOKENS_PER_MINUTE", default=1_000_000)

# ---------------------------------------------------------------- the chain
CHAIN_RPC_URL = env("CHAIN_RPC_URL", default="")
CHAIN_ENABLED = env.bool("CHAIN_ENABLED", default=bool(CHAIN_RPC_URL))
CHAIN_ID = env.int("CHAIN_ID", default=31337)
LOCAL_CHAIN_ID = 31337
CHAIN_IS_LOCAL = CHAIN_ID == LOCAL_CHAIN_ID
CHAIN_DEPLOYMENT = Path(
    env("CHAIN_DEPLOYMENT", default=str(DATA_DIR / "chain" / "deployment.json"))
)
CHAIN_CONFIRMATIONS = env.int("CHAIN_CONFIRMATIONS", default=2)
CHAIN_KEYSTORE = env("CHAIN_KEYSTORE", default="")
# A key service instead of a keystore: aws:KEY, gcp:projects/…/cryptoKeyVersions/1, https://HOST/keys/KEY.
CHAIN_KMS = env("CHAIN_KMS", default="")
# What the sender refuses to move at once and in a UTC day, in wei; 0 is no cap.
CHAIN_CAP_TRANSACTION_WEI = env.int(
    "CHAIN_CAP_TRANSACTION_WEI", default=0 if CHAIN_IS_LOCAL else 10_000 * 10**18
)
CHAIN_CAP_DAY_WEI = env.int("CHAIN_CAP_DAY_WEI", default=0 if CHAIN_IS_LOCAL else 50_000 * 10**18)
# The most that a unit of gas may cost; over it the sender waits.
CHAIN_FEE_CAP_WEI = env.int("CHAIN_FEE_CAP_WEI", default=500 * 10**9)
# Staff are told when the wallet holds less, and when something waits longer.
CHAIN_LOW_FUNDS_WEI = env.int("CHAIN_LOW_FUNDS_WEI", default=10**17)
# A newest block that is older is told to staff; 0 for a chain that makes blocks only when asked.
CHAIN_STALE_SECONDS = env.float("CHAIN_STALE_SECONDS", default=600.0)
CHAIN_STUCK_SECONDS = env.float("CHAIN_STUCK_SECONDS", default=120.0 if CHAIN_IS_LOCAL else 600.0)
CHAIN_EXPLORER_URL = env("CHAIN_EXPLORER_URL", default="")
# What a browser wallet is told when it does not know the chain; never a private endpoint.
CHAIN_PUBLIC_RPC_URL = env("CHAIN_PUBLIC_RPC_URL", default=CHAIN_RPC_URL if CHAIN_IS_LOCAL else "")
# An epoch is a day, or a few minutes where a person is watching the local chain.
DISTRIBUTION_SECONDS = env.int("DISTRIBUTION_SECONDS", default=300 if CHAIN_IS_LOCAL else 86_400)
# How often the stakers' part of fees goes to the stake pools, and from how many wei on.
STAKERS_FUND_SECONDS = env.int("STAKERS_FUND_SECONDS", default=60 if CHAIN_IS_LOCAL else 3_600)
STAKERS_FUND_MINIMUM_WEI = env.int("STAKERS_FUND_MINIMUM_WEI", default=10**15)
DISTRIBUTION_MINIMUM_WEI = env.int("DISTRIBUTION_MINIMUM_WEI", default=1)
# The price of a unit of gas by which relayed claims are charged; off the local chain the governed
# `relay.gas_price`, unless a number stands here. With 0 the house pays the gas.
RELAY_GAS_PRICE_WEI = env.int("RELAY_GAS_PRICE_WEI", default=0 if CHAIN_IS_LOCAL else None)
# The gas of a withdrawal is the platform's, so off the local chain it must be worth it. What
# leaves an account in 24 hours bounds what a stolen session can take.
WITHDRAWAL_MINIMUM_WEI = env.int("WITHDRAWAL_MINIMUM_WEI", default=1 if CHAIN_IS_LOCAL else 10**16)
WITHDRAWAL_DAY_LIMIT_WEI = env.int("WITHDRAWAL_DAY_LIMIT_WEI", default=10_000 * 10**18)
# How long withdrawals gather before a batch is written.
WITHDRAWAL_SECONDS = env.int("WITHDRAWAL_SECONDS", default=5 if CHAIN_IS_LOCAL else 60)

# ---------------------------------------------------------------- logging
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "{asctime} {levelname:<7} {name}: {message}", "style": "{"}},
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "line"}},
    "root": {"handlers": ["console"], "level": env("LOG_LEVEL", default="INFO")},
    "loggers": {
        "httpx": {"level": "WARNING"},
        "web3": {"level": "WARNING"},
        # Two lines each time that a connection is lent.
        "psycopg.pool": {"level": "WARNING"},
    },
}

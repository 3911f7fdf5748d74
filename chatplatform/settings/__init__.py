"""All settings, out of the environment. Nothing set means the embedded default of `make run`."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlsplit

from chatplatform.embedded import locations
from chatplatform.observability.secrets import hide
from chatplatform.settings import env
from chatplatform.settings.api import REST_FRAMEWORK as REST_FRAMEWORK
from chatplatform.settings.api import SPECTACULAR_SETTINGS as SPECTACULAR_SETTINGS
from chatplatform.settings.console import FORMAT_MODULE_PATH as FORMAT_MODULE_PATH
from chatplatform.settings.console import UNFOLD as UNFOLD
from chatplatform.settings.databases import from_url
from chatplatform.settings.installed import INSTALLED_APPS as INSTALLED_APPS
from chatplatform.settings.installed import MIDDLEWARE as MIDDLEWARE
from chatplatform.settings.installed import SILENCED_SYSTEM_CHECKS as SILENCED_SYSTEM_CHECKS
from chatplatform.settings.limits import tier_limits
from chatplatform.settings.secrets import generated, place_of

BASE_DIR = Path(__file__).resolve().parent.parent.parent

# --- Where it runs ---------------------------------------------------------------------------------------------
HOST = env.text("HOST", "127.0.0.1", meaning="Address the web server listens on")
PORT = env.number("PORT", 8000, meaning="Port the web server listens on")
DATA_DIR = env.path(
    "DATA_DIR", BASE_DIR / ".data", shown=".data", meaning="Where the embedded default keeps all state"
)
PUBLIC_SCHEME = env.text("PUBLIC_SCHEME", "http", meaning="`https` switches on secure cookies and HSTS")
PLATFORM_DOMAIN = env.text(
    "PLATFORM_DOMAIN",
    "localhost",
    meaning="Host of the staff console; tenants are at `<slug>.<PLATFORM_DOMAIN>`",
)
PUBLIC_PORT = env.number(
    "PUBLIC_PORT", PORT, meaning="Port that visitors see, when a proxy stands in front (default: PORT)"
)
ASGI_SERVER = env.text("ASGI_SERVER", "daphne", meaning="`daphne` or `uvicorn`")
DRAIN_SECONDS = env.decimal(
    "DRAIN_SECONDS",
    20,
    meaning="Seconds a web server that is told to stop has for sending everybody elsewhere; `make run` takes 1.5",
)
MAX_CONNECTIONS_PER_CONTACT = env.number(
    "MAX_CONNECTIONS_PER_CONTACT",
    20,
    meaning="WebSockets and event streams one end user may have open at once, in all processes",
)
MAX_CONNECTIONS_PER_TENANT = env.number(
    "MAX_CONNECTIONS_PER_TENANT",
    20_000,
    meaning="WebSockets and event streams one tenant may have open at once, in all processes",
)
PING_EVERY = env.decimal(
    "PING_EVERY", 20, meaning="Seconds between pings to a silent WebSocket; without an answer it is dropped"
)
SLOW_CLIENT_SECONDS = env.decimal(
    "SLOW_CLIENT_SECONDS",
    20,
    meaning="Seconds after which a WebSocket whose client takes nothing of what there is for it is closed",
)
DEBUG = env.flag("DJANGO_DEBUG", False, meaning="Django's debug pages; never in production")
SECRET_KEY = env.text(
    "DJANGO_SECRET_KEY", "", secret=True, shown="generated under DATA_DIR", meaning="Signs cookies and tokens"
) or generated(DATA_DIR, "django_secret_key")
TOKEN_ISSUER = env.text(
    "TOKEN_ISSUER",
    f"{PUBLIC_SCHEME}://{PLATFORM_DOMAIN}",
    shown="<PUBLIC_SCHEME>://<PLATFORM_DOMAIN>",
    meaning="Who the platform's own tokens say they are from (`iss`); all processes must agree",
)
ALLOW_PRIVATE_KEY_SERVERS = env.flag(
    "ALLOW_PRIVATE_KEY_SERVERS",
    False,
    meaning="Key servers (JWKS) that tenants name may be at private addresses, and at `http://`; for development only",
)
ENVIRONMENT = env.text("ENVIRONMENT", "live", meaning="Second part of every API key: `cp_<ENVIRONMENT>_…`")

# --- PostgreSQL ------------------------------------------------------------------------------------------------
_embedded = locations(DATA_DIR)
DATABASE_URL = env.text(
    "DATABASE_URL",
    "",
    secret=True,
    shown="embedded PostgreSQL",
    meaning="The application's login; owns nothing",
)
DATABASE_ADMIN_URL = env.text(
    "DATABASE_ADMIN_URL",
    "",
    secret=True,
    shown="embedded PostgreSQL, or DATABASE_URL",
    meaning="The login that migrates and makes schemas and roles",
)
EMBEDDED_POSTGRES = not DATABASE_URL
DATABASE_POOL_SIZE = env.number(
    "DATABASE_POOL_SIZE",
    20,
    meaning="Connections one process keeps at most; in a worker, up to 8 of them are its event loop's",
)
DATABASES = {
    "default": from_url(
        DATABASE_URL or _embedded.database_url,
        fence="application",
        pool={
            "min_size": 1,
            "max_size": DATABASE_POOL_SIZE,
            "timeout": 5,
            "max_lifetime": 900,
            "num_workers": 1,
        },
    ),
    "admin": from_url(
        DATABASE_ADMIN_URL or (DATABASE_URL if not EMBEDDED_POSTGRES else _embedded.database_admin_url),
        fence="owner",
    ),
}
DATABASE_ROUTERS = ["chatplatform.postgres.router.HomeRouter"]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
TENANT_MODEL, TENANT_DOMAIN_MODEL = "tenants.Tenant", "tenants.Domain"

# --- Valkey or Redis -------------------------------------------------------------------------------------------
REDIS_URL = env.text(
    "REDIS_URL", "", secret=True, shown="embedded Valkey", meaning="One server for all uses below"
)
EMBEDDED_VALKEY = not REDIS_URL
_redis = REDIS_URL or _embedded.redis_url
CACHE_URL = env.text("CACHE_URL", _redis, secret=True, shown="REDIS_URL", meaning="Django's cache")
CHANNEL_LAYER_URL = env.text(
    "CHANNEL_LAYER_URL", _redis, secret=True, shown="REDIS_URL", meaning="Control messages"
)
EVENT_LOG_URL = env.text(
    "EVENT_LOG_URL", _redis, secret=True, shown="REDIS_URL", meaning="Event logs of the replies"
)
RATE_LIMIT_URL = env.text(
    "RATE_LIMIT_URL", _redis, secret=True, shown="REDIS_URL", meaning="Rate limits and circuit breakers"
)
CELERY_BROKER_URL = env.text(
    "CELERY_BROKER_URL", _redis, secret=True, shown="REDIS_URL", meaning="Celery's broker; RabbitMQ works too"
).replace("unix://", "redis+socket://", 1)
CACHES = {
    "default": {
        "BACKEND": "django_redis.cache.RedisCache",
        "LOCATION": CACHE_URL,
        "KEY_FUNCTION": "chatplatform.tenancy.cache_key",
        # The cache is a hint: without it everything is slower, nothing is wrong.
        "OPTIONS": {"IGNORE_EXCEPTIONS": True, "SOCKET_TIMEOUT": 2, "SOCKET_CONNECT_TIMEOUT": 2},
    }
}
CHANNEL_LAYERS = {
    "default": {
        "BACKEND": "channels_redis.pubsub.RedisPubSubChannelLayer",
        # redis-py's default of 5 s kills every reader that is idle for longer.
        "CONFIG": {"hosts": [{"address": CHANNEL_LAYER_URL, "socket_timeout": None}], "prefix": "cp:layer"},
    }
}

# --- Rate limits -----------------------------------------------------------------------------------------------
GLOBAL_REQUESTS_PER_MINUTE = env.limit(
    "GLOBAL_REQUESTS_PER_MINUTE", meaning="Messages of all tenants together in any minute"
)
GLOBAL_TOKENS_PER_MINUTE = env.limit(
    "GLOBAL_TOKENS_PER_MINUTE", meaning="Tokens of all tenants together in any minute"
)
RATE_LIMIT_TIMEOUT = env.decimal(
    "RATE_LIMIT_TIMEOUT",
    0.1,
    meaning="Seconds that RATE_LIMIT_URL has to answer; then messages pass unchecked",
)
TIER_LIMITS = tier_limits(
    env.text(
        "TIER_LIMITS",
        meaning="Ceilings of the tiers in any minute: messages/tokens/messages of one user, `-` = none, "
        "such as `free=60/20000/10 pro=600/-/30`",
    )
)

# --- Audit log -------------------------------------------------------------------------------------------------
AUDIT_SECRET = env.text(
    "AUDIT_SECRET",
    "",
    secret=True,
    shown="generated under DATA_DIR",
    meaning="Keys the hashes of the audit log; the same in all processes, and never in the database",
) or generated(DATA_DIR, "audit_secret")
AUDIT_OLD_SECRETS = env.text(
    "AUDIT_OLD_SECRETS",
    secret=True,
    meaning="Secrets that AUDIT_SECRET replaced, between spaces: older entries are verified with them",
)
AUDIT_ANCHOR_PATH = env.path(
    "AUDIT_ANCHOR_PATH",
    DATA_DIR / "audit",
    shown="DATA_DIR/audit",
    meaning="Directory outside the database where workers write down how far the audit log has come",
)
AUDIT_ANCHOR_ROWS = env.number(
    "AUDIT_ANCHOR_ROWS", 100, meaning="Entries of one chain after which that is done at once"
)
AUDIT_ANCHOR_EVERY = env.decimal(
    "AUDIT_ANCHOR_EVERY", 60, meaning="Seconds after which it is done in any case"
)

# --- Encryption ------------------------------------------------------------------------------------------------
MASTER_KEY = env.text(
    "MASTER_KEY",
    "",
    secret=True,
    shown="generated under DATA_DIR",
    meaning="Wraps the keys that texts are sealed with; the same in all processes, and never in the database. "
    "Without it they cannot be read",
)
MASTER_OLD_KEYS = env.text(
    "MASTER_OLD_KEYS",
    secret=True,
    meaning="Master keys, between spaces, that keys may still be wrapped under: see `rotate_keys --master`",
)
# Where they are files, running processes notice that these have changed.
MASTER_KEY_AT, MASTER_OLD_KEYS_AT = env.file_of("MASTER_KEY"), env.file_of("MASTER_OLD_KEYS")
MASTER_KEY_IS_GENERATED = not MASTER_KEY
if MASTER_KEY_IS_GENERATED:
    MASTER_KEY = generated(DATA_DIR, "master_key")
    MASTER_KEY_AT = place_of(DATA_DIR, "master_key")
    MASTER_OLD_KEYS_AT = MASTER_OLD_KEYS_AT or place_of(DATA_DIR, "master_old_keys")
MASTER_KEY_SERVICE = env.text(
    "MASTER_KEY_SERVICE",
    "tenants.master_keys.FromSettings",
    meaning="The class that wraps and unwraps with the master key; one of your own may ask a key management service",
)

# --- Celery ----------------------------------------------------------------------------------------------------
WORKER_CAPACITY = env.number(
    "WORKER_CAPACITY", 2500, meaning="Replies that one worker process carries at once, all in one event loop"
)
WORKER_THREADS = env.number(
    "WORKER_THREADS", 8, meaning="Threads of a worker process for other jobs (mails, births of tenants)"
)
WORKER_GRACE_SECONDS = env.decimal(
    "WORKER_GRACE_SECONDS",
    20,
    meaning="Seconds that replies have to end after SIGTERM to their worker; then others take them over",
)
CELERY_WORKER_POOL = "chatplatform.pool:TaskPool"
CELERY_WORKER_CONCURRENCY = WORKER_CAPACITY
WORKER_METRICS_PORT = env.number(
    "WORKER_METRICS_PORT",
    0,
    meaning="Port on HOST where a worker serves its Prometheus metrics; 0 is nowhere",
)
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_ACKS_LATE = True
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_TASK_SERIALIZER = "json"
CELERY_ACCEPT_CONTENT = ["json"]
CELERY_TIMEZONE = "UTC"
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_WORKER_CANCEL_LONG_RUNNING_TASKS_ON_CONNECTION_LOSS = False
CELERY_BROKER_TRANSPORT_OPTIONS = {"socket_keepalive": True, "health_check_interval": 30}
CELERY_TASK_DEFAULT_QUEUE = "cp"
RECONCILE_EVERY = env.decimal(
    "RECONCILE_EVERY", 3, meaning="Seconds between two looks for lost or orphaned replies"
)
LEASE_SECONDS = env.decimal(
    "LEASE_SECONDS", 6, meaning="Seconds after which a silent worker's reply is taken over"
)
MAX_ATTEMPTS = env.number("MAX_ATTEMPTS", 5, meaning="Attempts at one reply before it fails for good")
CELERY_BEAT_SCHEDULE = {
    "pick-up-births": {"task": "tenants.pick_up_births", "schedule": 20, "options": {"expires": 20}},
    "anchor-audit-log": {
        "task": "tenants.anchor_audit_log",
        "schedule": AUDIT_ANCHOR_EVERY,
        "options": {"expires": AUDIT_ANCHOR_EVERY},
    },
    "expire-idempotency-records": {"task": "tenants.expire_idempotency_records", "schedule": 3600},
    "hand-over-invoices": {"task": "billing.hand_over_waiting", "schedule": 600, "options": {"expires": 600}},
    "ask-about-payments": {"task": "billing.ask_about_payments", "schedule": 86400},
    "follow-plans": {"task": "billing.follow_plans", "schedule": 3600},
    "clear-deleted-keys": {"task": "tenants.clear_deleted_keys", "schedule": 60, "options": {"expires": 60}},
    "expire-sign-ins": {"task": "tenants.expire_sign_ins", "schedule": 3600},
    "expire-conversations": {"task": "conversations.expire_conversations", "schedule": 86400},
    "index-words": {"task": "conversations.index_words", "schedule": 300, "options": {"expires": 300}},
    "return-dead-holds": {
        "task": "conversations.return_dead_holds",
        "schedule": 120,
        "options": {"expires": 120},
    },
}

# --- Models ----------------------------------------------------------------------------------------------------
OPENAI_API_KEY = env.text("OPENAI_API_KEY", secret=True, meaning="Key for OpenAI")
OPENAI_BASE_URL = env.text(
    "OPENAI_BASE_URL", meaning="OpenAI's address, or a server that speaks its protocol"
)
ANTHROPIC_API_KEY = env.text("ANTHROPIC_API_KEY", secret=True, meaning="Key for Anthropic")
ANTHROPIC_BASE_URL = env.text(
    "ANTHROPIC_BASE_URL", meaning="Anthropic's address, or a server that speaks its protocol"
)
LLAMA_API_ENDPOINT = env.text(
    "LLAMA_API_ENDPOINT", meaning="Llama models on Ollama, vLLM or llama.cpp; `/v1` is added if missing"
)
LLAMA_API_KEY = env.text("LLAMA_API_KEY", secret=True, meaning="Key for the Llama endpoint, if it wants one")
OPENAI_MODEL = env.text("OPENAI_MODEL", "gpt-5.4-mini", meaning="What `auto` means when OpenAI has a key")
ANTHROPIC_MODEL = env.text(
    "ANTHROPIC_MODEL", "claude-haiku-5-5", meaning="What `auto` means when Anthropic has a key"
)
LLAMA_MODEL = env.text(
    "LLAMA_MODEL", "llama3.1", meaning="What `auto` means when only a Llama endpoint is set"
)
LOCAL_TOKENS_PER_SECOND = env.decimal(
    "LOCAL_TOKENS_PER_SECOND", 40, meaning="How fast the built-in model types; 0 is at once"
)
FIRST_TOKEN_TIMEOUT = env.decimal(
    "FIRST_TOKEN_TIMEOUT", 30, meaning="Seconds a model may take to its first token"
)
INTER_TOKEN_TIMEOUT = env.decimal(
    "INTER_TOKEN_TIMEOUT", 20, meaning="Seconds a model may pause between two tokens"
)
TOTAL_TIMEOUT = env.decimal("TOTAL_TIMEOUT", 300, meaning="Seconds one reply may take in all")
STAFF_EMAIL = env.text("STAFF_EMAIL", meaning="Where the platform's staff is told of budgets that run out")
BUDGET_CLAMP = env.flag(
    "BUDGET_CLAMP", True, meaning="Whether an answer is shortened to what a budget has left for it"
)
BUDGET_MIN_TOKENS = env.number(
    "BUDGET_MIN_TOKENS",
    32,
    meaning="The shortest answer that is worth giving, in tokens: for less, a message is refused",
)
BUDGET_DRAIN_SECONDS = env.decimal(
    "BUDGET_DRAIN_SECONDS",
    2,
    meaning="Seconds that the rest of an answer is read for its usage, where a model says more than it may",
)
BUDGET_DRAIN_TOKENS = env.number(
    "BUDGET_DRAIN_TOKENS", 64, meaning="How many tokens more it may say meanwhile"
)
PROVIDER_TRIES = env.number(
    "PROVIDER_TRIES", 3, meaning="Tries at one model, as long as nothing was shown, before the next is asked"
)
PROVIDER_RETRY_PAUSE = env.decimal(
    "PROVIDER_RETRY_PAUSE",
    0.25,
    meaning="Seconds before the second try at most; doubled for each further one",
)
PROVIDER_PATIENCE = env.decimal(
    "PROVIDER_PATIENCE", 5, meaning="Longest `retry-after`, in seconds, that is waited for"
)
PROVIDER_STREAMS = env.number(
    "PROVIDER_STREAMS", 2000, meaning="Calls to one provider that one process makes at once"
)
PROVIDER_STREAMS_PER_TENANT = env.number(
    "PROVIDER_STREAMS_PER_TENANT", 1500, meaning="How many of them may be one tenant's"
)
PROVIDER_QUEUE_TIMEOUT = env.decimal(
    "PROVIDER_QUEUE_TIMEOUT", 20, meaning="Seconds a reply waits for its place before the next model is asked"
)
BREAKER_WINDOW = env.decimal(
    "BREAKER_WINDOW", 30, meaning="Seconds over which a model's failures are counted, in all processes"
)
BREAKER_LEAST_CALLS = env.number(
    "BREAKER_LEAST_CALLS", 20, meaning="Calls in that time below which a circuit never opens"
)
BREAKER_FAILURE_RATE = env.decimal(
    "BREAKER_FAILURE_RATE", 0.5, meaning="Share of failed calls from which on a model is left alone"
)
BREAKER_OPEN_SECONDS = env.decimal(
    "BREAKER_OPEN_SECONDS", 15, meaning="Seconds that a model is left alone before it is tried again"
)
BREAKER_PROBES = env.number(
    "BREAKER_PROBES", 3, meaning="Calls that try it then, and have to succeed before all others may"
)
EMBEDDING_MODEL = env.text(
    "EMBEDDING_MODEL", "local", meaning="`local`, or an OpenAI-compatible embedding model for knowledge"
)

MAX_DOCUMENT_BYTES = env.number("MAX_DOCUMENT_BYTES", 20_000_000, meaning="Largest document that is ingested")

# --- The web ---------------------------------------------------------------------------------------------------
ROOT_URLCONF = "chatplatform.urls"
ASGI_APPLICATION = "chatplatform.asgi.application"
AUTH_USER_MODEL = "tenants.User"
ALLOWED_HOSTS = ["*"]  # tenants.middleware.resolve_host answers for hosts: it knows every tenant's domains
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
            ]
        },
    }
]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in ("UserAttributeSimilarityValidator", "MinimumLengthValidator", "CommonPasswordValidator")
]
PASSWORD_HASHERS = [
    "tenants.auth.passwords.Hasher",
    "django.contrib.auth.hashers.PBKDF2PasswordHasher",  # of earlier versions; replaced at the next sign-in
]
SIGN_IN_TRIES_PER_ACCOUNT = env.number(
    "SIGN_IN_TRIES_PER_ACCOUNT", 10, meaning="Passwords that may be tried for one account in SIGN_IN_WINDOW"
)
SIGN_IN_TRIES_PER_ADDRESS = env.number(
    "SIGN_IN_TRIES_PER_ADDRESS", 50, meaning="Wrong passwords that may come from one address in that time"
)
SIGN_IN_WINDOW = env.number(
    "SIGN_IN_WINDOW", 900, meaning="Seconds after the first try until the tries begin anew"
)
STAFF_NEED_SECOND_FACTOR = env.flag(
    "STAFF_NEED_SECOND_FACTOR",
    False,
    meaning="Staff without a passkey or an app have to add one at the next sign-in; who has one is asked for it anyway",
)
PROXIES = env.number(
    "PROXIES",
    0,
    meaning="Proxies of yours in front, each of which adds to `X-Forwarded-For`; 0 = it is ignored",
)
LOGIN_URL = "admin:login"
LOGIN_REDIRECT_URL = "admin:index"
STATIC_URL = "/static/"
STATIC_ROOT = BASE_DIR / "staticfiles"
STATICFILES_DIRS = [BASE_DIR / "static"]
SERVESTATIC_USE_FINDERS = True
SERVESTATIC_AUTOREFRESH = False
SERVESTATIC_ALLOW_ALL_ORIGINS = False
USE_TZ = True
TIME_ZONE = "UTC"
LANGUAGE_CODE = "en"
USE_I18N = False
APPEND_SLASH = False
DATA_UPLOAD_MAX_MEMORY_SIZE = 1_000_000  # JSON bodies; a message is at most 100,000 bytes of it

_https = PUBLIC_SCHEME == "https"
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = _https
SESSION_COOKIE_HTTPONLY = True
# With the prefix, browsers take a cookie from this very host alone, not from a neighbour below the same domain.
COOKIE_PREFIX = "__Host-" if _https else ""
SESSION_COOKIE_NAME = f"{COOKIE_PREFIX}cp_staff"
CSRF_COOKIE_NAME = f"{COOKIE_PREFIX}cp_csrf"
VISITOR_COOKIE_NAME = f"{COOKIE_PREFIX}cp_visitor"
CSRF_FAILURE_VIEW = "chatplatform.api.views.csrf_failure"
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if _https else None
SECURE_HSTS_SECONDS = 31_536_000 if _https else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = _https

# --- Payments --------------------------------------------------------------------------------------------------
STRIPE_API_KEY = env.text(
    "STRIPE_API_KEY", secret=True, meaning="Stripe collects the invoices; unset = nobody does"
)
STRIPE_WEBHOOK_SECRET = env.text(
    "STRIPE_WEBHOOK_SECRET", secret=True, meaning="What Stripe signs with what it sends to `/webhooks/stripe`"
)
STRIPE_API_BASE = env.text(
    "STRIPE_API_BASE", meaning="Stripe's address, or that of a server that speaks its protocol"
)

# --- Mail and watching -----------------------------------------------------------------------------------------
EMAIL_URL = env.text(
    "EMAIL_URL",
    "",
    secret=True,
    meaning="`smtp://user:password@host:port` (or `smtp+tls:`, `smtps:`); unset = mails are logged",
)
DEFAULT_FROM_EMAIL = env.text("DEFAULT_FROM_EMAIL", "chatplatform@localhost", meaning="Sender of mails")
EMAIL_BACKEND = f"django.core.mail.backends.{'smtp' if EMAIL_URL else 'console'}.EmailBackend"
_mail = urlsplit(EMAIL_URL)
EMAIL_HOST, EMAIL_PORT = _mail.hostname or "localhost", _mail.port or 25
EMAIL_HOST_USER, EMAIL_HOST_PASSWORD = unquote(_mail.username or ""), unquote(_mail.password or "")
EMAIL_USE_SSL, EMAIL_USE_TLS = _mail.scheme == "smtps", _mail.scheme == "smtp+tls"
EMAIL_TIMEOUT = 10
SENTRY_DSN = env.text("SENTRY_DSN", secret=True, meaning="Error reports; unset = off")
SENTRY_ERROR_TEXTS = env.flag(
    "SENTRY_ERROR_TEXTS",
    False,
    meaning="Reports have the first line of what an error says, too, which may quote what somebody wrote",
)
hide({SECRET_KEY, AUDIT_SECRET, *(one for secret in env.secrets for one in secret.split())})
LOG_LEVEL = env.text("LOG_LEVEL", "INFO", meaning="Least level that is logged")
LOG_FORMAT = env.text("LOG_FORMAT", "json", meaning="`json` (one object a line) or `console`")
LOGGING_CONFIG = "chatplatform.observability.logging.configure"
LOGGING = {"level": LOG_LEVEL, "format": LOG_FORMAT}

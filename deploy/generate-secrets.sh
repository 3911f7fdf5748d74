#!/bin/sh
# Writes .env, which docker-compose.yml reads: random secrets, readable by you alone. Never overwrites one.
set -eu
cd "$(dirname "$0")/.."
file=.env
if [ -e "$file" ]; then
    echo "$file exists already: its secrets are in use. Delete it only together with the volumes." >&2
    exit 1
fi
random() { od -An -N "$1" -tx1 /dev/urandom | tr -d ' \n'; }
umask 077
admin=$(random 24) application=$(random 24) valkey=$(random 24)
cat > "$file.new" <<END
DJANGO_SECRET_KEY=$(random 48)
AUDIT_SECRET=$(random 48)
MASTER_KEY=$(random 48)
POSTGRES_ADMIN_PASSWORD=$admin
POSTGRES_APPLICATION_PASSWORD=$application
VALKEY_PASSWORD=$valkey
DATABASE_ADMIN_URL=postgresql://cp_admin:$admin@postgres:5432/chatplatform
DATABASE_URL=postgresql://cp_app:$application@postgres:5432/chatplatform
REDIS_URL=redis://:$valkey@valkey:6379/0
# Models; empty = the built-in one alone.
OPENAI_API_KEY=
ANTHROPIC_API_KEY=
LLAMA_API_ENDPOINT=
# Mails, and who of yours is told of budgets that run out; empty = mails are logged.
EMAIL_URL=
DEFAULT_FROM_EMAIL=
STAFF_EMAIL=
# Payments; empty = nobody collects.
STRIPE_API_KEY=
STRIPE_WEBHOOK_SECRET=
# Where visitors come: tenants are at <slug>.<PLATFORM_DOMAIN>. Use https as soon as strangers can connect.
PUBLIC_SCHEME=http
PLATFORM_DOMAIN=localhost
PORT=8000
# Proxies of yours in front that add to X-Forwarded-For.
PROXIES=0
END
mv "$file.new" "$file"
echo "wrote $file (mode 0600)"

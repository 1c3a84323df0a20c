#!/bin/sh
# The secrets of a team's MLflow, made once, in a file that only you can read:
#
#   cluster/mlflow/secrets.sh NAME...      by which names browsers and trainers call the server
set -eu
cd "$(dirname "$0")"
[ $# -gt 0 ] || { echo "usage: $0 NAME...   for example $0 mlflow.example.org" >&2; exit 2; }
[ ! -e .env ] || { echo "$0: cluster/mlflow/.env is there; a database keeps its first password" >&2; exit 2; }

secret() { od -An -N24 -tx1 /dev/urandom | tr -d ' \n'; }

hosts=localhost,localhost:5000,127.0.0.1,127.0.0.1:5000
origins=http://localhost:5000 # of pages that may ask for changes
for name in "$@"; do
    hosts="$hosts,$name,$name:5000"
    origins="$origins,https://$name,http://$name:5000"
done

umask 077
cat > .env <<END
PGPASSWORD=$(secret)
MLFLOW_AUTH_ADMIN_PASSWORD=$(secret)
MLFLOW_FLASK_SERVER_SECRET_KEY=$(secret)
MLFLOW_SERVER_ALLOWED_HOSTS=$hosts
MLFLOW_SERVER_CORS_ALLOWED_ORIGINS=$origins
END
echo "cluster/mlflow/.env: MLFLOW_AUTH_ADMIN_PASSWORD in it is that of the user admin" >&2

#!/bin/sh
# A job of GitHub Actions that has "permissions: id-token: write" reads a secret and runs a command with it:
#
#   VAULT_ADDR=https://keep.example.com:8200 sh ci-job.sh ./deploy
#
# The rest is set up by examples/ci.sh. GitLab has the JWT in a variable: id_tokens: { JWT: { aud: https://keep.example.com } }.
set -eu
JWT=$(curl -fsS -H "Authorization: bearer $ACTIONS_ID_TOKEN_REQUEST_TOKEN" \
  "$ACTIONS_ID_TOKEN_REQUEST_URL&audience=https://keep.example.com" | sed 's/.*"value": *"\([^"]*\)".*/\1/')
VAULT_TOKEN=$(printf %s "$JWT" | sealkeep login -method=jwt -path=ci -token-only role=deploy jwt=-)
export VAULT_TOKEN
PASSWORD=$(sealkeep kv get -field=password secret/deploy/db)
export PASSWORD
sealkeep token revoke -self
unset VAULT_TOKEN
exec "$@"

#!/bin/sh
# Makes an AppRole for a machine or a service that may read its own secrets, those below secret/NAME/.
#
#   sh approle.sh NAME
#
# Run it where you may write policies and roles; `sealkeep auth enable approle` comes first, once. It prints the role ID,
# which is no secret. The secret ID goes to the machine by handover.sh.
set -eu

sealkeep policy write "$1" - >&2 <<POLICY
path "secret/data/$1/*" {
  capabilities = ["read"]
}
POLICY

# Its tokens live an hour and are renewed for a day; then it logs in again, with a secret ID that lives for 30 days. To
# let both work from some addresses only, add secret_id_bound_cidrs=... and token_bound_cidrs=...
sealkeep write "auth/approle/role/$1" token_policies="$1" token_ttl=1h token_max_ttl=24h secret_id_ttl=720h >&2
sealkeep read -field=role_id "auth/approle/role/$1/role-id"

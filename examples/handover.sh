#!/bin/sh
# A new machine gets its way in through somebody who must not have it: the secret ID of an AppRole, wrapped.
#
#   sh handover.sh give web        where a machine is made, with a token that may write auth/approle/role/web/secret-id
#                                  and no more: prints a wrapping token, good once and for five minutes
#   sh handover.sh take web        on the new machine, without any token: reads the wrapping token from standard input
#                                  and logs in; ROLE_ID is the role's and no secret
#
# When "take" fails, somebody else may have been there: destroy the secret ID by the accessor that "give" has printed to
# standard error, with `sealkeep write auth/approle/role/web/secret-id-accessor/destroy secret_id_accessor=...`.
set -eu
at=auth/approle/role/$2/secret-id
case $1 in
give)
  answer=$(sealkeep write -force -wrap-ttl=5m -format=json "$at")
  field() { printf '%s\n' "$answer" | sed -n "s/.*\"$1\": \"\([^\"]*\)\".*/\1/p"; }
  echo "accessor of the secret ID: $(field wrapped_accessor)" >&2
  field token
  ;;
take)
  VAULT_TOKEN=$(cat)
  export VAULT_TOKEN
  # Looking it up leaves it as it is. What comes from another path was wrapped by somebody else.
  path=$(sealkeep read -field=creation_path sys/wrapping/lookup)
  [ "$path" = "$at" ] || { echo "handover: this token wraps an answer of $path" >&2; exit 1; }
  secret=$(sealkeep unwrap -field=secret_id)
  unset VAULT_TOKEN
  printf %s "$secret" | sealkeep login -method=approle role_id="$ROLE_ID" secret_id=-
  ;;
esac

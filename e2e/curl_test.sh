#!/bin/sh
# Drives a fresh keep at VAULT_ADDR with curl; ends with an error at the first difference.
set -eu
token= body= status=

# call METHOD PATH [BODY] [HEADER]: leaves status and body.
call() {
  set -- "$1" "$2" "${3-}" "${4:-X-Unused: 1}"
  out=$(curl -sS -X "$1" -H "X-Vault-Token: $token" -H "$4" -w '\n%{http_code}' ${3:+-d "$3"} "$VAULT_ADDR/v1/$2")
  status=${out##*
}
  body=${out%
*}
}

# field NAME: the text of a field of the last answer.
field() { printf %s "$body" | sed -n "s/.*\"$1\":\"\([^\"]*\)\".*/\1/p"; }

# check WHAT GOT WANT
check() {
  test "$2" = "$3" || {
    echo "DIFFERENT: $1: got $2, want $3; the last answer was $status $body"
    exit 1
  }
  echo "ok: $1"
}

call GET sys/health
check "not initialized" "$status" 501
call PUT sys/init '{}'
check "init" "$status" 200
root=$(field root_token)
call GET sys/health
check "open" "$status" 200
call GET secret/data/app/db
check "no token" "$status" 403
token=$root
call POST secret/data/app/db '{"data":{"password":"s3cret of curl"}}'
check "write" "$status" 200
call GET secret/data/app/db
check "read" "$(field password)" "s3cret of curl"
call LIST secret/metadata/app
check "list" "$status $(printf %s "$body" | grep -c '"keys":\["db"\]')" "200 1"
call PUT sys/policies/acl/app '{"policy":"path \"secret/data/app/*\" { capabilities = [\"read\"] }"}'
check "policy" "$status" 204
call POST sys/auth/approle '{"type":"approle"}'
check "enable approle" "$status" 204
call POST auth/approle/role/web '{"token_policies":["app"],"token_ttl":"10m"}'
check "role" "$status" 204
call GET auth/approle/role/web/role-id
role=$(field role_id)
call POST auth/approle/role/web/secret-id '{}' 'X-Vault-Wrap-TTL: 60'
check "the secret ID comes wrapped" "$(field secret_id)" ""
token=$(field token)
call POST sys/wrapping/unwrap
check "unwrap" "$status" 200
secret=$(field secret_id)
call POST sys/wrapping/unwrap
check "unwrap again" "$status" 400
token=
call POST auth/approle/login "{\"role_id\":\"$role\",\"secret_id\":\"$secret\"}"
check "log in" "$status" 200
token=$(field client_token)
call GET secret/data/app/db
check "read what the policy allows" "$(field password)" "s3cret of curl"
call POST secret/data/app/db '{"data":{}}'
check "write what it does not" "$status" 403
call POST auth/token/renew-self '{}'
check "renew" "$status" 200
call POST auth/token/revoke-self
check "revoke" "$status" 204
call GET secret/data/app/db
check "read with a token that was revoked" "$status" 403
token=$root
call GET sys/metrics
check "metrics" "$status" 200
call PUT secret/data/app/db '{"data":'
check "half a body" "$status" 400
call GET 'secret/data/..%2fx'
check "a path that leads elsewhere" "$status" 400

#!/bin/sh
# Jobs of a CI system log in with the JWT that it signs for them (examples/ci-job.sh): no secret is stored there. To be
# run once, with a token that may do it. What the claims are called is for the CI system to say; these are GitHub's.
set -eu
: "${ISSUER:=https://token.actions.githubusercontent.com}" "${REPOSITORY:=example/app}"

sealkeep policy write deploy - <<END
path "secret/data/deploy/*" {
  capabilities = ["read"]
}
END

sealkeep auth enable -path=ci jwt
sealkeep write auth/ci/config oidc_discovery_url="$ISSUER"

# Only the main branch of one repository, with a JWT that was asked for this keep.
sealkeep write auth/ci/role/deploy - <<END
{
  "role_type": "jwt",
  "user_claim": "sub",
  "bound_audiences": ["https://keep.example.com"],
  "bound_claims": {"repository": "$REPOSITORY", "ref": "refs/heads/main"},
  "claim_mappings": {"run_id": "run"},
  "token_policies": ["deploy"],
  "token_ttl": "10m"
}
END

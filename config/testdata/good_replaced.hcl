# env STATE_DIRECTORY=/var/lib/sealkeep:/other
# env VAULT_SEAL_TYPE=transit
# env VAULT_ADDR=https://vault.example.com
# env VAULT_TOKEN_FILE=$TESTDATA/token.txt
# env VAULT_TOKEN=s.HUSHtoken
# env VAULT_TRANSIT_SEAL_KEY_NAME=k
# env TRANSIT_WRAPPER_KEY_NAME=k
# env KMS_TRANSIT_ENGINE=transit
seal "awskms" {
  kms_key_id = "alias/x"
  region     = "eu-central-1"
}

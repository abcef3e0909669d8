# env STATE_DIRECTORY=/var/lib/sealkeep
# env AWS_DEFAULT_REGION=us-east-1
# env VAULT_AWSKMS_SEAL_KEY_ID=arn:aws:kms:eu-central-1:111122223333:key/1234
seal "awskms" {
}

# env STATE_DIRECTORY=/var/lib/sealkeep
# env KMS_BACKEND=vault
# env KMS_VAULT_KEY_PATH=secret/key
log_level = "info"

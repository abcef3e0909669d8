# env STATE_DIRECTORY=/var/lib/sealkeep
# env VAULT_AWSKMS_SEAL_KEY_ID=alias/x
log_level = "info"

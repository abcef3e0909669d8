# env STATE_DIRECTORY=/var/lib/sealkeep
# env BAO_SEAL_TYPE=transit
# env VAULT_TOKEN_FILE=/does/not/exist
log_level = "info"

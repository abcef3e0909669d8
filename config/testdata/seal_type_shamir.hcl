# env STATE_DIRECTORY=/var/lib/sealkeep
# env VAULT_SEAL_TYPE=shamir
log_level = "info"

# env STATE_DIRECTORY=/var/lib/sealkeep
# env VAULT_SEAL_TYPE=awskms
# env BAO_SEAL_TYPE=transit
log_level = "info"

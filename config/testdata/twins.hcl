# env STATE_DIRECTORY=/var/lib/sealkeep
# env AWSKMS_WRAPPER_KEY_ID=alias/a
# env VAULT_AWSKMS_SEAL_KEY_ID=alias/b
seal "awskms" {
}

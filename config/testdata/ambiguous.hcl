# env STATE_DIRECTORY=/var/lib/sealkeep
# env VAULT_AWSKMS_SEAL_KEY_ID=alias/b
# env VAULT_SEAL_TYPE=awskms
# env BAO_STATIC_SEAL_CURRENT_KEY=unrelated
seal "awskms" {
  name       = "near-by"
  kms_key_id = "alias/a"
}
seal "awskms" {
  name = "far"
}

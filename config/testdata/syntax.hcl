# env STATE_DIRECTORY=/var/lib/sealkeep
seal "awskms" {
  kms_key_id = "alias/x"
  kms_key_id = "alias/x"
  secret_key "HUSH"
}
log_level = "unknown"

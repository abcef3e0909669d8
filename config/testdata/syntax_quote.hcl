# env STATE_DIRECTORY=/var/lib/sealkeep
seal "awskms" {
  secret_key = "HUSH
  kms_key_id = "alias/x"
}

# env STATE_DIRECTORY=/var/lib/sealkeep
seal {
  kms_key_id = "alias/x"
}
seal "awskms" "main" {
  kms_key_id = "alias/x"
}

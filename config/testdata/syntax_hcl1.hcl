# env STATE_DIRECTORY=/var/lib/sealkeep
seal "awskms" {
  "kms_key_id" = "alias/x",
}

# env STATE_DIRECTORY=/var/lib/sealkeep
seal "awskms" {
  disabled   = 1
  kms_key_id = "alias/a"
}

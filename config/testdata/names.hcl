# env STATE_DIRECTORY=/var/lib/sealkeep
seal "awskms" {
  kms_key_id = "alias/a"
}
seal "awskms" {
  kms_key_id = "alias/b"
}
seal "awskms" {
  name       = "two words"
  kms_key_id = "alias/b"
}
seal "awskms" {
  name       = "a-b"
  kms_key_id = "alias/b"
}
seal "awskms" {
  name       = "a_b"
  kms_key_id = "alias/b"
}

# env STATE_DIRECTORY=/var/lib/sealkeep
seal "awskms" {
  name       = "a"
  kms_key_id = "alias/a"
}
seal "awskms" {
  name       = "b"
  priority   = "1"
  kms_key_id = "alias/b"
}
seal "awskms" {
  name       = "c"
  priority   = 0
  kms_key_id = "alias/b"
}
seal "awskms" {
  name       = "d"
  priority   = 1.5
  kms_key_id = "alias/b"
}
seal "awskms" {
  name       = "e"
  priority   = -1
  disabled   = "yse"
  kms_key_id = "alias/b"
}

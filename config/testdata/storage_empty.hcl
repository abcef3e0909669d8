storage "bbolt" {
}
seal "awskms" {
  kms_key_id = ""
}

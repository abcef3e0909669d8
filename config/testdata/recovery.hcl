# env STATE_DIRECTORY=/var/lib/sealkeep
# env TOKEN=HUSHtoken
recovery "age" {
  recipients = ["age1one", "AGE-SECRET-KEY-HUSH"]
}
recovery "age" {
  recipients = ["age1one"]
}
recovery "pgp" {
}
recovery "shares" {
  recipients = ["age1one"]
  shares     = 5
}
recovery = "age"
enable_generate_root = "maybe"
seal "awskms" {
  name       = "recovery-shares"
  kms_key_id = "alias/x"
}

# env STATE_DIRECTORY=/var/lib/sealkeep
# env AWS_SECRET_ACCESS_KEY=HUSHenv
seal "awskms" {
  name       = "a"
  kms_key_id = "alias/a"
  access_key = "HUSHid"
}
seal "awskms" {
  name          = "b"
  kms_key_id    = "alias/a"
  secret_key    = "HUSHkey"
  session_token = "HUSHsession"
}
seal "awskms" {
  name          = "c"
  kms_key_id    = "alias/a"
  session_token = "HUSHsession"
}

# env STATE_DIRECTORY=/var/lib/sealkeep
seal "awskms" {
  name       = "a"
  kms_key_id = alias
  region     = regionof("HUSH")
  access_key = HUSHid
  secret_key = HUSHkey("x")
  session_token = ["HUSH"]
}

# Several seals, as the enterprise edition has them; an HSM goes, two clouds come.
enable_multiseal = true
storage "raft" {
  path = "/var/lib/vault"
}
entropy "seal" {
  mode = "augmentation"
}
listener "tcp" {
  address     = "127.0.0.1:8200"
  tls_disable = true
}
seal "awskms" {
  name       = "aws-east"
  priority   = "1"
  region     = "us-east-1"
  kms_key_id = "alias/vault"
}
seal "awskms" {
  name       = "aws-west"
  priority   = "2"
  region     = "us-west-2"
  kms_key_id = "alias/vault"
  endpoint   = "https://vpce-0123.kms.us-west-2.vpce.amazonaws.com"
}
seal "pkcs11" {
  name      = "hsm"
  priority  = "3"
  disabled  = "true"
  lib       = "/usr/lib/softhsm/libsofthsm2.so"
  slot      = "2305843009213693953"
  pin       = "HUSHpin"
  key_label = "vault"
}

# HCL 1 let all of this pass.
storage "inmem" {}
listener "tcp" { address = "127.0.0.1:8200" tls_disable = 1 }
seal "awskms" {
  region = "eu-west-1",
  "kms_key_id" = "alias/vault"
}

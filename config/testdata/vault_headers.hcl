# env STATE_DIRECTORY=/var/lib/sealkeep
# Header rules as Vault's documentation has them, which HCL 2 cannot read.
listener "tcp" {
  address = "127.0.0.1:8200"
  custom_response_headers {
    "2xx" = {
      "Cache-Control" = ["no-store"]
    }
  }
}
seal "awskms" {
  kms_key_id = "alias/vault"
}

# env STATE_DIRECTORY=/var/lib/sealkeep
# One block of each kind that Vault and OpenBao know and sealkeep does not.
seal "ocikms" {
  key_id              = "ocid1.key.oc1.iad.example"
  crypto_endpoint     = "https://example-crypto.kms.us-ashburn-1.oraclecloud.com"
  management_endpoint = "https://example-management.kms.us-ashburn-1.oraclecloud.com"
  auth_type_api_key   = "true"
}
seal "alicloudkms" {
  region     = "us-east-1"
  access_key = "HUSHid"
  secret_key = "HUSHkey"
  kms_key_id = "08c33a6f-4e0a-4a1b-a3fa-example"
}
seal "kmip" {
  endpoint    = "kmip.example.com:5696"
  kms_key_id  = "1234"
  client_cert = "/etc/vault/kmip.pem"
  client_key  = "/etc/vault/kmip.key"
}
seal "hsm" {
  lib = "/usr/lib/hsm.so"
}
seal "shamir" {
}

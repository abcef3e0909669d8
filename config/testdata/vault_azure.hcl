# env STATE_DIRECTORY=/var/lib/sealkeep
# A scale set on Azure. The seal takes everything from a managed identity.
license_path = "/etc/vault.d/license.hclic"
log_format   = "standard"
api_addr     = "https://{{ GetInterfaceIP \"eth0\" }}:8200"
storage "azure" {
  accountName = "examplestore"
  accountKey  = "HUSHkey"
  container   = "vault"
}
listener "tcp" {
  address     = "{{ GetPrivateIP }}:8200"
  tls_disable = "1"
}
seal "azurekeyvault" {
  tenant_id     = "00000000-0000-0000-0000-000000000000"
  client_secret = "HUSHsecret"
  vault_name    = "example-kv"
  key_name      = "vault-unseal"
}

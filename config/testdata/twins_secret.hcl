# env STATE_DIRECTORY=/var/lib/sealkeep
# env VAULT_TOKEN=HUSHa
# env BAO_TOKEN=HUSHb
# env VAULT_SKIP_VERIFY=maybe
seal "transit" {
  address    = "https://vault.example.com"
  key_name   = "k"
  mount_path = "transit"
}

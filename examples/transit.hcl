# A keep that a Vault or OpenBao elsewhere opens. Its token is orphan and periodic, and its policy allows update on
# transit/encrypt/sealkeep and transit/decrypt/sealkeep. The unit has LoadCredential=transit-token:/etc/sealkeep/token.

storage "bbolt" {
  path = "/var/lib/sealkeep/sealkeep.db"
}

listener "tcp" {
  address = "127.0.0.1:8200"
}

seal "transit" {
  address     = "https://vault.example.com:8200"
  token       = credential("transit-token")
  mount_path  = "transit/"
  key_name    = "sealkeep"
  tls_ca_cert = "/etc/sealkeep/tls/vault-ca.pem"
}

log_format = "json"

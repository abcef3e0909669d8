# A keep whose key is a secret in a Vault or OpenBao elsewhere, in a KV version 2 engine:
#
#   vault kv put kv/sealkeep key=$(sealkeep keygen)
#
# The token is orphan and periodic, and its policy allows read on kv/data/sealkeep. The unit has
# LoadCredential=vault-token:/etc/sealkeep/token. In a pod, kube_auth_role = "sealkeep" in place of the token logs in with
# the service account. Unlike with transit the key comes to this machine, for as long as an attempt lasts.

storage "bbolt" {
  path = "/var/lib/sealkeep/sealkeep.db"
}

listener "tcp" {
  address = "127.0.0.1:8200"
}

seal "vaultkv" {
  address     = "https://vault.example.com:8200"
  token       = credential("vault-token")
  key_path    = "kv/data/sealkeep"
  tls_ca_cert = "/etc/sealkeep/tls/vault-ca.pem"
}

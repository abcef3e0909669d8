# env STATE_DIRECTORY=/var/lib/sealkeep
seal "vaultkv" {
  address = "vault.example.com:8200"
  token   = "HUSH"
  key_path = "kv/data/"
  key_name = "k"
  mount_path = "kv"
}
seal "vaultkv" {
  name    = "self"
  address = "http://127.0.0.1:8200"
  token   = "HUSH"
  key_path = "kv/data/../x"
  kube_auth_name = "auth?"
  tls_client_cert = "/c"
}
seal "vault" {
}

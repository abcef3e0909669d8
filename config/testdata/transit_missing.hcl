# env STATE_DIRECTORY=/var/lib/sealkeep
seal "transit" {
  tls_client_cert = "/c.pem"
}
seal "transit" {
  name = "other"
  address = "vault:8200"
  token = ""
}
seal "transit" {
  name            = "third"
  address         = "https://vault:8200"
  token           = "HUSH"
  mount_path      = "transit"
  key_name        = "k"
  tls_client_cert = "/c.pem"
}

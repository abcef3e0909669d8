# env STATE_DIRECTORY=/var/lib/sealkeep
# env VAULT_ADDR=http://localhost:8200
# env VAULT_TOKEN=HUSH
listener "tcp" {
  address     = "[::]:8200"
  tls_disable = 1
}
listener "unix" {
  address = "/run/keep.sock"
}
seal "transit" {
  mount_path = "transit"
  key_name   = "k"
}
seal "transit" {
  name       = "sock"
  address    = "unix:///run/keep.sock"
  mount_path = "transit"
  key_name   = "k"
}
seal "transit" {
  name       = "api"
  address    = "https://KEEP.example.com"
  mount_path = "transit"
  key_name   = "k"
}
seal "transit" {
  name       = "fine"
  address    = "http://127.0.0.1:8201"
  mount_path = "transit"
  key_name   = "k"
}
api_addr = "https://keep.example.com:443"

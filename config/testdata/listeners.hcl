# env STATE_DIRECTORY=/var/lib/sealkeep
listener "tcp" {
  address = "0.0.0.0:8200"
}
listener "tcp" {
  address     = "127.0.0.1:8200"
}
listener "tcp" {
  address       = "192.0.2.1:8201"
  tls_cert_file = "/c.pem"
}
listener "tcp" {
  address      = "192.0.2.1:8202"
  tls_key_file = "/k.pem"
}
listener "tcp" {
  address         = "127.0.0.1"
  tls_min_version = "tls10"
}
listener "tcp" {
  address                            = "{{ GetPrivateIP }}:8203"
  tls_disable                        = "no"
  tls_require_and_verify_client_cert = true
}
listener "tcp" {
  address = "http://127.0.0.1:8200"
}
listener "tcp" {
  address = "127.0.0.1:99999"
}
listener "unix" {
  socket_mode = "rw-rw----"
}
listener "unix" {
  address = "/run/keep.sock"
}
listener "unix" {
  address = "/run/keep.sock"
}
listener "tcp" {
  address = "keep.example.com:8204"
}
seal "awskms" {
  kms_key_id = "alias/x"
}

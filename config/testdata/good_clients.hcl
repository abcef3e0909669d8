# env STATE_DIRECTORY=/var/lib/sealkeep
# Whom listeners believe, and what they warn of: no TLS, keys without effect, everybody a proxy.
listener "tcp" {
  address                            = "10.0.0.5:8200"
  tls_cert_file                      = "/etc/keep/tls.crt"
  tls_key_file                       = "/etc/keep/tls.key"
  tls_client_ca_file                 = "/etc/keep/clients.pem"
  tls_require_and_verify_client_cert = true
}
listener "tcp" {
  address            = "10.0.0.5:8201"
  tls_cert_file      = "/etc/keep/tls.crt"
  tls_key_file       = "/etc/keep/tls.key"
  tls_client_ca_file = "/etc/keep/clients.pem"
}
listener "tcp" {
  address                          = "10.0.0.5:8202"
  tls_disable                      = true
  x_forwarded_for_authorized_addrs = "0.0.0.0/0"
}
listener "tcp" {
  address                            = "127.0.0.1:8203"
  x_forwarded_for_hop_skips          = 1
  x_forwarded_for_reject_not_present = false
}
listener "unix" {
  address                          = "/run/keep.sock"
  x_forwarded_for_authorized_addrs = "127.0.0.1"
}
seal "awskms" {
  kms_key_id = "alias/keep"
}

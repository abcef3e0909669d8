# env STATE_DIRECTORY=/var/lib/sealkeep
# What a listener here would silently not do, and so refuses.
listener "tcp" {
  address                         = "127.0.0.1:8200"
  proxy_protocol_behavior         = "allow_authorized"
  proxy_protocol_authorized_addrs = "10.0.0.1"
}
listener "tcp" {
  address                            = "127.0.0.1:8201"
  tls_cert_file                      = "/etc/vault/tls.crt"
  tls_key_file                       = "/etc/vault/tls.key"
  tls_min_version                    = "tls11"
  tls_client_ca_file                 = "/etc/vault/ca.crt"
  tls_require_and_verify_client_cert = "true"
  tls_disable_client_certs           = "true"
}
listener "tcp" {
  address           = "10.0.0.7:443"
  tls_acme_domains  = ["vault.example.com"]
  tls_acme_email    = "ops@example.com"
  x_forwarded_for_client_cert_header = "Client-Cert"
}
listener "tcp" {
  address          = "127.0.0.1:8203"
  chroot_namespace = "team-a"
  require_request_header = true
}
listener "tcp" {
  address                            = "127.0.0.1:8204"
  tls_require_and_verify_client_cert = true
  x_forwarded_for_authorized_addrs   = ["10.0.0.0/8", "proxy.example.com"]
  x_forwarded_for_hop_skips          = -1
  x_forwarded_for_reject_not_present = "sometimes"
}
listener "tcp" {
  address                          = "127.0.0.1:8205"
  x_forwarded_for_authorized_addrs = "10.0.0.0/8, ::ffff:10.0.0.0/104"
  x_forwarded_for_hop_skips        = 1000
}
listener "tcp" {
  address     = "127.0.0.1:9200"
  tls_disable = true
  telemetry {
    metrics_only                   = true
    unauthenticated_metrics_access = true
    disallow_metrics               = false
  }
}
seal "awskms" {
  kms_key_id = "alias/vault"
}

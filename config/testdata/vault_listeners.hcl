# env STATE_DIRECTORY=/var/lib/sealkeep
# What people write into a listener, as far as a keep can do without.
listener "tcp" {
  address           = "10.0.0.5:8200"
  tls_cert_file     = "/etc/vault/tls.crt"
  tls_key_file      = "/etc/vault/tls.key"
  tls_min_version   = "tls13"
  tls_max_version   = "tls13"
  tls_cipher_suites = "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384"
  tls_prefer_server_cipher_suites = "true"
  tls_disable_client_certs        = true
  x_forwarded_for_authorized_addrs      = "10.0.0.0/8,127.0.0.1/32"
  x_forwarded_for_hop_skips             = "1"
  x_forwarded_for_reject_not_authorized = false
  x_forwarded_for_reject_not_present    = false
  http_read_timeout        = "30s"
  http_read_header_timeout = "10s"
  http_write_timeout       = 0
  http_idle_timeout        = "5m"
  max_request_size         = 33554432
  max_request_duration     = "90s"
  max_request_json_memory  = 1000000
  max_json_depth           = 300
  redact_version           = true
  require_request_header   = false
  disable_unauthed_rekey_endpoints     = true
  disable_replication_status_endpoints = true
  custom_response_headers {
    default = {
      "Strict-Transport-Security" = ["max-age=31536000", "includeSubDomains"]
    }
  }
  profiling {
    unauthenticated_pprof_access = true
  }
  inflight_requests_logging {
    unauthenticated_in_flight_requests_access = true
  }
}
listener "unix" {
  address      = "/run/vault.sock"
  socket_mode  = "0660"
  socket_user  = "vault"
  socket_group = "vault"
  tls_disable  = true
}
seal "awskms" {
  kms_key_id = "alias/vault"
  health_check_interval = "5m"
}

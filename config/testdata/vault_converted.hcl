# The awskms file of before after its storage was changed: nothing else has to go.
ui = "true"
disable_mlock = 1
disable_clustering = "false"
cluster_addr  = "https://keep.example.com:8201"
api_addr      = "https://keep.example.com:8200"
log_level     = "WARNING"
log_format    = "JSON"
pid_file      = "/run/vault/vault.pid"
raw_storage_endpoint = 0
introspection_endpoint = false
default_max_request_duration = "90s"
log_requests_level = "debug"
imprecise_lease_role_tracking = true
service_registration "kubernetes" {
  namespace = "vault"
  pod_name  = "vault-0"
}
user_lockout "all" {
  lockout_threshold = 5
}
storage "bbolt" {
  path = "/var/lib/sealkeep/sealkeep.db"
}
listener "tcp" {
  address       = "[::]:8200"
  cluster_address = "[::]:8201"
  tls_disable   = "0"
  tls_cert_file = "/etc/vault/tls.crt"
  tls_key_file  = "/etc/vault/tls.key"
  tls_require_and_verify_client_cert = "false"
  telemetry {
    unauthenticated_metrics_access = "true"
  }
}
seal "transit" {
  address         = "https://vault.example.com:8200"
  token           = "s.HUSHtoken"
  disable_renewal = "false"
  key_name        = "autounseal"
  mount_path      = "transit/"
  namespace       = ""
  tls_ca_cert     = "/etc/vault/ca.pem"
  tls_skip_verify = 0
}

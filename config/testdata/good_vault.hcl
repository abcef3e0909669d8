# A file as Vault users have it.
ui            = true
disable_mlock = 1
cluster_addr  = "https://10.0.0.1:8201"
cluster_name  = "prod"
max_lease_ttl = "768h"
default_lease_ttl = "768h"
disable_cache = "true"
raw_storage_endpoint = false
api_addr      = "https://keep.example.com:8200"
log_format    = "standard"
telemetry {
  prometheus_retention_time = "30s"
}
service_registration "consul" {
  address = "127.0.0.1:8500"
}
storage "bbolt" {
  path = "/var/lib/sealkeep/sealkeep.db"
  initial_mmap_size = "1073741824"
}
listener "tcp" {
  address         = "0.0.0.0:8200"
  cluster_address = "0.0.0.0:8201"
  tls_disable     = "true"
  tls_cert_file   = "/c.pem"
  telemetry {
    unauthenticated_metrics_access = 1
  }
}
seal "awskms" {
  kms_key_id = "alias/x"
  region     = "eu-central-1"
  health_check_interval = "10m"
  disabled   = "false"
}

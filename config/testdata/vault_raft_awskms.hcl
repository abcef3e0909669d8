# Three nodes on EC2; this is one of them.
cluster_name  = "shop-production"
api_addr      = "https://10.1.2.10:8200"
cluster_addr  = "https://10.1.2.10:8201"
disable_mlock = true
ui            = true
log_level     = "Info"
log_file      = "/var/log/vault/vault.log"
log_rotate_duration  = "24h"
log_rotate_max_files = 7

storage "raft" {
  path                   = "/opt/vault/raft"
  node_id                = "shop-1"
  performance_multiplier = 1
  retry_join {
    leader_api_addr         = "https://10.1.2.11:8200"
    leader_ca_cert_file     = "/etc/vault.d/ca.pem"
    leader_client_cert_file = "/etc/vault.d/node.pem"
    leader_client_key_file  = "/etc/vault.d/node.key"
  }
  retry_join {
    auto_join        = "provider=aws tag_key=vault tag_value=shop"
    auto_join_scheme = "https"
  }
}

listener "tcp" {
  address         = "10.1.2.10:8200"
  cluster_address = "10.1.2.10:8201"
  tls_cert_file   = "/etc/vault.d/node.pem"
  tls_key_file    = "/etc/vault.d/node.key"
  tls_min_version = "tls12"
}
listener "tcp" {
  address     = "127.0.0.1:8200"
  tls_disable = "true"
}

seal "awskms" {
  region     = "eu-west-1"
  kms_key_id = "3f2d9c3e-0000-4000-8000-9c8d7b6a5f41"
}

telemetry {
  prometheus_retention_time = "12h"
  disable_hostname          = true
}

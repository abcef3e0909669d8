# Consul below, Google's KMS for the seal.
storage "consul" {
  address = "127.0.0.1:8500"
  path    = "vault/"
  token   = "HUSHconsul"
}
ha_storage "consul" {
  address = "127.0.0.1:8500"
}
service_registration "consul" {
  address = "127.0.0.1:8500"
}
listener "tcp" {
  address            = "0.0.0.0:8200"
  tls_cert_file      = "/etc/vault/tls/server.pem"
  tls_key_file       = "/etc/vault/tls/server-key.pem"
  tls_client_ca_file = "/etc/vault/tls/ca.pem"
}
seal "gcpckms" {
  credentials = "/etc/vault/gcp.json"
  project     = "example-project"
  region      = "global"
  key_ring    = "vault"
  crypto_key  = "unseal"
}
telemetry {
  statsite_address = "127.0.0.1:8125"
  stackdriver_project_id = "example-project"
}
plugin_directory = "/usr/local/lib/vault/plugins"

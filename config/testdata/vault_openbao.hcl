# OpenBao: it initializes itself, declares its audit devices and its plugins.
storage "postgresql" {
  connection_url = "postgres://openbao:HUSHpassword@db.example.com/openbao"
}
listener "tcp" {
  address       = "127.0.0.1:8200"
  tls_disable   = true
  tls_auto_reload = true
}
seal "static" {
  current_key_id  = "2026-01"
  current_key     = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="
  health_check_enabled = true
  health_check_timeout = "10s"
}
initialize "identity" {
  request "userpass" {
    operation = "update"
    path      = "sys/auth/userpass"
    data = {
      type = "userpass"
    }
  }
}
audit "file" "stdout" {
  options {
    file_path = "stdout"
  }
}
plugin "kms" "awskms" {
  image   = "ghcr.io/example/awskms"
  version = "v1.0.0"
}
plugin_auto_download = true
disable_standby_reads = true
unsafe_allow_api_audit_creation = true

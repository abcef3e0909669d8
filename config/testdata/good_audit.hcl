storage "bbolt" { path = "/x.db" }
seal "awskms" { kms_key_id = "alias/keep" }
audit "file" {
  file_path     = "/var/log/sealkeep/audit.log"
  description   = "on this machine"
  log_raw       = 1
  hmac_accessor = "false"
}
audit "file" "to-stdout" {
  options {
    file_path = "/dev/stdout"
  }
}
audit "journal" {}
audit "socket" "collector" {
  address = "collector.example.com:6514"
  local   = true
}
unsafe_allow_api_audit_creation = true

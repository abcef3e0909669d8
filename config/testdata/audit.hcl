storage "bbolt" { path = "/x.db" }
seal "awskms" { kms_key_id = "alias/keep" }
audit "file" {}
audit "file" "relative" { file_path = "audit.log" }
audit "file" "a" { file_path = "/var/log/audit.log" }
audit "file" "b" { file_path = "/var/log/audit.log" }
audit "file" "a" { file_path = "/var/log/other.log" }
audit "file" "a/below" { file_path = "/var/log/below.log" }
audit "file" "no name" { file_path = "stdout" }
audit "file" "mode" {
  file_path = "/var/log/mode.log"
  mode      = "rw"
  prefix    = "@cee:"
  frmat     = "json"
}
audit "syslog" {}
audit "sockets" {}
audit "socket" "udp" {
  address       = "127.0.0.1:1"
  socket_type   = "udp"
  write_timeout = "soon"
}
audit "journal" { file_path = "/x" }
audit "socket" "options" {
  options { adress = "/x" }
}

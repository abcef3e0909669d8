storage "bbolt" {
  path = "/var/lib/sealkeep/sealkeep.db"
}
listener "unix" {
  address     = "/run/sealkeep/a.sock"
  operator    = true
  socket_mode = "0660"
}
listener "unix" {
  address  = "/run/sealkeep/b.sock"
  operator = "sure"
}
listener "tcp" {
  operator = true
}
seal "static" {
  current_key    = "0123456789abcdef0123456789abcdef"
  current_key_id = "k"
}

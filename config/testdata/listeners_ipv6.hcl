# env STATE_DIRECTORY=/var/lib/sealkeep
listener "tcp" {
  address = "[::]:8200"
}
listener "tcp" {
  address = "::1:8201"
}
listener "tcp" {
  address = "[::1]"
}
listener "tcp" {
  address         = "[::1]:8200"
  tls_min_version = "1.2"
}
listener "tcp" {
  address         = "[2001:db8::1]:8202"
  tls_min_version = "tls11"
}
listener "tcp" {
  address = "127.0.0.1:8200"
}
listener "tcp" {
  address = "[localhost]:8203"
  tls_disable = true
}
seal "transit" {
  address    = "http://[0:0:0:0:0:0:0:1]:8200"
  token      = "HUSH"
  mount_path = "transit"
  key_name   = "k"
}

# env STATE_DIRECTORY=/var/lib/sealkeep
api_adr  = "https://keep:8200"
loglevel = "debug"
listener "tcp" {
  adress       = "127.0.0.1:8200"
  socket_mode  = "0600"
  telemetery {
    unauthenticated_metrics_access = true
  }
}
listner "tcp" {
}
seal "awskms" {
  kms_key = "alias/x"
  kms_key_id = "alias/x"
  acces_key = "HUSH"
  zzzzzzzzzz = 1
  disallow_env_vars = true
  key_not_required = true
}
seal = "awskms"
log_level {
}

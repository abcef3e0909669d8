# env STATE_DIRECTORY=/var/lib/sealkeep
log_level = 1e99999999
pid_file  = "${1e-99999999}"
api_addr  = [1e99999999]
storage "bbolt" {
  path              = { 1e99999999 = 1 }
  initial_mmap_size = 1e2147483640
}
listener "tcp" {
  tls_disable                        = 2 * 3
  tls_require_and_verify_client_cert = 1e99999999
}
seal "awskms" {
  name       = [for a in ["x", "y"] : [for b in ["x", "y"] : a]][0][0]
  priority   = -1e99999999
  kms_key_id = "alias/%{ for a in ["x"] }${a}%{ endfor }"
  role_arn   = ["x"][*]
  region     = upper("${1e99999999}")
}

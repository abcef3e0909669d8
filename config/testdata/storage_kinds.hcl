storage "raft" {
  path    = "/opt/vault/data"
  node_id = "node1"
}
storage "file" {
  path = "/opt/vault/data"
}
backend "consul" {
}

# env STATE_DIRECTORY=/var/lib/sealkeep
seal "gcpckms" {
  project = "x"
}
seal "shamir" {
}
seal "awskmss" {
}
seal "blue" {
}
listener "udp" {
}
